"""From files to arrays, with every error named by its file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from datamodules.coloured_labels import COLOURED, ids_of_colours, require_indexed_by_id
from datamodules.labels import IGNORE, LabelSet
from datamodules.layouts import Sample
from foundation.errors import BrokenFileError

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that it cannot decode."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations of EXIF that exchange width and height."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        size: (H, W) of the file's image.
        extent: (height, width) of the file's whole image in the decoded pixels: where it is shrunk by a factor that
            does not divide its size, the last row and column reach a fraction of a pixel beyond it.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    extent: tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The measures of an image or label map, which the head of its file tells without decoding.

    Args:
        shape: (H, W) of the pixels that reading returns.
        size: (H, W) of the file's image.
        extent: see :class:`DecodedImage`.
        factors: whole factors, across and down, by which the decoder's pixels are still to be averaged.
        orientation: of EXIF: 1 is upright as it is stored.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    extent: tuple[float, float]
    factors: tuple[int, int] = (1, 1)
    orientation: int = 1


@dataclass(frozen=True)
class ImageFiles:
    """Images by their index, read from their files each time.

    Args:
        paths: the images.
        least: see :func:`read_image`.
    """

    paths: tuple[Path, ...]
    least: int | None = None

    def __call__(self, index: int) -> DecodedImage:
        return read_image(self.paths[index], self.least)

    def pixels(self, index: int) -> np.ndarray:
        """What of an image is packed, (H, W, 3) uint8."""
        return self(index).pixels

    def frame(self, index: int) -> Frame:
        """The measures of an image, see :func:`read_image` for errors."""
        with _opened_image(self.paths[index]) as file:
            return _draft(file, self.least)


@dataclass(frozen=True)
class LabelFiles:
    """Label maps by their index, read from their files each time.

    Args:
        paths: the label maps.
        labels: the classes that may occur.
    """

    paths: tuple[Path, ...]
    labels: LabelSet

    def __call__(self, index: int) -> np.ndarray:
        return read_label(self.paths[index], self.labels)

    def pixels(self, index: int) -> np.ndarray:
        """What of a label map is packed, (H, W) uint8."""
        return self(index)

    def frame(self, index: int) -> Frame:
        """The measures of a label map, see :func:`read_label` for errors."""
        opened = (
            _opened_mask(self.paths[index]) if self.labels.binary else _opened_label(self.paths[index], self.labels)
        )
        with opened as file:
            size = (file.height, file.width)
            return Frame(size, size, size)


def read_image(path: Path, least: int | None = None, upright: bool = True) -> DecodedImage:
    """An image as RGB, decoded no larger than needed; what is transparent is white.

    Large photographs are shrunk by whole factors as they are decoded (in the JPEG decoder where it can, by box
    averages otherwise), so that the one interpolation that follows never skips pixels.

    Args:
        path: the image.
        least: both sides stay at least this many pixels where the file has them; None decodes in full.
        upright: turn it as its EXIF says; False leaves it as stored, which the boxes of some annotations are of.

    Raises:
        BrokenFileError: if the file cannot be read.
    """
    with _opened_image(path) as file:
        frame = _draft(file, least, upright)
        if frame.orientation != 1:
            ImageOps.exif_transpose(file, in_place=True)
        image = _plain(file, "RGB")
        if frame.factors != (1, 1):
            image = image.reduce(frame.factors)
        return DecodedImage(np.asarray(image), frame.size, frame.extent)


def shrunk(pixels: np.ndarray, least: int) -> DecodedImage:
    """An image (H, W, 3) uint8, or a part of one, by box averages as small as :func:`read_image` would make it."""
    height, width = pixels.shape[:2]
    across, down = _factors(width, height, least)
    small = np.asarray(Image.fromarray(pixels).reduce((across, down))) if max(across, down) > 1 else pixels
    return DecodedImage(small, (height, width), (height / down, width / across))


def read_photograph(path: Path, grey: bool = False) -> np.ndarray:
    """A photograph from anywhere, of any mode: upright, whole, (H, W, 3) uint8 RGB; what is transparent is white.

    Args:
        path: the photograph.
        grey: its brightness alone, (H, W) uint8, of which a JPEG is decoded in half the time.

    Raises:
        BrokenFileError: if it cannot be read.
    """
    with _opened_image(path) as file:
        mode = "L" if grey else "RGB"
        file.draft(mode, file.size)
        ImageOps.exif_transpose(file, in_place=True)
        return np.asarray(_plain(file, mode))


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """An image of any mode in ``RGB`` or ``L``."""
    image = _in_bytes(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return image if image.mode == mode else image.convert(mode)


def _in_bytes(image: Image.Image) -> Image.Image:
    """An image of 16 bits in 8; to convert it would cut everything above 255 off."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _draft(file: Image.Image, least: int | None, upright: bool = True) -> Frame:
    """Have the JPEG decoder shrink by 2, 4 or 8 where that leaves enough; other formats heed no draft."""
    orientation = _orientation(file) if upright else 1
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


def _orientation(file: Image.Image) -> int:
    if file.format == "PNG" and "exif" not in file.info:  # Pillow would decode it to look behind its pixels
        return 1
    orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _factors(width: int, height: int, least: int) -> tuple[int, int]:
    """Whole factors, across and down, that leave at least so many pixels."""
    return max(1, width // least), max(1, height // least)


@contextlib.contextmanager
def _opened_image(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except UNREADABLE as error:
        raise BrokenFileError(
            f"Cannot read the image {path}: {error}.\nReplace the file or remove the face."
        ) from error


def read_label(path: Path, labels: LabelSet) -> np.ndarray:
    """A label map as ids, (H, W) uint8.

    Args:
        path: single-channel PNG of class ids, or RGB PNG in declared colours; of a binary set, see :func:`read_mask`.
        labels: the classes that may occur.

    Raises:
        BrokenFileError: if the file cannot be read, or has an unknown id or undeclared colours.
    """
    label = read_mask(path).astype(np.uint8) if labels.binary else read_ids(path, labels)
    require_known_ids(path, label, labels)
    return label


def read_ids(path: Path, labels: LabelSet) -> np.ndarray:
    """What a label map holds, (H, W) uint8, known ids or not.

    Raises:
        BrokenFileError: if the file cannot be read or has undeclared colours.
    """
    with _opened_label(path, labels) as file:
        file.load()
        if file.mode in COLOURED:
            return ids_of_colours(path, np.asarray(file), labels)
        ids = np.asarray(file, dtype=np.uint8)
        if labels.coloured and file.mode == "P":
            require_indexed_by_id(path, ids, file.getpalette() or [], labels)
        return ids


def require_known_ids(path: Path, label: np.ndarray, labels: LabelSet) -> None:
    """See that a label map holds ids of classes alone, or :data:`IGNORE` where the set has it.

    Raises:
        BrokenFileError: if it does not.
    """
    highest = int(label.max(initial=0))
    if highest >= len(labels) and labels.ignored:  # which an ignored pixel is too
        highest = int(label[label != IGNORE].max(initial=0))
    if highest >= len(labels):
        raise BrokenFileError(
            f"The label map {path} holds class id {highest}.\n"
            f"Expected ids 0..{len(labels) - 1} ({labels.name}: {', '.join(labels.classes)})."
        )


@contextlib.contextmanager
def _opened_label(path: Path, labels: LabelSet) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            if file.mode not in ("L", "P", "1", *(COLOURED if labels.coloured else ())):
                raise BrokenFileError(
                    f"The label map {path} is a {file.mode} image.\n"
                    f"Expected a single-channel PNG of class ids 0..{len(labels) - 1}"
                    + (", or an RGB one." if labels.coloured else ": a colour rendering will not do.")
                )
            yield file
    except UNREADABLE as error:
        raise BrokenFileError(
            f"Cannot read the label map {path}: {error}.\nReplace the file or remove the face."
        ) from error


def read_mask(path: Path) -> np.ndarray:
    """A binary mask, (H, W) bool, True where it is white.

    Masks are published as images of 0 and 255, also with a palette, in colour, or as JPEG, which blurs their edges:
    what is brighter than 127 is white. A file that holds nothing above 1 is read as ids 0 and 1.

    Raises:
        BrokenFileError: if the file cannot be read.
    """
    with _opened_mask(path) as file:
        if file.mode.startswith("I;16"):  # of 16 bits, or of 8 or 1 that are stored in so many
            wide = np.asarray(file)
            most = int(wide.max(initial=0))
            return wide > (0 if most == 1 else 127 if most <= 255 else 32767)
        brightness = np.asarray(file.convert("L"))
        stored = np.asarray(file) if file.mode in ("L", "P") else brightness
    if stored.max(initial=0) == 1 and brightness.max() <= 127:  # no palette makes the 1 white
        return stored == 1
    return brightness > 127


@contextlib.contextmanager
def _opened_mask(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except UNREADABLE as error:
        raise BrokenFileError(
            f"Cannot read the mask {path}: {error}.\n"
            f"Expected: an image, white where the face is hidden; replace the file or remove the face."
        ) from error


def read_part(path: Path) -> np.ndarray:
    """A part's mask, (H, W) bool.

    Masks are published as RGB images of 0 and 255. What is not black is the part: a conversion to a palette, as in
    the data set's own scripts, would turn 255 into entry 225 of Pillow's palette, and a test for 255 find nothing.

    Args:
        path: the mask, of any mode.

    Raises:
        BrokenFileError: if the file cannot be read.
    """
    return read_part_values(path) > 0


def read_part_values(path: Path) -> np.ndarray:
    """What a part's mask holds, (H, W) uint8: 0 and 255 as published; see :func:`read_part`."""
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("L"))
    except UNREADABLE as error:
        raise BrokenFileError(
            f"Cannot read the part mask {path}: {error}.\n"
            f"Expected: an image of 0 and 255; replace the file or remove the face."
        ) from error


def require_whole(path: Path) -> None:
    """See that a file ends where it should and, if it is a PNG, that its checksums are right.

    A decoder stops at the last pixel, and does not look at what it can do without.

    Raises:
        BrokenFileError: if it does not.
    """
    try:
        with Image.open(path) as file:
            file.verify()
    except UNREADABLE as error:
        raise BrokenFileError(f"{path} is damaged: {error}.\nReplace the file or remove the face.") from error


def require_size(sample: Sample, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """See that a label map covers its image: it has the image's size, or, merged of parts, its aspect ratio.

    Args:
        sample: the face.
        shape: (H, W) of its label map.
        size: (H, W) of its image's file.

    Raises:
        BrokenFileError: if it does not.
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
    # Half a pixel of rounding at each side of the one that was made from the other.
    if abs(height * size[1] - width * size[0]) > max(sum(shape), sum(size)) / 2:
        raise BrokenFileError(
            f"The part masks of the image {sample.image} are {measures}.\n"
            f"Expected the same ratio of width to height; replace one of the two or remove the face."
        )
