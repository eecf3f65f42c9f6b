"""The audit of a data set: every planted finding is found and nothing else is accused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.audit.auditing import audit, write_audit
from curation.audit.findings import KINDS
from curation.audit.sides import Sides, landmarks_of, place, sides
from datamodules.labels import CELEBAMASK_HQ, LAPA, LabelSet
from datamodules.layouts import Layout, open_layout
from datamodules.layouts.celebamask_hq import MAPPING, MASKS
from datamodules.reading import read_label
from foundation.errors import ConfigError, DataError
from tests.celebamask_faces import PARTITION, state
from tests.commands import ROOT, within
from tests.damaged_faces import (
    LAPA_DAMAGES,
    Found,
    all_at_once,
    empty_mask,
    empty_masks,
    foreign_files,
    grey_mask,
    half_a_mapping_row,
    image_of_another_ratio,
    mask_of_another_size,
    masks_of_half_size,
    mirror,
    no_image,
    no_lists,
    no_mapping_row,
    no_masks,
    no_partition_row,
    same_pixels_in_another_file,
    truncate_mask,
)


def findings_of(layout: Layout) -> Found:
    """The ids of each kind of finding that there is."""
    tally, _ = audit(layout, "official")
    return {kind: ids for kind in KINDS if (ids := tally.findings.ids(kind))}


@pytest.fixture
def lapa_copy(lapa: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lapa, tmp_path / "LaPa"))


@pytest.fixture
def celebamask_copy(celebamask: Path, tmp_path: Path) -> Path:
    """The first ten faces, each with all of its parts; the lists name all forty."""
    copy = tmp_path / "CelebAMask-HQ"
    part_of(celebamask, copy, range(10), shutil.copy)
    return copy


def part_of(root: Path, out: Path, faces: Iterable[int], put: Callable[[Path, Path], object]) -> None:
    """Put some faces of a folder in the layout of CelebAMask-HQ, and its lists, into a folder of one's own."""
    for folder in ("CelebA-HQ-img", f"{MASKS}/0"):
        (out / folder).mkdir(parents=True)
    files = [root / MAPPING, root / PARTITION]
    for face in faces:
        files += [root / "CelebA-HQ-img" / f"{face}.jpg", *(root / MASKS / "0").glob(f"{face:05d}_*.png")]
    for file in files:
        put(file, out / file.relative_to(root))


def frontal(root: Path) -> tuple[Path, Path]:
    """The image and label map of the face of val whose eyes and brows lie farthest apart."""
    gaps = {}
    for path in sorted((root / "val" / "labels").iterdir()):
        found = sides_of(read_label(path, LAPA), LAPA).gaps
        gaps[path] = min(found.get("eye", 0), found.get("brow", 0))
    label = max(gaps, key=gaps.__getitem__)
    assert gaps[label] > 0.2
    return root / "val" / "images" / f"{label.stem}.jpg", label


def sides_of(label: np.ndarray, labels: LabelSet) -> Sides:
    found = {name: place(label == labels.classes.index(name)) for name in landmarks_of(labels)}
    places = {name: where.centre for name, where in found.items() if where is not None}
    return sides(places, int((label == labels.classes.index("skin")).sum()), labels)


@pytest.mark.slow
def test_synthetic_faces_have_no_findings(lapa: Path, celebamask: Path) -> None:
    assert findings_of(open_layout("lapa", lapa)) == {}
    assert findings_of(open_layout("celebamask_hq", celebamask)) == {}


@pytest.mark.parametrize("damage", LAPA_DAMAGES, ids=lambda damage: damage.__name__)
def test_findings_of_lapa(damage: Callable[[Path, Path], Found], lapa_copy: Path) -> None:
    expected = damage(*frontal(lapa_copy))
    assert findings_of(open_layout("lapa", lapa_copy)) == expected


@pytest.mark.parametrize(
    "damage",
    [
        truncate_mask,
        empty_mask,
        empty_masks,
        no_masks,
        mask_of_another_size,
        masks_of_half_size,
        image_of_another_ratio,
        grey_mask,
        no_image,
        same_pixels_in_another_file,
        foreign_files,
        no_mapping_row,
        half_a_mapping_row,
        no_partition_row,
        no_lists,
        all_at_once,
    ],
    ids=lambda damage: damage.__name__,
)
def test_findings_of_celebamask_hq(damage: Callable[[Path], Found], celebamask_copy: Path) -> None:
    expected = damage(celebamask_copy)
    assert findings_of(open_layout("celebamask_hq", celebamask_copy)) == expected


def test_every_mirrored_face_is_found(celebamask: Path, tmp_path: Path) -> None:
    """All faces mirrored without their labels: those with clear sides are found, none counts as correct."""
    copy = Path(shutil.copytree(celebamask, tmp_path / "CelebAMask-HQ"))
    images = list((copy / "CelebA-HQ-img").iterdir())
    mirror(*images, *(copy / MASKS / "0").iterdir())
    found = findings_of(open_layout("celebamask_hq", copy))
    assert set(found) <= {"mirrored", "unclear"}
    assert len(found["mirrored"]) >= 0.9 * len(images) == 36


# Sides


def places(**centres: tuple[float, float]) -> dict[str, np.ndarray]:
    return {name: np.array(place) for name, place in centres.items()}


FRONT = {"nose": (50, 60), "u_lip": (50, 75), "l_lip": (50, 80)}
EYES, EXCHANGED_EYES = {"r_eye": (30, 40), "l_eye": (70, 40)}, {"l_eye": (30, 40), "r_eye": (70, 40)}
BROWS, EXCHANGED_BROWS = {"r_brow": (30, 30), "l_brow": (70, 30)}, {"l_brow": (30, 30), "r_brow": (70, 30)}


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ({**EYES, **BROWS}, None),
        ({**EXCHANGED_EYES, **EXCHANGED_BROWS}, "mirrored"),
        ({**EXCHANGED_EYES, "l_ear": (5, 50)}, "mirrored"),
        ({**EXCHANGED_EYES}, "unclear"),  # one pair alone
        ({**EXCHANGED_EYES, **BROWS}, "unclear"),
        ({**EYES, **BROWS, "l_ear": (5, 50)}, "unclear"),
        ({"l_eye": (30, 40), "l_brow": (30, 30)}, "unclear"),  # a profile
        ({"l_eye": (30, 40), "l_brow": (30, 30), "l_ear": (5, 50)}, "mirrored"),
        ({"r_eye": (30, 40), "r_brow": (30, 30)}, None),
        ({"l_eye": (48, 40), "r_eye": (52, 40), "l_brow": (49, 30), "r_brow": (51, 30)}, None),  # one behind the other
        ({}, None),
    ],
)
@pytest.mark.parametrize("roll", [0, 75, 180])
def test_sides_need_several_pairs(parts: dict, verdict: str | None, roll: float) -> None:
    turn = np.radians(roll)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = {name: rotation @ place for name, place in places(**FRONT, **parts).items()}
    assert sides(turned, 70 * 70, CELEBAMASK_HQ).verdict == verdict


# What is written


def test_report_and_sheet(lapa_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, label = frontal(lapa_copy)
    mirror(image, label)
    broken = sorted((lapa_copy / "train" / "images").iterdir())[3]
    broken.write_bytes(b"no image")
    before = state(lapa_copy)
    write_audit(open_layout("lapa", lapa_copy), tmp_path / "out", "official")
    assert state(lapa_copy) == before
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert report["mirrored"] == [image.stem]
    assert report["unreadable_image"] == [broken.stem]
    assert all(report[kind] == [] for kind in KINDS if kind not in ("mirrored", "unreadable_image"))
    assert str(broken) in report["details"]["unreadable_image"][broken.stem]
    assert report["splits"] == {"train": 32, "val": 4, "test": 4}
    assert report["sizes"] == {"64x64": 39}
    classes = report["classes"]
    assert sum(entry["share"] for entry in classes.values()) == pytest.approx(1)
    assert classes["skin"]["faces"] == 40
    assert (classes["skin"]["small"], classes["left_eye"]["small"]) == (False, True)
    shown = capsys.readouterr().out
    assert "left and right exchanged" in shown
    assert image.stem in shown
    with Image.open(tmp_path / "out" / "worst.png") as sheet:
        assert sheet.width > 400
    shutil.copytree(lapa_copy, tmp_path / "copy", ignore=shutil.ignore_patterns(f"{broken.stem}.*", f"{image.stem}.*"))
    write_audit(open_layout("lapa", tmp_path / "copy"), tmp_path / "out", "official")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.json"]


def test_shares_are_those_of_the_painting_order(celebamask: Path) -> None:
    first, second = (audit(open_layout("celebamask_hq", celebamask), order)[0].pixels for order in ("official", "farl"))
    assert first.sum() == second.sum()
    assert not np.array_equal(first, second)


def test_a_data_set_is_never_written_into(lapa: Path) -> None:
    with pytest.raises(ConfigError, match="read-only"):
        write_audit(open_layout("lapa", lapa), lapa / "audit", "official")


def test_no_faces_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist(.|\n)*root="):
        audit(open_layout("lapa", tmp_path / "nowhere"), "official")


def test_the_entry_point(lapa: Path, tmp_path: Path) -> None:
    process = within("prepare.py", "task=audit", "dataset=lapa", f"root={lapa}", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "% of pixels" in process.stdout
    assert json.loads((tmp_path / "outputs" / "audit" / "lapa" / "audit.json").read_text())["faces"] == 40


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dataset=lappa"], ["dataset=lappa", "celebamask_hq, folder, image_mask_folder, lapa"]),
        (
            [],
            [
                "dataset=<one of augmented_celeba, celebamask_hq, folder, image_mask_folder, lapa>",
                "layout={_target_: my_package.MyLayout}",
            ],
        ),
        (["layout={_target_:examples.own_dataset.layout.HashedSplits}"], ["root=None", "root=<its folder>"]),
        (["dataset=lapa", "root=a", "layout={_target_:examples.own_dataset.layout.HashedSplits}"], ["without dataset"]),
        (["root=a", "layout={_target_:datamodules.layouts.Nothing}"], ["datamodules.layouts has no Nothing"]),
        (["dataset=lapa", "root=nowhere"], ["nowhere does not exist", "labels/*.png", "root="]),
        (["dataset=lapa"], ["data/LaPa does not exist"]),
        (
            ["dataset=lapa", "bare=0.2"],
            ["bare=0.2 has no effect", "task=masked_faces", "out, dataset, root, layout, merging, mask"],
        ),
        (["dataset=lapa", "root=a", "mask.invert=true"], ["mask.invert=true does not go with lapa"]),
        (["dataset=lapa", "mask=5"], ["There is no setting mask."]),
        (["dataset=image_mask_folder", "mask.occluded=2"], ["mask.occluded=2 is invalid", "null or a list"]),
        (["dataset=celebamask_hq", "merging=mine"], ["merging=mine", "farl, official, zllrunning"]),
    ],
)
def test_the_entry_point_rejects_invalid_settings(words: list[str], expected: list[str], tmp_path: Path) -> None:
    process = within("prepare.py", "task=audit", *words, cwd=tmp_path)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert all(word in process.stderr for word in expected), process.stderr
    assert not list(tmp_path.iterdir())


def test_help_describes_the_audit() -> None:
    process = within("prepare.py", "--help", cwd=ROOT)
    for word in ("task=audit", "audit.json", "worst.png", "exit code is 0"):
        assert word in process.stdout


# Real faces


@pytest.mark.slow
def test_mirrored_real_faces(face_data: Path, tmp_path: Path) -> None:
    """Some of the published faces were mirrored without their labels, 46 of the first 700; each one named here was
    looked at."""
    chosen = [*range(30), 40, 57, 72, 92]
    part_of(face_data / "real" / "CelebAMask-HQ", tmp_path, chosen, lambda file, link: link.symlink_to(file))
    found = findings_of(open_layout("celebamask_hq", tmp_path))
    assert found == {"mirrored": ["0", "16", "21", "28", "40", "57", "92"], "unclear": ["72"]}


def test_native_faces(face_data: Path) -> None:
    native = face_data / "native"
    assert findings_of(open_layout("celebamask_hq", native / "CelebAMask-HQ")) == {"missing_list": [MAPPING, PARTITION]}
    folders = [f"{split}/{kind}" for split in ("val", "test") for kind in ("images", "labels")]
    found = findings_of(open_layout("lapa", native / "LaPa"))
    # Most of this copy's label maps were interpolated: eyes and brows run around the hair. One is as published.
    assert set(found) == {"missing_folder", "strewn"}
    assert found["missing_folder"] == folders
    assert len(found["strewn"]) == 7
    assert "native_378" not in found["strewn"]
