"""Opens image files and converts any mode; whatever a decoder raises becomes one error that names the file."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.TiffImagePlugin import TiffImageFile

from datamodules.image_files import FORMS, UNSUPPORTED
from foundation.errors import BrokenFileError, UserError
from foundation.paths import ordinary

MOST_PIXELS = 200_000_000
"""Largest image that is decoded, in pixels."""
Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # for Pillow too, which warns above, and refuses twice as many
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused here

SIDEWAYS = (5, 6, 7, 8)
"""Orientations of EXIF that exchange width and height."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets an image of an EXIF orientation upright."""
TOLERANCE = 1e-3
"""By how much floats may leave their range: resampling overshoots."""


@contextlib.contextmanager
def opened(path: Path, failed: str, expected: str = "Replace the file or remove the face.") -> Iterator[Image.Image]:
    """An open file; what its decoder raises, then and as it is decoded, becomes one error with these texts.

    Raises:
        BrokenFileError: if it cannot be read, or its header declares more than :data:`MOST_PIXELS`.
    """
    try:
        with Image.open(ordinary(path), formats=FORMS) as file:
            if file.width * file.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield file
    except UserError:
        raise
    except Exception as error:  # struct.error, OverflowError, zlib.error and others: decoders raise anything
        raise BrokenFileError(f"{failed}: {_reason(path, error)}.\n{expected}") from error


def _reason(path: Path, error: Exception) -> str:
    form = UNSUPPORTED.get(path.suffix.lower())
    if form is not None and not isinstance(error, FileNotFoundError):
        return f"{form} is not supported; convert it to JPEG or PNG"
    if isinstance(error, Image.DecompressionBombError):
        return f"its header declares more than {MOST_PIXELS // 10**6} million pixels"
    cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)  # its path is known
    text = " ".join(cause.split()).rstrip(".")
    plain = isinstance(error, OSError | SyntaxError | ValueError)
    return text if text and plain else f"{type(error).__name__}: {text}".rstrip(": ")


def load(file: Image.Image) -> None:
    """Decode an image now: NumPy, which would do so later, swallows an AttributeError of a decoder.

    Raises:
        ValueError: if its size is not that of its header, as of a TIFF with damaged frames, which Pillow does not turn;
            or if it is one that Pillow misreads.
    """
    size = file.size
    if isinstance(file, TiffImageFile) and file.tag_v2.get(ExifTags.Base.Orientation) in SIDEWAYS:
        file.filename = ""  # not by mmap, for which Pillow takes the size of the upright image
    if isinstance(file, BmpImageFile) and file.mode == "1" and _bits_of(file) != 1:
        raise ValueError("Pillow misreads a BMP of 8 bits with a palette of black and white alone; convert it to PNG")
    file.load()
    if file.format == "TIFF" and file.size != size:
        raise ValueError("its size differs from that in its header")


def _bits_of(file: BmpImageFile) -> int:
    """The bits of a pixel of an open BMP."""
    header = 14 if file.format == "BMP" else 0
    assert file.fp is not None  # noqa: S101 (for the type checker: the file is open)
    file.fp.seek(header + 14)
    return int.from_bytes(file.fp.read(2), "little")


def orientation_of(file: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; other tags are not read, and damaged EXIF has none."""
    if file.format == "TIFF":  # Pillow turns it as it decodes
        return 1
    if file.format == "PNG" and "exif" not in file.info:  # Pillow would decode it to find EXIF after the pixels
        return 1
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever its parser raises: the pixels are there
        return 1
    return orientation if isinstance(orientation, int) and orientation in range(1, 9) else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image set upright by its EXIF orientation; the rest of its EXIF, which may be damaged, is not touched."""
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def upright(file: Image.Image) -> Image.Image:
    """A mask or label map, decoded and set upright as its image is."""
    orientation = orientation_of(file)
    load(file)
    return turned(file, orientation)


def upright_size(file: Image.Image) -> tuple[int, int]:
    """(H, W) of an open image once it is upright."""
    width, height = file.size[::-1] if orientation_of(file) in SIDEWAYS else file.size
    return height, width


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """An image of any mode in ``RGB`` or ``L``; transparent pixels become white.

    Raises:
        ValueError: if its numbers have an unknown range, see :func:`in_bytes`.
    """
    image = in_bytes(image)
    if image.has_transparency_data:
        clear = with_alpha(image)
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return opaque(image, mode)


def opaque(image: Image.Image, mode: str) -> Image.Image:
    """An image of bytes in ``RGB`` or ``L``, as if it were not transparent."""
    if image.mode == mode:
        return image
    if image.mode in ("La", "RGBa"):
        image = with_alpha(image)
    if mode == "L" and image.mode in ("LAB", "HSV"):  # which Pillow converts to RGB alone
        image = image.convert("RGB")
    return image.convert(mode)


def with_alpha(image: Image.Image) -> Image.Image:
    """A transparent image in ``RGBA``."""
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    image = image if straight is None else image.convert(straight)
    return image if image.mode == "RGBA" else image.convert("RGBA")


def in_bytes(image: Image.Image) -> Image.Image:
    """An image of 16 or 32 bits in 8, others as they are; Pillow's conversion clips everything above 255.

    Integers of 32 bits hold 0..255 or 0..65535, floats 0..1, 0..255 or 0..65535, by their largest value.

    Raises:
        ValueError: if they hold others.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode not in ("I", "F"):
        return image
    numbers = np.asarray(image)
    most = float(numbers.max(initial=0))
    require_range(numbers)
    if image.mode == "F":
        factor = 255 if most <= 1 + TOLERANCE else 1 if most <= 255 + TOLERANCE else 1 / 257
        return Image.fromarray((numbers * factor).round().clip(0, 255).astype(np.uint8))
    return Image.fromarray((numbers if most <= 255 else numbers >> 8).astype(np.uint8))


def require_range(numbers: np.ndarray) -> None:
    """Require numbers of 0 to 65535.

    Raises:
        ValueError: if there are others.
    """
    least, most = numbers.min(initial=0), numbers.max(initial=0)
    if not (least >= -TOLERANCE and most <= 65535):  # NaN is neither
        kind, ranges = ("floats", "0..1, ") if numbers.dtype.kind == "f" else ("integers", "")
        raise ValueError(f"its {kind} of 32 bits are {least:g} to {most:g}, not {ranges}0..255 or 0..65535")
