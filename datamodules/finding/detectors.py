"""Face detectors with a model file of their own: YuNet in OpenCV, and dlib's convolutional network."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from datamodules.finding.names import CNN_MODEL, YUNET_MODEL
from datamodules.landmarks import packaged_model
from foundation.errors import ConfigError

CONFIDENT = 0.5
"""Least confidence of a face: of 134 faces with masks, 129 have more, see docs/finding_faces.md."""
MOST = 1000
"""Number of candidates that YuNet's non-maximum suppression compares."""


class Detector(Protocol):
    """Detects faces in an image of bounded size."""

    @property
    def name(self) -> str: ...

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Faces of an image (H, W, 3) uint8 RGB: left, top, right, bottom in pixels, confidence 0..1: (N, 5)."""


class YuNet:
    """OpenCV's FaceDetectorYN: the network of libfacedetection, for any platform; OpenCV has no weights for it.

    Args:
        model: the user's face_detection_yunet_2023mar.onnx.

    Raises:
        ConfigError: if there is no such file, or OpenCV cannot read it.
    """

    name = "yunet"

    def __init__(self, model: str | Path | None) -> None:
        if model is None or not Path(model).is_file():
            given = "null" if model is None else model
            raise ConfigError(
                f"finder=yunet needs a model: finder_model={given} is not a file.\n"
                f"Expected: finder_model=/path/to/{YUNET_MODEL}, from OpenCV's model zoo."
            )
        self._network = _yunet(Path(model))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Detector.__call__`."""
        self._network.setInputSize(image.shape[1::-1])
        _, found = self._network.detect(np.ascontiguousarray(image[..., ::-1]))
        if found is None:
            return np.zeros((0, 5))
        left, top, across, down = found[:, :4].T.astype(np.float64)
        return np.stack([left, top, left + across, top + down, found[:, 14].astype(np.float64)], axis=1)


class DlibCnn:
    """dlib's max-margin object detector on a convolutional network: slow without a GPU, and made for bare faces.

    Args:
        model: a user's mmod_human_face_detector.dat; None: that of the package face_recognition_models.

    Raises:
        ConfigError: if there is no such file, or dlib cannot read it.
    """

    name = "dlib_cnn"

    def __init__(self, model: str | Path | None = None) -> None:
        self._detect = _dlib_cnn(packaged_model(CNN_MODEL, model, "finder_model"))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Detector.__call__`."""
        found = self._detect(np.ascontiguousarray(image), 0)
        rows = [(*corners(one.rect), min(max(one.confidence, 0.0), 1.0)) for one in found]
        return np.array(rows, np.float64).reshape(-1, 5)


def corners(rectangle: Any) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a rectangle of dlib."""
    return rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()


@functools.cache
def _yunet(model: Path) -> cv2.FaceDetectorYN:
    try:
        network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), CONFIDENT, 0.45, MOST)
        network.detect(np.zeros((320, 320, 3), np.uint8))  # another network fails here
    except cv2.error as error:
        raise ConfigError(
            f"finder_model={model} is not a model that OpenCV's FaceDetectorYN can read.\nExpected: {YUNET_MODEL}."
        ) from error
    return network


@functools.cache
def _dlib_cnn(model: Path) -> Any:
    import dlib

    try:
        return dlib.cnn_face_detection_model_v1(str(model))
    except RuntimeError as error:
        raise ConfigError(
            f"finder_model={model} is not a detector of dlib: {error}.\nExpected: {CNN_MODEL}."
        ) from error
