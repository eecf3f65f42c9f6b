"""Faces without pixel ground truth: MAFA, FMLD, folders by class; scores of masks on them; messages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from datamodules.annotated import MARGIN, AnnotatedDataModule
from datamodules.layouts import ANNOTATED, FMLD, MAFA, MASKED, PARSED, FolderPerClass
from datamodules.layouts.sample import KINDS
from datamodules.transforms import Augmentation
from engine.stage import Run
from foundation.errors import DataError
from lightning_modules.annotation_scores import AnnotationScores, mask_boxes
from stages.evaluation import Dataset
from tests.conftest import copied
from tests.test_evaluation import scored

TRAIN_FACE = [40, 30, 50, 60, 10, 15, 35, 15, 5, 30, 40, 25, 2, 3, 1, 1, 4, -1, -1, -1, -1]
"""Box 40 30 50 60, occluder from 45 60 to 85 85, complex, right frontal."""


def image(path: Path, size: tuple[int, int] = (160, 120)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def table(path: Path, key: str, rows: list[tuple]) -> None:
    """A table as MATLAB writes it: a 1 x N array of structures."""
    names = ("orgImgName", "imgName", "label") if key == "label_train" else ("name", "label")
    content = np.zeros((1, len(rows)), [(name, object) for name in names])
    for place, row in enumerate(rows):
        content[0, place] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: content})


@pytest.fixture
def mafa(tmp_path: Path) -> Path:
    root = tmp_path / "MAFA"
    table(
        root / "MAFA-Label-Train" / "LabelTrainAll.mat",
        "label_train",
        [("a.jpg", "train_00000001.jpg", np.array([TRAIN_FACE, TRAIN_FACE], np.int16))],
    )
    bare = [10, 10, 40, 40, 2, -1, -1, -1, -1, -1, -1, 1, 1, 3, -1, -1, -1, -1]
    masked = [20, 20, 60, 60, 1, 10, 30, 40, 25, 1, 2, 1, 1, 3, -1, -1, -1, -1]
    invalid = [0, 0, 9, 9, 3, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1]
    table(
        root / "MAFA-Label-Test" / "LabelTestAll.mat",
        "LabelTest",
        [
            ("test_00000001.jpg", np.array([bare, masked, invalid], np.int16)),
            ("test_00000002.jpg", np.array([masked], np.int16)),
        ],
    )
    for split, numbers in (("train", (1,)), ("test", (1, 2))):
        for number in numbers:
            image(root / f"{split}-images" / "images" / f"{split}_{number:08d}.jpg")
    return root


def test_annotated_data_sets_are_registered() -> None:
    assert {*PARSED, *MASKED, *ANNOTATED} == {*get_args(Dataset)}


def test_mafa_is_read_as_published(mafa: Path) -> None:
    layout = MAFA(mafa)
    first, second = layout.samples("train")
    assert (first.id, second.id) == ("train_00000001_0", "train_00000001_1")
    assert first.groups == ("kind/masked", "occluder/complex", "orientation/right_frontal")
    assert first.annotation is not None
    assert first.annotation.face == (40, 30, 90, 90)
    assert first.annotation.occluder == (45, 60, 85, 85), "counted from the corner of the face"
    bare, masked, other = layout.samples("test")
    assert bare.groups == ("kind/bare", "orientation/frontal")
    assert bare.annotation is not None
    assert bare.annotation.occluder is None
    assert masked.annotation is not None
    assert masked.annotation.occluder == (30, 50, 70, 75)
    assert other.id == "test_00000002_0"
    assert len(layout.samples("all")) == 5, "the invalid face is left out"


@pytest.mark.parametrize("error", ["no table", "no image", "other key", "short", "damaged", "text"])
def test_errors_in_mafa_are_reported(mafa: Path, error: str) -> None:
    labels = mafa / "MAFA-Label-Test" / "LabelTestAll.mat"
    expected = "Expected"
    if error == "no table":
        labels.unlink()
        expected = "MAFA-Label-Test"
    elif error == "no image":
        (mafa / "test-images" / "images" / "test_00000002.jpg").unlink()
        expected = "names test_00000002.jpg"
    elif error == "other key":
        savemat(labels, {"other": np.zeros(3)})
        expected = "not a table of MAFA"
    elif error == "short":
        table(labels, "LabelTest", [("test_00000001.jpg", np.array([[1, 2, 3, 4]], np.int16))])
        expected = "has 4 numbers"
    elif error == "damaged":
        savemat(labels, {"LabelTest": np.arange(5000)}, do_compression=True)
        content = bytearray(labels.read_bytes())
        content[200:260] = bytes(60)
        labels.write_bytes(content)
        expected = "not a table of MAFA"
    else:
        labels.write_text("not a table")
        expected = "not a table of MAFA"
    with pytest.raises(DataError, match=expected):
        MAFA(mafa).samples("test")


def voc(path: Path, filename: str, *faces: tuple[str, str, tuple[int, int, int, int]]) -> None:
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><pose>front</pose><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, difficult, box in faces
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><folder>test</folder><filename>{filename}</filename>{objects}</annotation>")


def test_fmld_is_read_as_published(tmp_path: Path) -> None:
    notes = tmp_path / "FMLD_annotations" / "test"
    box = (10, 20, 50, 70)
    voc(
        notes / "a.xml",
        "a.jpg",
        ("masked_face", "0", box),
        ("invalid_face", "0", (3, 3, 3, 5)),
        ("unmasked_face", "1", box),
    )
    voc(notes / "b.xml", "b.jpg", ("incorrectly_masked_face", "0", box), ("unmasked_face", "0", box))
    image(tmp_path / "MAFA" / "images" / "a.jpg")
    image(tmp_path / "WIDER_val" / "images" / "0--Parade" / "b.jpg")
    faces = FMLD(tmp_path).samples("test")
    assert [face.groups for face in faces] == [
        ("kind/masked", "pose/frontal"),
        ("kind/incorrect", "pose/frontal"),
        ("kind/bare", "pose/frontal"),
    ]
    assert faces[0].annotation is not None
    assert faces[0].annotation.face == box
    with pytest.raises(DataError, match="FMLD_annotations/train"):
        FMLD(tmp_path).samples("train")
    (tmp_path / "MAFA" / "images" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"annotates the image a\.jpg, which is missing below"):
        FMLD(tmp_path).samples("test")
    (notes / "a.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"a.xml is not Pascal"):
        FMLD(tmp_path).samples("all")


def test_folders_give_the_kind(tmp_path: Path) -> None:
    for name in (
        "RMFD/AFDB_masked_face_dataset/someone/1.jpg",
        "RMFD/AFDB_face_dataset/someone/1.jpg",
        "Kaggle/train/With Mask/2.png",
        "Kaggle/valid/mask_weared_incorrect/3.png",
        "Kaggle/elsewhere/4.png",
    ):
        image(tmp_path / name)
    kinds = {face.id: face.groups[0].partition("/")[2] for face in FolderPerClass(tmp_path).samples("all")}
    assert kinds == {
        "Kaggle__train__With Mask__2.png": "masked",
        "Kaggle__valid__mask_weared_incorrect__3.png": "incorrect",
        "RMFD__AFDB_face_dataset__someone__1.jpg": "bare",
        "RMFD__AFDB_masked_face_dataset__someone__1.jpg": "masked",
    }
    assert set(kinds.values()) == set(KINDS)
    assert [face.id[:6] for face in FolderPerClass(tmp_path).samples("val")] == ["Kaggle"]
    assert len(FolderPerClass(tmp_path).samples("test")) == 2, "without a folder for the split they are of the test"
    assert len(FolderPerClass(tmp_path / "Kaggle" / "train" / "With Mask").samples("all")) == 1, (
        "the root may give the kind"
    )
    with pytest.raises(DataError, match="in a folder of masked or of bare faces"):
        FolderPerClass(tmp_path / "Kaggle" / "elsewhere").samples("test")
    with pytest.raises(DataError, match="does not exist"):
        FolderPerClass(tmp_path / "nowhere").samples("test")


def test_face_and_occluder_are_cropped_together(mafa: Path) -> None:
    module = AnnotatedDataModule(MAFA(mafa), 96, 1, 0, Augmentation(0, (1, 1), 0, 0), workers=0, tested="train")
    (batch,) = module.test_dataloader()
    assert batch["image"].shape == (2, 3, 96, 96)
    assert "label" not in batch
    side, left, top = MARGIN * 60, 65 - MARGIN * 30, 60 - MARGIN * 30
    expected = [(45 - left) / side, (60 - top) / side, (85 - left) / side, (85 - top) / side]
    assert batch["occluder"][0].tolist() == pytest.approx(expected, abs=1e-6)


def test_boxes_fit_as_they_should() -> None:
    mask = torch.zeros(3, 10, 20, dtype=torch.bool)
    mask[0, 2:6, 5:15] = True
    mask[1, 0, 0] = mask[1, 9, 19] = True
    assert mask_boxes(mask).tolist() == [[0.25, 0.2, 0.75, 0.6], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_scores_without_pixel_ground_truth() -> None:
    prediction = torch.zeros(4, 10, 10, dtype=torch.bool)
    prediction[0, 5:10] = True  # masked, half of it
    prediction[2, 0, 0] = True  # bare, one pixel
    prediction[3, :5] = True  # bare, half of it
    nobody = [math.nan] * 4
    occluders = torch.tensor([[0.0, 0.5, 1.0, 1.0], [0.0, 0.5, 1.0, 1.0], nobody, nobody])
    kinds = [("kind/masked", "occluder/simple"), ("kind/masked",), ("kind/bare",), ("kind/bare",)]
    scores = AnnotationScores(("occluder/simple",))
    for row in range(4):
        scores.update(prediction[row : row + 1], occluders[row : row + 1], kinds[row : row + 1])
    found = {name: float(value) for name, value in scores.compute().items()}
    assert found["box_iou"] == pytest.approx(0.5), "one fits, one is empty"
    assert found["box_hits"] == pytest.approx(0.5)
    assert found["false_area"] == pytest.approx((0.01 + 0.5) / 2)
    assert found["called/kind/masked"] == pytest.approx(0.5)
    assert found["called/kind/bare"] == pytest.approx(0.5)
    assert found["called/occluder/simple"] == pytest.approx(1)
    assert found["balanced_accuracy"] == pytest.approx(0.5)
    assert "area/kind/incorrect" not in found
    with pytest.warns(UserWarning, match="called before the ``update``"):
        assert AnnotationScores().compute() == {}


def test_a_segmenter_is_scored_on_faces_without_pixel_ground_truth(
    segmenter_run: Run, mafa: Path, tmp_path: Path
) -> None:
    (run,) = copied([segmenter_run], tmp_path)
    words = (f"checkpoint={run.folder.name}", "dataset=mafa", f"root={mafa}", f"output_dir={tmp_path}")
    place = scored(*words)
    written = (place.path / "status.json").stat().st_mtime_ns
    scored(*words)
    assert (place.path / "status.json").stat().st_mtime_ns == written, "done already"
    metrics = place.status["metrics"]
    assert {"test/box_iou", "test/false_area", "test/cleaned/box_iou", "test/called/kind/masked"} <= set(metrics)
    assert "test/miou" not in metrics
    tiles = {path.name.split(".")[1] for path in place.path.glob("panels/test/*.png")}
    assert tiles == {"image", "prediction", "cleaned"}
    groups = place.path / "panels" / "groups"
    assert {path.name for path in groups.iterdir()} == {
        *("kind", "kind.png", "occluder", "occluder.png", "orientation", "orientation.png")
    }
    names = {path.name for path in (groups / "kind").iterdir()}
    assert names == {f"{kind}.{tile}.png" for kind in ("masked_1", "masked_2", "bare_1") for tile in tiles}
