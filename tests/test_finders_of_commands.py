"""The setting finder= of predict.py and prepare.py: crops, reports, masked-face sets that stay apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.finding.libfacedetection import missing
from deploy.predictor import load
from deploy.squares import within
from engine.stage import Run
from foundation.errors import ConfigError
from synthesis.faces import render_random_face
from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
from synthesis.masks.choices import MaskChoices
from tests.conftest import skip
from tests.test_prediction import lines, run_predict


@pytest.fixture(autouse=True)
def library() -> None:
    if lacking := missing():
        skip(f"libfacedetection: {lacking}")


def test_the_part_of_a_square_within_the_image() -> None:
    assert within((10, 20, 30), 100, 200) == (10, 20, 30, 30)
    assert within((-10, -20, 50), 100, 200) == (0, 0, 40, 30)
    assert within((180, 60, 90), 100, 200) == (180, 60, 20, 40)
    assert within((-5, -7, 500), 100, 200) == (0, 0, 200, 100)
    assert within((-50, 300, 20), 100, 200) == (0, 99, 1, 1)


def test_the_network_sees_the_part_of_a_crop_within_the_image(segmenter_run: Run) -> None:
    predictor = load(str(segmenter_run.folder.path), faces="whole")
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    seen = predictor._network_input(image, (-10, -10, 60), "libfacedetection")
    np.testing.assert_array_equal(seen, predictor._transform(image[:50, :50].copy(), None, 0, 0)[0])
    white = predictor._network_input(image, (-10, -10, 60), "detector")
    assert np.abs(white - seen).max() > 1


def test_masks_of_a_crop_lie_on_its_part_of_the_image(segmenter_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load(str(segmenter_run.folder.path), finder="libfacedetection")
    monkeypatch.setattr(predictor, "squares", lambda _: [((-10, 20, 60), "libfacedetection")])
    monkeypatch.setattr(predictor, "module", lambda inputs: inputs[:, :1] * 0 + 1)  # occluded everywhere
    masks = predictor.predict(np.zeros((70, 90, 3), np.uint8))
    expected = np.zeros((70, 90), np.uint8)
    expected[20:70, :50] = 1
    np.testing.assert_array_equal(masks.label, expected)
    assert masks.faces[0].shares == {"occluded": 1.0}
    assert masks.faces[0].box == (-10, 20, 60)


@pytest.mark.slow
def test_every_finder_takes_bad_input(segmenter_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(render_random_face(np.random.default_rng(3), 160).image).save(folder / "face.png")
    Image.fromarray(np.full((40, 40), 128, np.uint8)).save(folder / "grey.png")
    Image.fromarray(np.zeros((1, 300, 3), np.uint8)).save(folder / "line.png")
    Image.fromarray(np.zeros((1, 1, 4), np.uint8)).save(folder / "dot.png")
    (folder / "broken.jpg").write_text("no image")
    for finder in ("auto", "libfacedetection", "dlib", "dlib_cnn"):
        out = tmp_path / finder
        run_predict(
            f"checkpoint={segmenter_run.folder.path}", f"input={folder}", f"out={out}", f"finder={finder}",
            "overlays=false",
        )  # fmt: skip
        screen = " ".join(capsys.readouterr().err.split())
        assert "masks of 4 images" in screen
        assert "no face found in 3 (75 %), the complete image taken for one." in screen
        assert "Not read: Cannot read the image" in screen
        found = {name: row["faces"][0]["found"] for name, row in lines(out).items()}
        own = {"auto": "libfacedetection", "dlib": "detector"}.get(finder, finder)
        assert found == {"face.png": own, "grey.png": "whole", "line.png": "whole", "dot.png": "whole"}
    with pytest.raises(ConfigError, match="finder=yunet needs a model"):
        run_predict(f"checkpoint={segmenter_run.folder.path}", f"input={folder}", f"out={out}", "finder=yunet")


def test_videos_are_searched_for_larger_faces(segmenter_run: Run) -> None:
    predictor = load(str(segmenter_run.folder.path))
    assert predictor.finder.smallest == 24  # type: ignore[union-attr]
    assert predictor.searching(64).finder.smallest == 64  # type: ignore[union-attr]
    assert predictor.finder.smallest == 24  # type: ignore[union-attr]
    by_dlib = load(str(segmenter_run.folder.path), finder="dlib")
    assert by_dlib.searching(64) is by_dlib


@pytest.fixture
def tight(tmp_path: Path) -> Path:
    """Twelve photographs that show little more than a face."""
    source = tmp_path / "source"
    source.mkdir()
    for place in range(12):
        face = render_random_face(np.random.default_rng([6, place]), 200)
        (x, y), (right, low) = face.landmarks_68.min(axis=0).astype(int), face.landmarks_68.max(axis=0).astype(int)
        Image.fromarray(face.image[max(0, y - 6) : low, x:right]).save(source / f"{place:02d}.png")
    return source


@pytest.mark.slow
def test_a_finder_loses_fewer_photographs_and_its_sets_stay_apart(tight: Path, tmp_path: Path) -> None:
    def config(finder: str = "dlib") -> MaskedFacesConfig:
        return MaskedFacesConfig(tight, 10, 0, MaskChoices(), fallbacks=(), finder=finder)

    lost = {}
    for finder in ("dlib", "libfacedetection"):
        write_masked_faces(tmp_path / finder, config(finder), workers=1)
        summary = json.loads((tmp_path / finder / "summary.json").read_text())
        lost[finder] = summary["no_face_rate"]
        assert set(summary["found"]) <= {"detector", "libfacedetection"}
    assert lost["libfacedetection"] < lost["dlib"]
    assert "finder" not in config().parameters(), "as sets that were built before the setting"
    with pytest.raises(Exception, match="finder"):
        write_masked_faces(tmp_path / "dlib", config("libfacedetection"), workers=1)
    with pytest.raises(ConfigError, match="finder=guess is invalid"):
        config("guess")


def test_the_model_of_a_finder_enters_a_set_by_its_content(
    tmp_path: Path, write_model: Callable[[bytes], Path]
) -> None:
    one, other = write_model(b"one"), write_model(b"other")

    def parameters(model: Path) -> dict:
        return MaskedFacesConfig(tmp_path, 10, 0, MaskChoices(), finder="yunet", finder_model=str(model)).parameters()

    assert parameters(one)["finder_model"] != parameters(other)["finder_model"]
    moved = one.rename(tmp_path / "moved.onnx")
    assert parameters(moved)["finder_model"] not in (str(moved), parameters(other)["finder_model"])


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / f"{content.decode()}.onnx"
        path.write_bytes(content)
        return path

    return write
