"""Predictions of files of any name: long, not UTF-8, with control characters."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.labels import LabelSet
from deploy.inputs import inputs_of
from deploy.prediction import _label_maps
from deploy.predictor import Masks
from deploy.settings import PredictionSettings
from deploy.video import OverlayWriter, open_clip
from engine.stage import Run
from tests.test_prediction import run_predict
from tests.test_prediction_folders import write_clip

NAMES = ("x" * 251 + ".png", "Ren\udce9.png", "a\nb.png", "\x1b[31mred.png", "a/" + "y" * 251 + ".jpg", "plain.png")


def test_images_of_any_name_are_predicted(segmenter_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, out = tmp_path / "photos", tmp_path / "masks"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / name)
    (folder / "torn\x1b[2J\udce9.png").touch()
    for _ in range(2):
        run_predict(f"checkpoint={segmenter_run.folder.path}", f"input={folder}", f"out={out}", "faces=whole")
        lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
        assert {line["image"] for line in lines} == {str(folder / name) for name in NAMES}
        assert len({line["label"] for line in lines}) == len(lines) == len(NAMES)
        for line in lines:
            assert (out / line["label"]).is_file()
        assert "labels/plain.png.png" in {line["label"] for line in lines}
    assert "torn\\x1b[2J\\xe9.png" in capsys.readouterr().err


def test_names_of_outputs_are_those_of_the_inputs_unless_too_long(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = inputs_of(str(tmp_path), tmp_path / "out").images
    assert len(found) == len(NAMES)
    changed = {file.relative_to(tmp_path).as_posix() for name, file in found.items() if tmp_path / name != file}
    assert changed == {NAMES[0], NAMES[4]}
    assert all(len(os.fsencode(part)) <= 175 for name in found for part in name.split("/"))


@pytest.mark.process
def test_videos_of_any_name_are_read_and_written(tmp_path: Path) -> None:
    """OpenCV crashes on names that are not UTF-8."""
    write_clip(tmp_path / "clip.mp4", "mp4v", 3)
    path = (tmp_path / "clip.mp4").rename(tmp_path / "Ren\udce9.mp4")
    frames = list(open_clip(path).frames)
    assert len(frames) == 3
    with OverlayWriter.open(tmp_path / "Ren\udce9" / "out.mp4", 10) as writer:
        for frame in frames:
            writer.write(frame)
    assert len(list(open_clip(tmp_path / "Ren\udce9" / "out.mp4").frames)) == 3


def test_class_names_of_a_checkpoint_stay_in_the_folder() -> None:
    labels = LabelSet("own", ("background", "../../../escaped"), ((0, 0, 0), (9, 9, 9)), ())
    settings = PredictionSettings(checkpoint="x", input="x", parts=True)
    masks = Masks(np.ones((4, 4), np.uint8), (), labels)
    for place, _ in _label_maps("photo", masks, settings):
        assert ".." not in place.split("/")
        assert place.count("/") == 1


def test_a_folder_named_as_the_output_of_an_image_is_another_place(segmenter_run: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "masks"
    names = ("a.jpg", "a.jpg.png/b.jpg", "c", "c.jpg/d.jpg", "c.jpg/d.jpg.png/e.png", "free.png/f.png")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / name, "PNG")
    run_predict(f"checkpoint={segmenter_run.folder.path}", f"input={folder}", f"out={out}", "faces=whole")
    found = {line["image"]: line["label"] for line in map(json.loads, (out / "predictions.jsonl").open())}
    assert set(found) == {str(folder / name) for name in names}
    assert all((out / label).is_file() for label in found.values())
    assert len(list(out.glob("overlays/**/*.jpg"))) - len(list(out.glob("overlays/**/*.jpg/"))) == len(names)
    same = {name for name in names if found[str(folder / name)] == f"labels/{name}.png"}
    assert same == {"a.jpg", "c", "free.png/f.png"}
