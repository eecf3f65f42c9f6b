"""Reads the images of ``predict.py`` in bounded memory: up to 200 megapixels of any mode."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from datamodules.reading import SIDEWAYS, in_mode, read_photograph
from foundation.errors import BrokenFileError

MOST_PIXELS = 200_000_000
"""Largest image that is read, in pixels."""
DECODER_BYTES = 820_000_000
"""Memory that a decoder may take: that of 200 megapixels in most formats."""
CANVASES = ("WEBP", "AVIF", "JPEG2000")
"""Formats whose decoders hold several copies of the image, of 4 bytes a pixel or channel."""
FULL_PIXELS = 50_000_000
FULL_SIDE = 10_000
"""Pixels and side of the largest image whose masks are predicted at full resolution."""
SHRUNK_PIXELS = 25_000_000
"""Most pixels of an image that is shrunk; its decoder holds 4 bytes for each of its own, at the same time."""
AT_ONCE = 16_000_000
"""Larger images are converted in strips of so many pixels; Pillow would hold up to five copies, of 4 bytes a pixel."""


@dataclass(frozen=True)
class Photo:
    """An image as it is predicted: at full resolution, or shrunk by a power of two if it is very large.

    Args:
        pixels: (h, w, 3) uint8 RGB, upright.
        size: (H, W) of the image.
        factor: 1 where both are equal; a pixel stands for ``factor`` x ``factor`` pixels of the image.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    factor: int = 1

    @staticmethod
    def of(image: np.ndarray) -> Photo:
        """An image (H, W, 3) uint8 in memory."""
        height, width = image.shape[:2]
        factor = reduction(height, width)
        pixels = image if factor == 1 else in_strips(Image.fromarray(image), factor)
        return Photo(pixels, (height, width), factor)


def enlarged(label: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """A label map (h, w) uint8 with each pixel repeated: (H, W)."""
    if factor == 1:
        return label
    height, width = label.shape
    blocks = np.empty((height, factor, width, factor), np.uint8)
    blocks[...] = label[:, None, :, None]
    return blocks.reshape(height * factor, width * factor)[: size[0], : size[1]]


def reduction(height: int, width: int) -> int:
    """The power of two by which an image is shrunk before prediction: 1 up to 50 megapixels and 10,000 pixels a side.

    A network sees a face in at most a few hundred pixels: masks of a larger image have no finer edges.
    """
    if height * width <= FULL_PIXELS and max(height, width) <= FULL_SIDE:
        return 1
    factor = 2
    while -(-height // factor) * -(-width // factor) > SHRUNK_PIXELS or max(height, width) > factor * FULL_SIDE:
        factor *= 2
    return factor


def read(path: Path) -> Photo:
    """An image of any mode, upright; transparent pixels become white.

    Raises:
        BrokenFileError: if it cannot be read or is larger than memory allows; the first line is a full message.
    """
    try:
        with _opened(path) as file:
            if file.width * file.height > AT_ONCE:
                _require_readable(path, file)
                return _read_large(file)
        pixels = read_photograph(path)
    except BrokenFileError:
        raise
    except Exception as error:  # decoders raise anything on a damaged file, which must not end a folder
        raise BrokenFileError(f"Cannot read the image {path}: {type(error).__name__}: {error}") from error
    return Photo.of(pixels)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image of any size; Pillow refuses those above 179 megapixels."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            yield file
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _require_readable(path: Path, file: Image.Image) -> None:
    width, height = file.size
    most = min(MOST_PIXELS, DECODER_BYTES // _bytes_per_pixel(file))
    if width * height > most:
        raise BrokenFileError(
            f"Cannot read the image {path}: it has {width}x{height} pixels, {width * height / 1e6:.0f} megapixels, "
            f"and at most {most / 1e6:.0f} are allowed for this kind of {file.format}."
        )


def _bytes_per_pixel(file: Image.Image) -> int:
    """Memory that the decoder of an opened image takes, at most."""
    if file.format in CANVASES:
        return 20
    if file.info.get("progressive"):  # all coefficients, 2 bytes each, and a byte of the smaller image
        areas = [across * down for _, across, down, _ in getattr(file, "layer", [])]
        return 1 + -(-2 * sum(areas) // max(areas, default=1))
    return 4


def _read_large(file: Image.Image) -> Photo:
    """The same pixels as :func:`datamodules.reading.read_photograph`, shrunk if the image is very large."""
    width, height = file.size
    factor = reduction(height, width)
    # The JPEG decoder shrinks by up to 8 and needs no memory for the rest.
    file.draft("RGB", (max(1, width // factor), max(1, height // factor)))
    decoded = max(1, round(width / file.size[0]), round(height / file.size[1]))
    file.load()
    orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    pixels = _upright(in_strips(file, factor // decoded), orientation)
    return Photo(pixels, (width, height) if orientation in SIDEWAYS else (height, width), factor)


def in_strips(image: Image.Image, factor: int) -> np.ndarray:
    """An image of any mode as RGB (H, W, 3) uint8, shrunk by box averages, converted strip by strip."""
    width, height = image.size
    pixels = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    rows = max(1, AT_ONCE // 4 // (width * factor)) * factor
    for top in range(0, height, rows):
        strip = in_mode(image.crop((0, top, width, min(top + rows, height))), "RGB")
        small = strip.reduce(factor) if factor > 1 else strip
        pixels[top // factor : top // factor + small.height] = np.asarray(small)
    return pixels


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, as Pillow's ``exif_transpose`` does."""
    if orientation in (5, 7):
        pixels = pixels.transpose(1, 0, 2)
    turned = {3: 2, 6: -1, 7: 2, 8: 1}.get(orientation, 0)  # quarters, counter-clockwise
    pixels = np.rot90(pixels, turned)
    if orientation in (2, 4):
        pixels = pixels[:, ::-1] if orientation == 2 else pixels[::-1]
    return np.ascontiguousarray(pixels)
