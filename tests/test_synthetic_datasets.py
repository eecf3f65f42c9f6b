"""Data sets of synthetic faces: in the published layouts to the byte format, atomic and resumable."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foundation.errors import ConfigError, DataError
from synthesis import faces, synthetic_faces
from synthesis.faces import SyntheticFace
from synthesis.layout_writers import LAYOUT_WRITERS
from synthesis.synthetic_faces import write_synthetic_faces


def files(root: Path) -> dict[str, str]:
    """Digest of each file."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def build(out: Path, **changes: object) -> None:
    arguments = {"layout": "lapa", "count": 20, "size": 32, "seed": 1, "workers": 1} | changes
    write_synthetic_faces(out, **arguments)  # type: ignore[arg-type]


@pytest.mark.process
def test_workers_change_no_byte(tmp_path: Path) -> None:
    build(tmp_path / "a", workers=2)
    build(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_the_layout_is_that_of_lapa(tmp_path: Path) -> None:
    build(tmp_path / "a")
    counts = {s: len(list((tmp_path / "a" / s / "labels").iterdir())) for s in ("train", "val", "test")}
    assert counts == {"train": 16, "val": 2, "test": 2}
    for label_path in (tmp_path / "a").glob("*/labels/*"):
        split = label_path.parent.parent
        label, image = Image.open(label_path), Image.open(split / "images" / f"{label_path.stem}.jpg")
        assert (label.mode, image.mode) == ("L", "RGB")
        assert label.size == image.size == (32, 32)
        lines = (split / "landmarks" / f"{label_path.stem}.txt").read_text().splitlines()
        assert lines[0] == "106"
        assert [len(line.split()) for line in lines[1:]] == [2] * 106
        assert len((split / "landmarks_68" / f"{label_path.stem}.txt").read_text().splitlines()) == 69
    parameters = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert parameters == {
        "origin": "drawn",
        "layout": "lapa",
        "count": 20,
        "size": 32,
        "seed": 1,
        "generator_version": synthetic_faces.GENERATOR_VERSION,
    }


@pytest.mark.parametrize(("size", "mask_size"), [(64, 64), (640, 320)])
def test_the_layout_is_that_of_celebamask_hq(tmp_path: Path, size: int, mask_size: int) -> None:
    build(tmp_path / "a", layout="celebamask_hq", count=10, size=size)
    root = tmp_path / "a"
    assert {path.name for path in (root / "CelebA-HQ-img").iterdir()} == {f"{i}.jpg" for i in range(10)}
    for index in range(10):
        assert Image.open(root / "CelebA-HQ-img" / f"{index}.jpg").size == (size, size)
        masks = sorted((root / "CelebAMask-HQ-mask-anno" / "0").glob(f"{index:05d}_*.png"))
        assert {"skin", "nose", "u_lip", "l_lip"} <= {path.stem[6:] for path in masks}
        for path in masks:
            mask = Image.open(path)
            assert (mask.mode, mask.size) == ("RGB", (mask_size, mask_size))
            assert set(np.unique(np.asarray(mask))) == {0, 255}, path.name


def test_mapping_and_partition_of_celebamask_hq_join_to_the_splits(tmp_path: Path) -> None:
    build(tmp_path / "a", layout="celebamask_hq", count=30)
    header, *rows = (tmp_path / "a" / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()
    assert header.split() == ["idx", "orig_idx", "orig_file", "proc_md5", "final_md5"]
    partition = dict(line.split() for line in (tmp_path / "a" / "list_eval_partition.txt").read_text().splitlines())
    joined, orders = [], []
    for row in rows:
        index, original, name, digest, _ = row.split()
        assert name == f"{int(original) + 1:06d}.jpg"
        content = (tmp_path / "a" / "CelebA-HQ-img" / f"{index}.jpg").read_bytes()
        assert digest == hashlib.md5(content, usedforsecurity=False).hexdigest()
        joined.append(partition[name])
        orders.append(int(original))
    assert [partition[name] for name in sorted(partition)] == 24 * ["0"] + 3 * ["1"] + 3 * ["2"]
    assert sorted(joined) == 24 * ["0"] + 3 * ["1"] + 3 * ["2"] != joined  # not in the order of the faces
    assert sorted(orders) == list(range(30)) != orders


def test_the_layout_is_that_of_celeba(tmp_path: Path) -> None:
    build(tmp_path / "a", layout="celeba", count=10, size=96)
    root = tmp_path / "a"
    names = [f"{i:06d}.jpg" for i in range(1, 11)]
    assert sorted(path.name for path in (root / "img_align_celeba").iterdir()) == names
    assert (root / "list_eval_partition.txt").read_text().splitlines() == [
        f"{name} {split}" for name, split in zip(names, "0000000012", strict=True)
    ]
    count, header, *rows = (root / "list_landmarks_align_celeba.txt").read_text().splitlines()
    assert (count, len(header.split())) == ("10", 10)
    for row in rows:
        name, *numbers = row.split()
        left_x, left_y, right_x, right_y, _, nose_y, *mouth = map(int, numbers)
        assert name in names
        assert left_x < right_x
        assert mouth[0] < mouth[2]
        assert max(left_y, right_y) < max(mouth[1], mouth[3])
        assert nose_y < max(mouth[1], mouth[3])
    count, header, *rows = (root / "list_bbox_celeba.txt").read_text().splitlines()
    assert (count, header.split()) == ("10", ["image_id", "x_1", "y_1", "width", "height"])
    for row in rows:
        x, y, width, height = map(int, row.split()[1:])
        assert x >= 0
        assert y >= 0
        assert 20 < width <= 96 - x
        assert 20 < height <= 96 - y


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUT_WRITERS)
def test_an_interrupted_build_resumes_to_the_same_bytes(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "complete", layout=layout)
    rendered: list[int] = []
    limit, true_draw = 7, faces.render_random_face

    def render_until_interrupted(rng: np.random.Generator, size: int) -> SyntheticFace:
        if len(rendered) == limit:
            raise KeyboardInterrupt
        rendered.append(size)
        return true_draw(rng, size)

    monkeypatch.setattr(faces, "render_random_face", render_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "cut", layout=layout)
    assert not (tmp_path / "cut").exists()
    limit = 20
    build(tmp_path / "cut", layout=layout)
    assert len(rendered) == 20  # the first seven were not rendered again
    assert files(tmp_path / "cut") == files(tmp_path / "complete")
    assert not (tmp_path / "cut.partial").exists()


def test_a_partial_build_of_other_parameters_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic_faces.Build, "each", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "a", seed=9)
    stale = tmp_path / "a.partial" / "train" / "labels" / "drawn_000000.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"stale")
    build(tmp_path / "a")
    build(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_existing_data_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "a", count=10)
    before = files(tmp_path / "a")
    capsys.readouterr()
    build(tmp_path / "a", count=10)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(DataError, match=r"size=32.*size=48"):
        build(tmp_path / "a", count=10, size=48)
    assert files(tmp_path / "a") == before
    for name in ("foreign", "foreign.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("keep")
        with pytest.raises(DataError, match=name):
            build(tmp_path / "foreign", count=10)
        assert files(tmp_path / name).keys() == {"mine.txt"}
        assert (tmp_path / name / "mine.txt").read_text() == "keep"
        (tmp_path / name / "mine.txt").unlink()
    build(tmp_path / "foreign", count=10)  # empty folders are in nobody's way


@pytest.mark.process
def test_recognising_a_complete_data_set_imports_no_renderer(tmp_path: Path) -> None:
    build(tmp_path / "a", count=10)
    code = (
        "import sys; from pathlib import Path; from synthesis.synthetic_faces import write_synthetic_faces as w;"
        f"w(Path({str(tmp_path / 'a')!r}), layout='lapa', count=10, size=32, seed=1, workers=1);"
        "assert not {'cv2', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("wrong", [{"count": 9}, {"size": 31}, {"seed": -1}, {"workers": 0}, {"layout": "helen"}])
def test_wrong_arguments_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build(tmp_path / "a", **wrong)
    assert not any(tmp_path.iterdir())
