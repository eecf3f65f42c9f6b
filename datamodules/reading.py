"""Reads images, label maps and masks as arrays; every error names its file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.coloured_labels import COLOURED, ids_of_colours, require_indexed_by_id
from datamodules.decoding import (
    SIDEWAYS,
    in_bytes,
    in_mode,
    load,
    opaque,
    opened,
    orientation_of,
    turned,
    upright,
    upright_size,
)
from datamodules.labels import IGNORE, LabelSet
from datamodules.layouts import Sample
from datamodules.masks import opened_mask, read_mask
from foundation.errors import BrokenFileError


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        size: (H, W) of the file's image.
        extent: (height, width) of the file's image in decoded pixels: if it is shrunk by a factor that does not divide
            its size, the last row and column reach a fraction of a pixel beyond it.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    extent: tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """Sizes of an image or label map, from its file's header without decoding.

    Args:
        shape: (H, W) of the pixels that reading returns.
        size: (H, W) of the file's image.
        extent: see :class:`DecodedImage`.
        factors: integer factors, across and down, by which the decoder's pixels are averaged afterwards.
        orientation: EXIF orientation; 1 is stored upright.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    extent: tuple[float, float]
    factors: tuple[int, int] = (1, 1)
    orientation: int = 1


@dataclass(frozen=True)
class ImageFiles:
    """Images by their index, read from their files each time, see :func:`read_image`."""

    paths: tuple[Path, ...]
    least: int | None = None

    def __call__(self, index: int) -> DecodedImage:
        return read_image(self.paths[index], self.least)

    def pixels(self, index: int) -> np.ndarray:
        """The pixels of an image to pack, (H, W, 3) uint8."""
        return self(index).pixels

    def frame(self, index: int) -> Frame:
        """Sizes of an image, see :func:`read_image` for errors."""
        with _opened_image(self.paths[index]) as file:
            return _draft(file, self.least)


@dataclass(frozen=True)
class LabelFiles:
    """Label maps by their index, read from their files each time, see :func:`read_label`."""

    paths: tuple[Path, ...]
    labels: LabelSet

    def __call__(self, index: int) -> np.ndarray:
        return read_label(self.paths[index], self.labels)

    def pixels(self, index: int) -> np.ndarray:
        """The ids of a label map to pack, (H, W) uint8."""
        return self(index)

    def frame(self, index: int) -> Frame:
        """Sizes of a label map, see :func:`read_label` for errors."""
        path = self.paths[index]
        with opened_mask(path) if self.labels.binary else _opened_label(path, self.labels) as file:
            size = upright_size(file)
            return Frame(size, size, size)


def read_image(path: Path, least: int | None = None, upright: bool = True) -> DecodedImage:
    """An image as RGB, decoded no larger than needed; transparent pixels become white.

    Large photographs are shrunk by integer factors as they are decoded (in the JPEG decoder if it can, by box averages
    otherwise), so that the single interpolation that follows never skips pixels.

    Args:
        path: the image.
        least: least side after shrinking, in pixels; smaller images keep their size. None decodes at full size.
        upright: apply the EXIF orientation; False leaves the image as stored, as some annotations' boxes need.

    Raises:
        BrokenFileError: if the file cannot be read.
    """
    with _opened_image(path) as file:
        frame = _draft(file, least, upright)
        load(file)
        image = in_mode(turned(file, frame.orientation), "RGB")
        if frame.factors != (1, 1):
            image = image.reduce(frame.factors)
        return DecodedImage(np.asarray(image), frame.size, frame.extent)


def shrunk(pixels: np.ndarray, least: int) -> DecodedImage:
    """An image (H, W, 3) uint8 or a crop, shrunk by box averages to the size that :func:`read_image` gives."""
    height, width = pixels.shape[:2]
    across, down = _factors(width, height, least)
    small = np.asarray(Image.fromarray(pixels).reduce((across, down))) if max(across, down) > 1 else pixels
    return DecodedImage(small, (height, width), (height / down, width / across))


def read_photograph(path: Path, grey: bool = False) -> np.ndarray:
    """A photograph of any mode, upright, at full size: (H, W, 3) uint8 RGB; transparent pixels become white.

    Args:
        path: the photograph.
        grey: return (H, W) uint8 grey values, which takes half the time for a JPEG.

    Raises:
        BrokenFileError: if it cannot be read.
    """
    with _opened_image(path) as file:
        mode = "L" if grey else "RGB"
        file.draft(mode, file.size)
        load(file)  # now a PNG's EXIF after its pixels is known
        return np.asarray(in_mode(turned(file, orientation_of(file)), mode))


def _draft(file: Image.Image, least: int | None, upright: bool = True) -> Frame:
    """Let the JPEG decoder shrink by 2, 4 or 8 if that leaves enough pixels; other formats ignore it."""
    orientation = orientation_of(file) if upright else 1
    width, height = file.size[::-1] if orientation in SIDEWAYS else file.size
    across, down = float(width), float(height)
    stored = (width, height)
    if least is not None and min(stored) // least > 1 and orientation == 1:
        factor = min(stored) // least
        drafted = file.draft("RGB", (-(-width // factor), -(-height // factor)))
        if drafted:
            across, down = drafted[1][2:]
            stored = file.size
    factors = (1, 1) if least is None else _factors(*stored, least)
    shape = (-(-stored[1] // factors[1]), -(-stored[0] // factors[0]))
    return Frame(shape, (height, width), (down / factors[1], across / factors[0]), factors, orientation)


def _factors(width: int, height: int, least: int) -> tuple[int, int]:
    """Integer factors, across and down, that leave at least so many pixels."""
    return max(1, width // least), max(1, height // least)


def _opened_image(path: Path) -> contextlib.AbstractContextManager[Image.Image]:
    return opened(path, f"Cannot read the image {path}")


def read_label(path: Path, labels: LabelSet) -> np.ndarray:
    """A label map as ids, (H, W) uint8.

    Args:
        path: single-channel PNG of class ids, or RGB PNG in declared colours; of a binary set, see
            :func:`datamodules.masks.read_mask`.
        labels: the classes that may occur.

    Raises:
        BrokenFileError: if the file cannot be read, or has an unknown id or undeclared colours.
    """
    label = read_mask(path, labels.mask) if labels.binary else read_ids(path, labels)
    require_known_ids(path, label, labels)
    return label


def read_ids(path: Path, labels: LabelSet) -> np.ndarray:
    """The ids of a label map, (H, W) uint8, known or not.

    Raises:
        BrokenFileError: if the file cannot be read or has undeclared colours.
    """
    with _opened_label(path, labels) as file:
        image = upright(file)
        if image.mode in COLOURED:
            return ids_of_colours(path, np.asarray(image), labels)
        ids = np.asarray(image, dtype=np.uint8)
        if labels.coloured and image.mode == "P":
            require_indexed_by_id(path, ids, image.getpalette() or [], labels)
        return ids


def require_known_ids(path: Path, label: np.ndarray, labels: LabelSet) -> None:
    """Require that a label map holds only ids of classes, and :data:`IGNORE` if the set has it.

    Raises:
        BrokenFileError: if it holds others.
    """
    highest = int(label.max(initial=0))
    if highest >= len(labels) and labels.ignored:  # it may be an ignored pixel
        highest = int(label[label != IGNORE].max(initial=0))
    if highest >= len(labels):
        raise BrokenFileError(
            f"The label map {path} holds class id {highest}.\n"
            f"Expected ids 0..{len(labels) - 1} ({labels.name}: {', '.join(labels.classes)})."
        )


@contextlib.contextmanager
def _opened_label(path: Path, labels: LabelSet) -> Iterator[Image.Image]:
    with opened(path, f"Cannot read the label map {path}") as file:
        if file.mode not in ("L", "P", "1", *(COLOURED if labels.coloured else ())):
            raise BrokenFileError(
                f"The label map {path} is a {file.mode} image.\n"
                f"Expected a single-channel PNG of class ids 0..{len(labels) - 1}"
                + (", or an RGB one." if labels.coloured else "; a colour rendering is invalid.")
            )
        yield file


def read_part(path: Path) -> np.ndarray:
    """A part's mask of any mode, (H, W) bool.

    Masks are published as RGB images of 0 and 255. All pixels that are not black belong to the part: a conversion to a
    palette, as in the data set's own scripts, turns 255 into entry 225 of Pillow's palette.

    Raises:
        BrokenFileError: if the file cannot be read.
    """
    return read_part_values(path) > 0


def read_part_values(path: Path) -> np.ndarray:
    """The values of a part's mask, (H, W) uint8: 0 and 255 as published; see :func:`read_part`."""
    expected = "Expected: an image of 0 and 255; replace the file or remove the face."
    with opened(path, f"Cannot read the part mask {path}", expected) as file:
        return np.asarray(opaque(in_bytes(upright(file)), "L"))


def require_complete(path: Path) -> None:
    """Require a complete file and, for a PNG, correct checksums; decoders stop at the last pixel and check neither.

    Raises:
        BrokenFileError: if the file is damaged.
    """
    with opened(path, f"{path} is damaged") as file:
        file.verify()


def require_size(sample: Sample, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Require that a label map has its image's size or, if merged from parts, its aspect ratio.

    Args:
        sample: the face.
        shape: (H, W) of its label map.
        size: (H, W) of its image's file.

    Raises:
        BrokenFileError: if it has another.
    """
    if shape == size:
        return
    height, width = shape
    measures = f"{width}x{height} pixels, its image {size[1]}x{size[0]}"
    if sample.parts is None:
        raise BrokenFileError(
            f"The label map {sample.label} is {measures}.\n"
            f"Expected the same size; replace one of the two or remove the face."
        )
    # Half a pixel of rounding on each side.
    if abs(height * size[1] - width * size[0]) > max(sum(shape), sum(size)) / 2:
        raise BrokenFileError(
            f"The part masks of the image {sample.image} are {measures}.\n"
            f"Expected the same ratio of width to height; replace one of the two or remove the face."
        )
