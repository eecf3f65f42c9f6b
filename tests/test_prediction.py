"""Prediction: images of every format, any number of faces, videos, messages."""

from __future__ import annotations

import json
import pickle
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from datamodules.labels import LAPA
from datamodules.landmarks import FOUND, FaceFinder
from datamodules.reading import read_image
from datamodules.transforms import FaceTransform
from deploy.prediction import predict
from deploy.predictor import Predictor, load
from deploy.video import open_clip
from engine.settings import CONF
from engine.stage import Run
from foundation.errors import ConfigError, DataError, RunError
from synthesis.faces import render_random_face


@pytest.fixture
def parser(parser_runs: list[Run]) -> Run:
    return parser_runs[-1]


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """Three synthetic faces of 200 px that dlib finds."""
    finder = FaceFinder(fallbacks=())
    rendered = (render_random_face(np.random.default_rng((5, place)), 200).image for place in range(60))
    return list(islice((image for image in rendered if len(finder(image)) == 1), 3))


def run_predict(*words: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        predict(compose("predict", overrides=["trainer.accelerator=cpu", *words]))


def lines(out: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    return {Path(row["image"]).name: row for row in rows}


def test_images_of_every_format_get_masks_of_their_size(
    segmenter_run: Run, faces: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "masks"
    (folder / "deeper").mkdir(parents=True)
    face = Image.fromarray(faces[0]).crop((0, 0, 200, 160))
    face.save(folder / "plain.jpg")
    face.convert("L").save(folder / "grey.png")
    face.convert("RGBA").save(folder / "deeper" / "clear ä.png")
    face.convert("CMYK").save(folder / "print.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    face.save(folder / "turned.jpg", exif=turned)
    Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) << 8).save(folder / "deep.png")  # 16 bits
    face.save(folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", face.size)])
    (folder / "broken.jpg").write_text("no image")
    run_predict(f"checkpoint={segmenter_run.folder.path}", f"input={folder}", f"out={out}")
    screen = capsys.readouterr().err
    assert "masks of 7 images" in screen
    assert "Not read: Cannot read the image" in screen
    sizes = {}
    for path in sorted((out / "labels").rglob("*.png")):
        mask = np.array(Image.open(path))
        assert set(np.unique(mask)) <= {0, 255}
        sizes[path.relative_to(out / "labels").as_posix()] = mask.shape
    assert sizes == {
        "plain.jpg.png": (160, 200),
        "grey.png.png": (160, 200),
        "deeper/clear ä.png.png": (160, 200),
        "print.jpg.png": (160, 200),
        "deep.png.png": (160, 200),
        "moving.gif.png": (160, 200),
        "turned.jpg.png": (200, 160),
    }
    assert lines(out)["plain.jpg"]["faces"][0]["found"] in (*FOUND, "whole")
    assert len(list((out / "overlays").rglob("*.jpg"))) == 7


def test_every_face_of_a_group_is_parsed_like_a_single_face(parser: Run, faces: list[np.ndarray]) -> None:
    group = np.full((220, 640, 3), 200, np.uint8)
    for place, face in enumerate(faces):
        group[10:210, 10 + 210 * place : 210 + 210 * place] = face
    predictor = load(str(parser.folder.path), faces="box")
    masks = predictor.predict(group)
    assert len(masks.faces) == 3
    columns = sorted(face.box[0] + face.box[2] / 2 for face in masks.faces)
    assert all(abs(middle - (110 + 210 * place)) < 50 for place, middle in enumerate(columns))
    assert masks.labels is LAPA
    apart = np.concatenate([masks.label[:, 210 * place : 210 * place + 210] for place in range(3)], axis=1)
    assert apart.any()
    alone, together = predictor.predict(faces[1]), predictor.predict_many([faces[0], faces[1], group])
    np.testing.assert_array_equal(alone.label, together[1].label)
    np.testing.assert_array_equal(masks.label, together[2].label)
    assert set(alone.faces[0].shares) <= set(LAPA.classes[1:])


def test_a_large_face_is_shrunk_as_in_training(parser: Run, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "face.png")
    transform = FaceTransform(32, None, LAPA, seed=0)
    read = read_image(tmp_path / "face.png", transform.least_source)
    expected, _ = transform(read.pixels, None, 0, 0, read.extent)
    np.testing.assert_array_equal(
        load(str(parser.folder.path), faces="whole", image_size=32)._network_input(image, (0, 0, 300)), expected
    )


def test_the_complete_image_is_used_without_a_detected_face(parser: Run) -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    predictor = load(str(parser.folder.path))
    assert [face.found for face in predictor.predict(image).faces] == ["whole"]
    none = load(str(parser.folder.path), faces="box").predict(image)
    assert not none.faces
    assert not none.label.any()
    whole: Predictor = load(str(parser.folder.path), faces="whole")
    assert whole.squares(image) == [((0, -15, 90), "whole")]
    assert whole.predict(image).label.shape == (60, 90)


def test_a_mask_per_class_and_a_pattern_within_out(parser: Run, faces: list[np.ndarray], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.fromarray(faces[0]).save(tmp_path / "in" / name / "face.png")
    out = tmp_path / "deep" / "out"
    pattern = f"{tmp_path}/in/a/../*/face.png"
    run_predict(f"checkpoint={parser.folder.path}", f'input="{pattern}"', f"out={out}", "parts=true", "overlays=false")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert {"deep/out/labels/a/face.png.png", "deep/out/labels/b/face.png.png"} <= written
    assert all(name.startswith(("in/", "deep/out/labels/", "deep/out/parts/")) for name in written)
    label = np.array(Image.open(out / "labels" / "a" / "face.png.png"))
    parts = {
        path.stem.removeprefix("face.png_"): np.array(Image.open(path)) > 0 for path in (out / "parts" / "a").glob("*")
    }
    assert set(parts) == {LAPA.classes[class_id] for class_id in np.unique(label[label > 0])}
    assert all((parts[name] == (label == LAPA.classes.index(name))).all() for name in parts)
    assert not (out / "overlays").exists()


def test_videos_get_masks_for_each_frame(
    segmenter_run: Run,
    faces: list[np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deploy.video.FRAMES_AT_ONCE", 4)  # fewer than there are frames
    folder, out = tmp_path / "clips", tmp_path / "masks"
    folder.mkdir()
    writer = cv2.VideoWriter(str(folder / "two faces.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (200, 160))
    for place in range(6):
        writer.write(np.ascontiguousarray(faces[place % 2][:160, :, ::-1]))
    writer.release()
    Image.fromarray(faces[0]).save(folder / "still.png")
    (folder / "torn.mp4").write_bytes((folder / "two faces.mp4").read_bytes()[:200])
    trained = f"checkpoint={segmenter_run.folder.path}"
    common = (trained, "faces=whole", "batch_size=3")  # fewer again
    run_predict(*common, f"input={folder}", f"out={out}")
    assert "torn.mp4: it has no frame" in capsys.readouterr().err
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [row.get("frame") for row in rows] == [None, *range(6)]
    for row in rows[1:]:
        assert Image.open(out / row["label"]).size == (200, 160)
    clip = open_clip(out / "overlays" / "two faces.mp4.mp4")
    frames = list(clip.frames)
    assert (len(frames), clip.rate) == (6, 10)
    assert frames[0].shape[1] == 200
    assert frames[0].shape[0] > 160, "the classes are named below"
    masks = load(str(segmenter_run.folder.path), faces="whole")
    first = next(open_clip(folder / "two faces.mp4").frames)
    same = np.asarray(Image.open(out / rows[1]["label"])) == 255 * masks.predict(first).label
    assert same.mean() > 0.999, "a batch adds up in another order"
    shutil.copy(folder / "still.png", tmp_path / "another.png")
    for again in ("still.png", "../another.png"):
        run_predict(*common, f"input={folder / again}", f"out={out}")
    for _ in range(2):
        run_predict(*common, f"input={folder}", f"out={folder / 'masks'}")
    assert len(list((folder / "masks").rglob("still*"))) == 2, "one label map, one overlay, and none of these"
    assert list(lines(out)) == ["two faces.mp4", "still.png", "another.png"], "one after another, none lost or doubled"
    with pytest.raises(RunError, match="torn"):
        run_predict(trained, f"input={folder / 'torn.mp4'}", f"out={out}")
    with pytest.raises(ConfigError, match="no camera"):
        run_predict(trained, "input=93", f"out={out}")


class Harmful:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize(
    "error",
    [
        "no input",
        "empty folder",
        "no face setting",
        "pickle",
        "pretraining",
        "another list",
        "true labels",
        "a file",
        "a file for labels",
        "no GPU",
        "all broken",
    ],
)
def test_mistakes_are_one_message(
    parser_runs: list[Run], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "face.png")
    (tmp_path / "empty").mkdir()
    pretrain, parser = parser_runs
    good = f"checkpoint={parser.folder.path}"
    if error == "no input":
        with pytest.raises(DataError, match="matches no image"):
            run_predict(good, "input=nowhere.png")
    elif error == "empty folder":
        with pytest.raises(DataError, match="matches no image"):
            run_predict(good, "input=empty")
    elif error == "no face setting":
        with pytest.raises(ConfigError, match="faces=some is invalid"):
            run_predict(good, "input=face.png", "faces=some")
    elif error == "pickle":
        (tmp_path / "bad.ckpt").write_bytes(pickle.dumps(Harmful()))
        with pytest.raises((DataError, ConfigError)):
            run_predict("checkpoint=bad.ckpt", "input=face.png")
        assert not (tmp_path / "harmed").exists(), "refused, not executed"
    elif error == "pretraining":
        with pytest.raises(ConfigError, match="which has no parser or segmenter"):
            run_predict(f"checkpoint={pretrain.folder.path}", "input=face.png")
    elif error == "a file":
        with pytest.raises(ConfigError, match=r"out=face\.png/masks cannot be created"):
            run_predict(good, "input=face.png", "out=face.png/masks")
    elif error == "a file for labels":
        (tmp_path / "empty" / "labels").touch()
        with pytest.raises(ConfigError, match=r"out=empty/labels cannot be created"):
            run_predict(good, "input=face.png", "out=empty")
    elif error == "true labels":
        (tmp_path / "empty" / "labels").mkdir()
        (tmp_path / "empty" / "labels" / "face.png").touch()
        with pytest.raises(ConfigError, match=r"labels/ that predict.py did not write"):
            run_predict(good, "input=face.png", "out=empty")
    elif error == "no GPU":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ConfigError, match="this machine has no such device"):
            run_predict(good, "input=face.png", "trainer.accelerator=gpu")
    elif error == "another list":
        (tmp_path / "empty" / "predictions.jsonl").write_text("{}\n")
        with pytest.raises(DataError, match="is not a list of predictions"):
            run_predict(good, "input=face.png", "out=empty")
        assert [path.name for path in (tmp_path / "empty").iterdir()] == ["predictions.jsonl"]
    else:
        (tmp_path / "empty" / "a.jpg").write_text("no")
        with pytest.raises(RunError, match="None of the 1 images"):
            run_predict(good, "input=empty")
