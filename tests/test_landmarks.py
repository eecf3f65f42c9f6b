"""dlib's detector and landmarks, its fall-backs, and the paper's crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.landmarks import MODEL, FaceFinder, crop_box, from_106, landmark_model, read_landmarks, square
from foundation.errors import BrokenFileError, ConfigError
from synthesis.faces import SyntheticFace, render_random_face


@pytest.fixture(scope="module")
def face() -> SyntheticFace:
    faces = (render_random_face(np.random.default_rng([3, index]), 256) for index in range(20))
    finder = FaceFinder(fallbacks=())
    return next(face for face in faces if finder(face.image))


def test_a_face_and_its_landmarks(face: SyntheticFace) -> None:
    (found,) = FaceFinder()(face.image)
    assert found.found == "detector"
    assert found.landmarks.shape == (68, 2)
    eyes = np.hypot(*(face.landmarks_68[36:42].mean(axis=0) - face.landmarks_68[42:48].mean(axis=0)))
    assert np.hypot(*(found.landmarks - face.landmarks_68).T).mean() < 0.2 * eyes


def test_several_faces_are_sorted_by_size(face: SyntheticFace) -> None:
    small = np.asarray(Image.fromarray(face.image).resize((200, 200)))
    both = np.full((256, 470, 3), 90, np.uint8)
    both[20:220, :200], both[:, 210:466] = small, face.image
    found = FaceFinder()(both)
    assert len(found) == 2
    widths = [np.ptp(one.landmarks[:, 0]) for one in found]
    assert widths[0] > widths[1]


def test_fallbacks_are_tried_in_order(face: SyntheticFace) -> None:
    tiny = np.asarray(Image.fromarray(face.image).resize((80, 80)))
    assert FaceFinder(fallbacks=())(tiny) == []
    assert [one.found for one in FaceFinder(fallbacks=("upsampled",))(tiny)] in (["upsampled"], [])
    (full,) = FaceFinder(fallbacks=("image",))(tiny)
    assert full.found == "image"
    (boxed,) = FaceFinder(fallbacks=("box", "image"))(tiny, box=(10, 20, 70, 75))
    assert boxed.found == "box"
    (without,) = FaceFinder(fallbacks=("box", "image"))(tiny)
    assert without.found == "image"


def test_a_face_that_fills_the_image_is_found_with_padding(face: SyntheticFace) -> None:
    x, y = np.rint(face.landmarks_68.min(axis=0)).astype(int)
    right, low = np.rint(face.landmarks_68.max(axis=0)).astype(int)
    tight = face.image[max(y - 8, 0) : low, x:right]
    assert FaceFinder(fallbacks=())(tight) == []
    (found,) = FaceFinder(fallbacks=("padded",))(tight)
    assert found.found == "padded"
    error = np.hypot(*(found.landmarks + np.array([x, max(y - 8, 0)]) - face.landmarks_68).T).mean()
    assert error < 0.12 * (right - x), "in pixels of the image, not of the padded one"


@pytest.mark.parametrize("shape", [(1, 1), (19, 300), (64, 64)])
def test_no_face(shape: tuple[int, int]) -> None:
    assert FaceFinder()(np.full((*shape, 3), 128, np.uint8)) == []


def test_a_missing_model_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert landmark_model().name == MODEL
    assert landmark_model(landmark_model()) == landmark_model()
    with pytest.raises(ConfigError, match=r"landmark_model=.*none.dat is not a file"):
        landmark_model(tmp_path / "none.dat")
    (tmp_path / "text.dat").write_text("no model")
    with pytest.raises(ConfigError, match="not a landmark model of dlib"):
        FaceFinder(tmp_path / "text.dat")
    with pytest.raises(ConfigError, match="fallbacks: guess does not exist"):
        FaceFinder(fallbacks=("guess",))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install face-recognition-models"):
        landmark_model()


def test_the_crop_is_square_and_white_beyond_the_image(face: SyntheticFace) -> None:
    left, top, side = crop_box(face.landmarks_68 - (60, 0))
    crop = square(face.image, left, top, side)
    assert crop.shape == (side, side, 3)
    assert left < 0
    assert (crop[:, : -left - 1] == 255).all()
    inside = crop[max(-top, 0) :, -left:]
    height, width = min(inside.shape[0], 200), min(inside.shape[1], 100)
    assert np.array_equal(inside[:height, :width], face.image[max(top, 0) :][:height, :width])
    assert (square(face.image, 5000, 5000, 8) == 255).all()
    points = face.landmarks_68 - (60, 0) - (left, top)
    assert points.min() > 0
    assert points.max() < side


def test_lapas_106_landmarks_are_the_68_but_for_where_the_jaw_is_dotted() -> None:
    for index in range(12):
        face = render_random_face(np.random.default_rng([4, index]), 256)
        eyes = np.hypot(*(face.landmarks_68[36:42].mean(axis=0) - face.landmarks_68[42:48].mean(axis=0)))
        away = np.hypot(*(from_106(face.landmarks) - face.landmarks_68).T) / eyes
        assert away[17:].max() < 0.08
        assert away[:17].max() < 0.35
        assert away.mean() < 0.06


def test_landmarks_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "1.txt"
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    file.write_text("68\n" + "\n".join(f"{x} {y}" for x, y in points))
    assert np.array_equal(read_landmarks(file), points)
    face = render_random_face(np.random.default_rng(0), 64)
    file.write_text("106\n" + "\n".join(f"{x} {y}" for x, y in face.landmarks))
    assert np.allclose(read_landmarks(file), from_106(face.landmarks), atol=1e-3)
    for text in ("", "68\n1 2", "two\n1 2", "1\n1 2", "68\n" + "nan nan\n" * 68):
        file.write_text(text)
        with pytest.raises(BrokenFileError, match="does not hold 68 landmarks"):
            read_landmarks(file)


def test_real_faces_are_found(face_data: Path) -> None:
    finder = FaceFinder(fallbacks=())
    files = sorted((face_data / "native" / "CelebA" / "img_align_celeba").iterdir())
    found = [finder(np.asarray(Image.open(file))) for file in files]
    assert sum(map(bool, found)) >= 29, "of 32"
    for faces in found:
        for face in faces[:1]:
            points = face.landmarks
            assert points[36:42, 0].mean() < points[30, 0] < points[42:48, 0].mean()
            assert points[27, 1] < points[30, 1] < points[57, 1] < points[8, 1]
