"""Faces and their 68 landmarks: dlib's HOG + linear SVM detector and shape predictor (section 4.3.1)."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datamodules.layouts.sample import Box
from foundation.errors import BrokenFileError, ConfigError
from foundation.paths import ordinary

MODEL = "shape_predictor_68_face_landmarks.dat"
NETWORKS = ("libfacedetection", "yunet", "dlib_cnn")
"""Detectors other than dlib's HOG, see :mod:`datamodules.finding`."""
FOUND = ("detector", *NETWORKS, "padded", "upsampled", "box", "image", "layout")
"""Source of a face: dlib's HOG detector, another one, one of :data:`FALLBACKS`, or the data set's own file."""

FALLBACKS = ("padded", "upsampled", "box", "image")
PADDING = 0.25
"""Border on every side, as a fraction of the image's longer side."""

SHRUNK = 0.56
"""Scale at which aligned images, whose faces are 110 px wide, are searched. Of 700 photographs the detector finds 682
faces in the scaled centre, in a tenth of the time, and 685 in the full images at their own size."""

LEAST = 20
"""Smallest side of an image that is searched, in pixels."""


@dataclass(frozen=True)
class FoundFace:
    """One face of an image.

    Args:
        landmarks: float32 (68, 2), in pixels of the image: x, y of the centre of a point's pixel.
        found: source of the landmarks, of :data:`FOUND`.
    """

    landmarks: np.ndarray
    found: str

    @property
    def corners(self) -> Box:
        """Left, top, right and bottom of the landmarks."""
        return (*self.landmarks.min(axis=0), *self.landmarks.max(axis=0))


def landmark_model(path: str | Path | None = None) -> Path:
    """The file of dlib's 68-point predictor, see :func:`packaged_model`."""
    return packaged_model(MODEL, path, "landmark_model")


def packaged_model(name: str, path: str | Path | None, setting: str) -> Path:
    """A file of dlib's models.

    Args:
        name: the name of the file in the package face_recognition_models.
        path: a user's file; None takes that of the package, without importing it, since it needs pkg_resources.
        setting: the setting that gives the path.

    Raises:
        ConfigError: if there is no such file.
    """
    if path is not None:
        if Path(path).is_file():
            return Path(path)
        raise ConfigError(f"{setting}={path} is not a file.\nExpected: dlib's {name}, or null.")
    spec = importlib.util.find_spec("face_recognition_models")
    file = Path(spec.origin).parent / "models" / name if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        raise ConfigError(
            f"dlib's model {name} is missing.\nDo one of:\n"
            f"  - pip install face-recognition-models==0.3.0, which contains it (make setup does)\n"
            f"  - give its path: {setting}=/path/to/{name}"
        )
    return file


class FaceFinder:
    """Detects faces and their landmarks, and records how each was found.

    HOG finds 94-99 % of bare faces and 4-33 % of masked ones; where it finds none, ``network``, if there is one, is
    tried, then ``fallbacks`` in their order:

    - ``padded``: the detector on the image with replicated borders, for faces that fill it: of 60 tight crops of bare
      faces it finds 28, without padding 16;
    - ``upsampled``: the detector on the image at twice its size, for faces below 80 px; four times as slow;
    - ``box``: the data set's own face box (CelebA's list);
    - ``image``: the image is one face, aligned or cropped.

    Args:
        model: see :func:`landmark_model`.
        fallbacks: some of :data:`FALLBACKS`.
        aligned: images are aligned as CelebA's are, with one face in the centre of each: the detector searches the
            centre first, which is three times as fast, then the full image.
        network: another detector: its name, and image (H, W, 3) uint8 RGB -> boxes like those of HOG.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        fallbacks: Sequence[str] = FALLBACKS[:2],
        aligned: bool = False,
        network: tuple[str, Callable[[np.ndarray], list[Box]]] | None = None,
    ) -> None:
        for name in fallbacks:
            if name not in FALLBACKS:
                raise ConfigError(f"fallbacks: {name} does not exist.\nExpected: some of {', '.join(FALLBACKS)}.")
        self.detect, self.predict = _dlib(landmark_model(model))
        self.fallbacks = tuple(fallbacks)
        self.aligned = aligned
        self.network = network

    def __call__(self, image: np.ndarray, box: Box | None = None) -> list[FoundFace]:
        """All faces of an image, the largest first; [] without a face, or for an image below :data:`LEAST`.

        Args:
            image: (H, W, 3) uint8 RGB, or (H, W) grey.
            box: the data set's face box, for the fallback ``box``.
        """
        return self.of_all([image], [box])[0]

    def of_all(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None]) -> list[list[FoundFace]]:
        """The faces of several images, see :meth:`__call__`; the same result, faster for aligned images.

        The predictor reads a few of its 60 MB for each face and evicts the detector from the processor's caches, so
        detection runs for all images before prediction.
        """
        greys = [image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
        detected = [self._detected(*one) for one in zip(greys, boxes, images, strict=True)]
        return [
            [FoundFace(self.landmarks(seen, corners) - margin, how) for corners in found]
            for found, how, seen, margin in detected
        ]

    def _detected(self, grey: np.ndarray, box: Box | None, image: np.ndarray) -> tuple[list[Box], str, np.ndarray, int]:
        """Boxes of faces, how they were found, the searched image, and the width of its border."""
        if min(grey.shape) < LEAST:
            return [], "detector", grey, 0
        if self.aligned and (middle := self.boxes_in_the_middle(grey)):
            return middle[:1], "detector", grey, 0
        network = () if self.network is None else (self.network[0],)
        for how in ("detector", *network, *self.fallbacks):
            margin = round(PADDING * max(grey.shape)) if how == "padded" else 0
            seen = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_REPLICATE) if margin else grey
            if found := self.network[1](image) if self.network and how in network else self._boxes(seen, how, box):
                found.sort(key=lambda corners: (corners[0] - corners[2]) * (corners[3] - corners[1]))
                return found, how, seen, margin
        return [], "detector", grey, 0

    def boxes_in_the_middle(self, grey: np.ndarray) -> list[Box]:
        """Faces in the centre of an aligned image (H, W) uint8."""
        height, width = grey.shape
        left, top = round(0.1 * width), round(0.25 * height)
        middle = grey[top : round(0.97 * height), left : width - left]
        small = cv2.resize(middle, None, fx=SHRUNK, fy=SHRUNK, interpolation=cv2.INTER_AREA)
        corner = np.array([left, top] * 2)
        return [tuple(corner + np.array(box) / SHRUNK) for box in self._boxes(small, "detector", None)]

    def _boxes(self, grey: np.ndarray, how: str, box: Box | None) -> list[Box]:
        if how == "box":
            return [] if box is None else [box]
        if how == "image":
            # The box that the detector finds in an aligned crop, measured on CelebA's of 178x218.
            height, width = grey.shape
            side = 0.62 * width
            left, top = (width - side) / 2, 0.4 * height
            return [(left, top, left + side, min(top + side, height - 1.0))]
        found = self.detect(grey, int(how == "upsampled"))
        return [(float(one.left()), float(one.top()), float(one.right()), float(one.bottom())) for one in found]

    def landmarks(self, grey: np.ndarray, box: Box) -> np.ndarray:
        """Landmarks float32 (68, 2) of the face in a box of an image (H, W) uint8."""
        import dlib

        shape = self.predict(grey, dlib.rectangle(*(round(edge) for edge in box)))
        return np.array([(point.x, point.y) for point in shape.parts()], np.float32)


@functools.cache
def _dlib(model: Path) -> tuple:
    """Detector and predictor, loaded once per process: 100 MB."""
    import dlib

    try:
        return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(model))
    except RuntimeError as error:
        raise ConfigError(f"{model} is not a landmark model of dlib: {error}.\nExpected: {MODEL}.") from error


def crop_box(landmarks: np.ndarray, margin: float = 0.25) -> tuple[int, int, int]:
    """The paper's crop: the box of the 68 landmarks with a margin, squared: left, top and side, in pixels.

    Args:
        landmarks: (68, 2), in pixels.
        margin: on every side of the box, as a fraction of its longer side; twice that on top, for the forehead.
    """
    return square_around((*landmarks.min(axis=0), *landmarks.max(axis=0)), margin)


def square_around(corners: Box, margin: float) -> tuple[int, int, int]:
    """The crop of :func:`crop_box` from left, top, right and bottom of the landmarks' box."""
    low, high = np.reshape(corners, (2, 2))
    reach = margin * float((high - low).max())
    left, top = low - (reach, 2 * reach)
    right, bottom = high + reach
    side = max(1, round(float(max(right - left, bottom - top))))
    return round(float((left + right - side) / 2)), round(float((top + bottom - side) / 2)), side


def square(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """A square of an image (H, W, 3) uint8: (side, side, 3), white outside the image."""
    canvas = np.full((side, side, 3), 255, np.uint8)
    part = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    down, right = max(-top, 0), max(-left, 0)
    canvas[down : down + part.shape[0], right : right + part.shape[1]] = part
    return canvas


def ring(upper: np.ndarray, lower: np.ndarray, places: Sequence[float]) -> np.ndarray:
    """Points at the places (fractions of the way) of an upper curve (N, 2), then of a lower one (N, 2) backwards."""
    at = np.linspace(0, 1, len(upper))
    up, low = (np.stack([np.interp(places, at, axis) for axis in curve.T], -1) for curve in (upper, lower))
    return np.concatenate([up, low[-2:0:-1]])


LID_PLACES = (0, 0.32, 0.68, 1)
OUTER_LIP_PLACES = (0, 0.18, 0.36, 0.5, 0.64, 0.82, 1)
INNER_LIP_PLACES = (0, 0.34, 0.5, 0.66, 1)
"""Positions of the 68 landmarks along lids and lips, as fractions of the way."""


def from_106(points: np.ndarray) -> np.ndarray:
    """LaPa's 106 landmarks -> the 68 of iBUG and dlib, (68, 2)."""
    p = points

    def loop(start: int, top: int, places: Sequence[float]) -> np.ndarray:
        """A closed curve: `top` points above, from left to right, and two fewer below, back again."""
        upper = p[start : start + top]
        below = p[start + top : start + 2 * top - 2]
        return ring(upper, np.concatenate([upper[:1], below[::-1], upper[-1:]]), places)

    brows = [np.concatenate([0.65 * p[a : a + 4] + 0.35 * p[a + 8 : a + 4 : -1], p[a + 4 : a + 5]]) for a in (33, 42)]
    eyes = [loop(start, 5, LID_PLACES) for start in (66, 75)]
    lips = [loop(84, 7, OUTER_LIP_PLACES), loop(96, 5, INNER_LIP_PLACES)]
    return np.concatenate([p[0:33:2], *brows, p[51:55], p[58:63], *eyes, *lips]).astype(np.float32)


def read_landmarks(path: Path) -> np.ndarray:
    """Landmarks from a text file of 68, or of LaPa's 106, which are reduced to 68: float32 (68, 2).

    Args:
        path: the file: the number of points, then x and y of one point per line.

    Raises:
        BrokenFileError: if it holds anything else.
    """
    try:
        count, *rows = ordinary(path).read_text(encoding="utf-8").split()
        points = np.array(rows, np.float32).reshape(-1, 2)
        if int(count) != len(points) or len(points) not in (68, 106) or not np.isfinite(points).all():
            raise ValueError
    except (OSError, ValueError, OverflowError) as error:
        raise BrokenFileError(
            f"{path} does not hold 68 landmarks.\n"
            f"Expected: the number 68 (or LaPa's 106), then x and y of one point per line."
        ) from error
    return points if len(points) == 68 else from_106(points)
