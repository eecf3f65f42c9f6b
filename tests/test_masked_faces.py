"""The augmented set: what is built, the same however it is built, and mistakes in its settings."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from curation.preparation import prepare
from datamodules.layouts import AugmentedCelebA
from datamodules.layouts.photographs import photographs
from engine.settings import CONF
from foundation.errors import DataError, UserError
from synthesis.dataset_build import Build
from synthesis.masked_faces import MaskedFacesConfig, dataset, face_search
from synthesis.masked_faces.samples import MaskedFaceSample
from synthesis.masks.choices import MaskChoices
from tests.commands import Forked, within
from tests.masked_sets import build, lines, summary


@pytest.fixture(scope="module")
def built(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set that :func:`build` builds by itself. Read only."""
    return build(tmp_path_factory.mktemp("built") / "set", celeba)


def interrupted(out: Path, source: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A build that ends after nine masks."""
    rendered: list[int] = []

    def breaks(root: Path, sample: MaskedFaceSample) -> None:
        if len(rendered) == 9:
            raise KeyboardInterrupt
        rendered.append(sample.index)
        original(root, sample)

    original = dataset.render_sample
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "render_sample", breaks)
        with pytest.raises(KeyboardInterrupt):
            build(out, source, **changes)


def files(folder: Path) -> dict[str, str]:
    """Digest of each file."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_built_set(celeba: Path, built: Path) -> None:
    rows = lines(built)
    assert [row["id"] for row in rows] == [f"{index:06d}" for index in range(24)]
    assert [row["split"] for row in rows] == ["train"] * 17 + ["val"] * 2 + ["test"] * 5
    assert {path.stem for path in (built / "images").iterdir()} == {row["id"] for row in rows}
    for row in rows:
        image, mask = (np.asarray(Image.open(built / row[name])) for name in ("image", "mask"))
        assert (image.shape, mask.shape) == ((128, 128, 3), (128, 128))
        assert set(np.unique(mask)) <= {0, 255}
        (face,) = row["faces"]
        assert face["found"] == "layout"
        assert np.array(face["landmarks"]).shape == (68, 2)
        assert bool(mask.any()) == (face["type"] is not None)
        assert row["size"] == [128, 128]
        assert (celeba / row["source"]).is_file()
    assert not (built / "found").exists()
    assert not built.with_name("set.partial").exists()
    counts = summary(built)
    assert counts["samples"] == sum(counts["split"].values()) == sum(counts["type"].values()) == 24
    assert json.loads((built / "dataset.json").read_text())["origin"] == "augmented"


def test_interruptions_change_no_byte(
    celeba: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "b", celeba, monkeypatch)
    assert not (tmp_path / "b").exists()
    assert len(list((tmp_path / "b.partial" / "masks").iterdir())) == 9
    assert files(build(tmp_path / "b", celeba)) == files(built)


@pytest.mark.process
def test_a_killed_build_resumes_to_the_same_bytes_with_any_number_of_workers(
    celeba: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "b", celeba, monkeypatch)
    partial = tmp_path / "b.partial"
    unfinished = partial / "images" / ".000012.jpg.tmp"
    os.mkfifo(unfinished)  # a build that comes to write this file waits, and is killed there
    words = ("task=masked_faces", f"source={celeba}", f"out={tmp_path / 'b'}", "count=24", "bare=0.1", "workers=1")
    running = Forked("prepare.py", *words, "distractors=0.2", cwd=tmp_path)
    end = time.monotonic() + 60
    while len(list((partial / "masks").iterdir())) < 12 and running.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    unfinished.unlink()
    unfinished.write_bytes(b"half")
    (partial / "masks" / "000003.png").unlink()  # as where several workers drew
    shutil.rmtree(partial / "found")  # to be found again
    assert not (tmp_path / "b").exists()
    assert files(build(tmp_path / "b", celeba, workers=2)) == files(built)


@pytest.mark.process
def test_several_processes_find_the_same_faces(celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_search, "CHUNK", 8)
    config = MaskedFacesConfig(celeba, count=24, seed=0, choices=MaskChoices())
    found = []
    for workers in (1, 2):
        partial = Build(tmp_path / f"{workers}", config.parameters(), what="masked faces")
        partial.open()
        found.append(face_search.find_faces(partial, config, "train", photographs(celeba), 16, workers))
    assert found[0] == found[1]


def test_a_single_job_runs_in_the_calling_process(tmp_path: Path) -> None:
    jobs = Build(tmp_path / "a", {"origin": "augmented"}, what="masked faces")
    assert list(jobs.each(_process_id, ["job"], 4, "working")) == [os.getpid()]


def _process_id(_: str) -> int:
    return os.getpid()


def test_a_build_with_changed_photographs_starts_again(
    celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(celeba, tmp_path / "source"))
    removed = photographs(source)[0].image
    removed.rename(tmp_path / removed.name)
    interrupted(tmp_path / "a", source, monkeypatch)
    (tmp_path / removed.name).rename(removed)
    parameters = {"dataset.json", "sources.sha256"}
    assert parameters < {path.name for path in (tmp_path / "a.partial").iterdir()}
    complete = files(build(tmp_path / "b", source))
    assert files(build(tmp_path / "a", source)) == complete
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "source"], "no lock, no part stays"


def test_built_sets_are_not_used_as_photographs(celeba: Path, built: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for image in photographs(celeba):
        shutil.copy(image.image, source)
    before = photographs(source)
    shutil.copytree(built, source / "set")
    assert photographs(source) == before
    assert len(photographs(source / "set")) == 24, "asked for itself, it is one"


def test_an_existing_set_is_found_and_not_mixed_with_another(celeba: Path, built: Path, capsys: Any) -> None:
    before = files(built)
    build(built, celeba)
    assert "24 masked faces exist already" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"another data set \(seed=0\); requested: seed=1"):
        build(built, celeba, seed=1)
    assert files(built) == before


def test_reused_photographs_get_other_masks(celeba: Path, tmp_path: Path) -> None:
    rows = lines(build(tmp_path / "set", celeba, count=120))
    again = [row for row in rows if row["source"] == rows[0]["source"]]
    assert len(again) > 1
    assert len({json.dumps([row["faces"][0][name] for name in ("type", "texture", "seed")]) for row in again}) > 1
    assert len({row["split"] for row in again}) == 1


def test_no_photograph_and_no_person_is_in_two_splits(celeba: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(celeba, tmp_path / "CelebA"))
    names = [photo.image.name for photo in photographs(source)]
    people = {name: str(index // 4) for index, name in enumerate(names)}
    (source / "identity_CelebA.txt").write_text("".join(f"{name} {person}\n" for name, person in people.items()))
    rows = lines(build(tmp_path / "set", source, count=40))
    split_of: dict[str, set[str]] = {}
    for row in rows:
        split_of.setdefault(people[Path(row["source"]).name], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in split_of.values())
    assert {row["split"] for row in rows} == {"train", "val", "test"}


def test_landmarks_follow_crop_and_scale(celeba: Path, tmp_path: Path) -> None:
    rows = lines(build(tmp_path / "set", celeba, crop="paper", size=96, form="png"))
    for row in rows:
        assert row["size"] == [96, 96]
        left, top, side = row["crop"]
        complete = next(path for path in (celeba / "landmarks_68").iterdir() if path.stem == Path(row["source"]).stem)
        points = np.loadtxt(complete, skiprows=1)
        there = np.array(row["faces"][0]["landmarks"])
        assert np.abs((points - (left, top) + 0.5) * 96 / side - 0.5 - there).max() < 0.02
        assert np.asarray(Image.open(tmp_path / "set" / row["image"])).shape == (96, 96, 3)
        assert 0 <= there.min() <= there.max() < 96
    for sample, row in zip(AugmentedCelebA(tmp_path / "set").samples("all"), rows, strict=True):
        edges = np.array(row["faces"][0]["landmarks"]) + 0.5
        assert np.allclose(96 * np.array(sample.face), (*edges.min(axis=0), *edges.max(axis=0)))


def configured(*words: str) -> DictConfig:
    """The settings of prepare.py for masked faces, with overrides as they are written there."""
    config = OmegaConf.load(CONF / "prepare.yaml")
    assert isinstance(config, DictConfig)
    for override in OverridesParser.create().parse_overrides(["task=masked_faces", "workers=1", *words]):
        config[override.key_or_group] = override.value()
    return config


def test_styles_are_shares_or_names(celeba: Path, tmp_path: Path) -> None:
    for place, (words, expected) in enumerate(
        {
            "styles=[chin,proper] types=[n95]": {"chin", "proper"},
            "styles={below_nose:1,chin:0}": {"below_nose"},
        }.items()
    ):
        out = tmp_path / str(place)
        prepare(configured(f"source={celeba}", f"out={out}", "count=20", *words.split()))
        assert {row["faces"][0]["style"] for row in lines(out)} == expected


@pytest.fixture
def places(celeba: Path, tmp_path: Path) -> dict[str, Path]:
    """Folders by name: of photographs, of none, of one photograph and of twelve without a face."""
    found = {"celeba": celeba, **{name: tmp_path / name for name in ("empty", "photos", "blank")}}
    for name in ("empty", "photos", "blank"):
        found[name].mkdir()
    shutil.copy(photographs(celeba)[0].image, found["photos"] / "1.jpg")
    for number in range(12):
        Image.new("RGB", (90, 90)).save(found["blank"] / f"{number}.png")
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("source=nowhere",), "source=nowhere is not a folder"),
        (("source={empty}",), "holds no images"),
        (("source={celeba}", "count=0"), "count=0 is invalid"),
        (("source={celeba}", "types=[fur]"), "types: fur does not exist"),
        (("source={celeba}", "textures=plaid"), "textures: plaid does not exist"),
        (("source={celeba}", "bare=1.2"), "bare=1.2 is invalid"),
        (("source={celeba}", "styles={{proper:-1}}"), "at least 0"),
        (("source={celeba}", "split=thirds"), "split=thirds is invalid"),
        (("source={celeba}", "size=8"), "size=8 is invalid"),
        (("source={celeba}", "workers=0"), "workers=0 is invalid"),
        (("source={celeba}", "landmark_model=none.dat"), "landmark_model=none.dat is not a file"),
        (("source={celeba}", "templates=none"), "masks.cfg does not exist"),
        (("source={photos}", "split=partition"), "split=partition, but no list_eval_partition"),
        (("source={photos}",), "holds 1 photographs, too few for random splits"),
        (("source={celeba}", "occluders=no"), "occluders=no is invalid"),
        (("source={celeba}", "photographs=off"), "photographs=off is invalid"),
        (("source={celeba}", "types=5"), "types=5 is invalid"),
        (("source={celeba}", "types=[]"), "types is empty"),
        (("source={celeba}", "format=gif"), "format=gif is invalid"),
        (("source={celeba}", "size=1000000"), "at most 8192"),
        (("source={celeba}", "out={photos}/1.jpg/x"), "cannot be created"),
        (("source={celeba}", "out={celeba}/out"), "which is read-only"),
        (("source={celeba}", "distractors=many"), "distractors=many is invalid"),
    ],
)
def test_mistakes_are_explained(places: dict[str, Path], tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)) as raised:
        prepare(configured(f"out={tmp_path / 'out'}", *(word.format(**places) for word in words)))
    assert raised.value.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "source is missing"),
        (("source={blank}", "workers=1"), "No face was found in the 8 photographs"),
        (("sorce=x",), "Did you mean source"),
        (("source={celeba}", "styles={{propper:1}}"), "styles: propper does not exist"),
    ],
)
def test_mistakes_are_one_message(
    places: dict[str, Path], tmp_path: Path, words: tuple[str, ...], expected: str
) -> None:
    command = ["task=masked_faces", f"out={tmp_path / 'out'}", *(word.format(**places) for word in words)]
    process = within("prepare.py", *command, cwd=tmp_path)
    assert expected in process.stderr
    assert "Traceback" not in process.stderr
    assert process.returncode == 2
    assert not (tmp_path / "out").exists()
