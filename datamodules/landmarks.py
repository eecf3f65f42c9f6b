"""Faces and their 68 landmarks: dlib's HOG + linear SVM detector and shape predictor (section 4.3.1)."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engine.errors import ConfigError

MODEL = "shape_predictor_68_face_landmarks.dat"
FOUND = ("detector", "upsampled", "box", "image", "layout")
"""Where a face's landmarks came from: the detector, the detector on the picture at twice its size, a given box, the
whole picture taken for a face, or the data set's own file."""

FALLBACKS = ("upsampled", "box", "image")
LEAST = 20
"""Smallest side of a picture that is searched, in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


@dataclass(frozen=True)
class FoundFace:
    """One face of a picture.

    Args:
        landmarks: float32 (68, 2), in pixels of the picture: x, y of the centre of a point's pixel.
        found: how, of :data:`FOUND`.
    """

    landmarks: np.ndarray
    found: str


def landmark_model(path: str | Path | None = None) -> Path:
    """The file of dlib's 68-point predictor.

    Args:
        path: a file of the user's own; None takes that of the package face_recognition_models, which is not imported,
            since it wants pkg_resources.

    Raises:
        ConfigError: if there is none.
    """
    if path is not None:
        if Path(path).is_file():
            return Path(path)
        raise ConfigError(f"landmark_model={path} is no file.\nExpected: dlib's {MODEL}, or null.")
    spec = importlib.util.find_spec("face_recognition_models")
    file = Path(spec.origin).parent / "models" / MODEL if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        raise ConfigError(
            f"dlib's landmark model {MODEL} is not there.\nDo one of:\n"
            f"  - pip install face-recognition-models==0.3.0, which brings it (make setup does)\n"
            f"  - say where it lies: landmark_model=/path/to/{MODEL}"
        )
    return file


class FaceFinder:
    """Finds faces, and says how each was found.

    HOG finds 94-99 % of bare faces and 4-33 % of masked ones; what is left is tried in ``fallbacks``, in their order:

    - ``upsampled``: the detector on the picture at twice its size, for faces below 80 px; four times as slow;
    - ``box``: a face box that the data set gives (CelebA's list);
    - ``image``: the whole picture is a face, as in aligned or cropped ones.

    Args:
        model: see :func:`landmark_model`.
        fallbacks: some of :data:`FALLBACKS`.
    """

    def __init__(self, model: str | Path | None = None, fallbacks: Sequence[str] = FALLBACKS) -> None:
        for name in fallbacks:
            if name not in FALLBACKS:
                raise ConfigError(f"fallbacks: {name} does not exist.\nExpected: some of {', '.join(FALLBACKS)}.")
        self.detect, self.predict = _dlib(landmark_model(model))
        self.fallbacks = tuple(fallbacks)

    def __call__(self, image: np.ndarray, box: Box | None = None) -> list[FoundFace]:
        """All faces of a picture, the largest first; none if there is none, or the picture is too small to tell.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: where the data set says that a face is.
        """
        if min(image.shape[:2]) < LEAST:
            return []
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes, how = [_corners(found) for found in self.detect(grey, 0)], "detector"
        for how_next in self.fallbacks:
            if boxes:
                break
            how = how_next
            if how == "upsampled":
                boxes = [_corners(found) for found in self.detect(grey, 1)]
            elif how == "box" and box is not None:
                boxes = [box]
            elif how == "image":
                boxes = [_face_of_a_crop(image.shape[1], image.shape[0])]
        boxes.sort(key=lambda corners: (corners[0] - corners[2]) * (corners[3] - corners[1]))
        return [FoundFace(self.landmarks(image, corners), how) for corners in boxes]

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray:
        """The predictor's landmarks of the face in a box, float32 (68, 2)."""
        import dlib

        shape = self.predict(image, dlib.rectangle(*(round(edge) for edge in box)))
        return np.array([(point.x, point.y) for point in shape.parts()], np.float32)


@functools.cache
def _dlib(model: Path) -> tuple:
    """Detector and predictor, once a process: 100 MB."""
    import dlib

    try:
        return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(model))
    except RuntimeError as fault:
        raise ConfigError(f"{model} is no landmark model of dlib: {fault}.\nExpected: {MODEL}.") from fault


def _corners(found) -> Box:
    return float(found.left()), float(found.top()), float(found.right()), float(found.bottom())


def _face_of_a_crop(width: int, height: int) -> Box:
    """Where the detector would see the face of an aligned crop: measured on CelebA's, 178x218."""
    side = 0.62 * width
    left, top = (width - side) / 2, 0.4 * height
    return left, top, left + side, min(top + side, height - 1.0)


def crop_square(image: np.ndarray, landmarks: np.ndarray, margin: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """The paper's crop: the box of the 68 landmarks with a margin, squared on white.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (68, 2), in pixels.
        margin: around the box on every side, in shares of its longer side; on top twice, for the forehead.

    Returns:
        The crop (S, S, 3) uint8, white where it reaches beyond the picture, and its left and top edge in the picture.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    reach = margin * float((high - low).max())
    left, top = low - (reach, 2 * reach)
    right, bottom = high + reach
    side = max(1, round(float(max(right - left, bottom - top))))
    x = round(float((left + right - side) / 2))
    y = round(float((top + bottom - side) / 2))
    square = np.full((side, side, 3), 255, np.uint8)
    height, width = image.shape[:2]
    seen = np.s_[max(y, 0) : min(y + side, height), max(x, 0) : min(x + side, width)]
    part = image[seen]
    square[seen[0].start - y : seen[0].start - y + part.shape[0], seen[1].start - x :][:, : part.shape[1]] = part
    return square, np.array([x, y])
