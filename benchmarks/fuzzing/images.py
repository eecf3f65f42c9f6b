"""Images of every form by their structure: modes, EXIF, palettes, alpha, 16 and 32 bits, large sizes in headers."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

SIDE = 24
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "GIF": ("P", "L"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK", "LAB", "YCbCr"),
}
HUGE = (0, 1, 2**15, 2**16 - 1, 13_000, 13_300, 30_000, 2**31 - 1, 2**32 - 1)
ORIENTATION, RESOLUTION, MAKER_NOTE, GPS = 0x0112, 0x011A, 0x927C, 0x8825


def image(rng: random.Random, mode: str, size: tuple[int, int]) -> Image.Image:
    """An image of a mode with ids 0..10, 0 and 255, or noise."""
    values = rng.choice((np.arange(11), np.array([0, 255]), np.arange(256), np.array([0, 1])))
    pixels = np.random.default_rng(rng.randrange(2**32)).choice(values, (size[1], size[0], 3))
    if mode == "I;16":
        return Image.fromarray((pixels[..., 0] * rng.choice((1, 257))).astype(np.uint16))
    if mode in ("I", "F"):
        scale = rng.choice((1, 1e9, -1)) if mode == "I" else rng.choice((1, 1e38, np.nan, -np.inf))
        kind = np.int32 if mode == "I" else np.float32
        return Image.fromarray((pixels[..., 0] * scale).clip(-(2**31), 2**31 - 200).astype(kind))
    if mode == "P":
        made = Image.fromarray(pixels[..., 0].astype(np.uint8), "L").convert("P")
        made.putpalette(rng.randbytes(3 * rng.choice((1, 2, 11, 256))))
        return made
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def exif(rng: random.Random) -> bytes:
    """EXIF with an odd orientation, rationals that divide by zero, and other tags."""
    tags = Image.Exif()
    tags[ORIENTATION] = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65535))
    if rng.random() < 0.7:
        tags[RESOLUTION] = rng.choice((IFDRational(1, 0), IFDRational(0, 0), IFDRational(2**32 - 1, 1), 1.5))
    if rng.random() < 0.3:
        tags[MAKER_NOTE] = rng.randbytes(rng.randrange(200))
        tags[GPS] = {1: "N", 2: (IFDRational(1, 0),) * 3}
    content = bytearray(tags.tobytes())
    if rng.random() < 0.5:  # the orientation as a rational, a text, a pair
        place = content.find(struct.pack("<H", ORIENTATION))
        if place > 0:
            content[place + 2 : place + 8] = struct.pack("<HI", rng.randrange(14), rng.choice((0, 1, 2, 2**32 - 1)))
    return bytes(content)


def saved(rng: random.Random, form: str, mode: str, size: tuple[int, int]) -> bytes:
    options: dict[str, Any] = {}
    if rng.random() < 0.3 and form in ("JPEG", "PNG", "WEBP", "TIFF"):
        options["exif"] = exif(rng)
    if form == "TIFF":
        options["compression"] = rng.choice((None, None, "tiff_lzw", "tiff_adobe_deflate", "packbits"))
        if options["compression"]:
            options.pop("exif", None)  # libtiff refuses odd values when it writes
    if form in ("PNG", "GIF") and mode in ("P", "L", "RGB") and rng.random() < 0.3:
        options["transparency"] = (0, 0, 0) if mode == "RGB" else 0
    if form in ("GIF", "WEBP", "TIFF") and rng.random() < 0.2:
        options |= {"save_all": True, "append_images": [image(rng, mode, size)]}
    content = io.BytesIO()
    image(rng, mode, size).save(content, form, **options)
    return content.getvalue()


def originals(form: str, modes: Sequence[str] = ()) -> list[bytes]:
    """One image of every mode."""
    rng = random.Random(f"images/{form}")
    return [saved(rng, form, mode, (SIDE, SIDE + 8)) for mode in modes or MODES[form]]


def maker(form: str) -> Callable[[random.Random, Sequence[bytes]], bytes]:
    """Images of one form: any mode and size, and sizes in the header that do not fit the pixels."""

    def make(rng: random.Random, valid: Sequence[bytes]) -> bytes:
        kind = rng.random()
        if kind < 0.001 and form in ("PNG", "GIF", "TIFF"):  # a large image in a small file
            return _large(form, rng.choice((3000, 9000)))
        if kind < 0.25:
            return _resized(rng, form, rng.choice(valid))
        if kind < 0.3 and form == "PNG":
            return _odd_chunks(rng)
        sizes = (1, 2, 3, SIDE, SIDE + 1, 65)
        return saved(rng, form, rng.choice(MODES[form]), (rng.choice(sizes), rng.choice(sizes)))

    return make


def _large(form: str, width: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (width, 3000), 9).save(content, form)
    return content.getvalue()


def _resized(rng: random.Random, form: str, content: bytes) -> bytes:
    """Another width or height in the header, with its checksum where there is one."""
    data, sides = bytearray(content), [SIDE, SIDE + 8]
    sides[rng.randrange(2)] = rng.choice(HUGE)
    if rng.random() < 0.002:
        sides = [rng.choice(HUGE), rng.choice(HUGE)]
    if form == "PNG":
        data[16:24] = struct.pack(">II", *sides)
        if rng.random() < 0.3:  # bits, type of colour, interlacing
            data[24], data[25], data[28] = rng.choice((1, 2, 4, 8, 16, 3)), rng.randrange(8), rng.randrange(3)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif form == "JPEG":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            if (place := data.find(marker)) > 0:
                data[place + 5 : place + 9] = struct.pack(">HH", *(min(side, 65535) for side in sides))
    elif form == "GIF":
        place = rng.choice((6, max(6, data.find(b"\x2c") + 5)))
        data[place : place + 4] = struct.pack("<HH", *(min(side, 65535) for side in sides))
    elif form == "BMP":
        data[18:26] = struct.pack("<II", *sides)
    elif form == "TIFF":
        for tag in (256, 257, 278, 258):  # width, length, rows per strip, bits per sample
            place = data.find(struct.pack("<HH", tag, 4), 4)
            place = place if place > 0 else data.find(struct.pack("<HH", tag, 3), 4)
            if place > 0 and rng.random() < 0.7:
                data[place + 8 : place + 12] = struct.pack("<I", rng.choice(sides))
    return bytes(data)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _odd_chunks(rng: random.Random) -> bytes:
    """A PNG with text that unpacks to much, odd palettes, transparency and EXIF, before or after its pixels."""
    valid = saved(rng, "PNG", rng.choice(("L", "P", "RGB")), (SIDE, SIDE))
    odd = rng.choice(
        (
            _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))),
            _chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2_000_000))),
            _chunk(b"PLTE", rng.randbytes(rng.choice((0, 1, 3, 769)))),
            _chunk(b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 3, 300)))),
            _chunk(b"eXIf", exif(rng)),
            _chunk(b"eXIf", rng.randbytes(9)),
            _chunk(b"iCCP", b"a\0\0" + zlib.compress(b"x" * 100)),
            _chunk(b"pHYs", b""),
            _chunk(b"gAMA", b"\0"),
            _chunk(b"cHRM", b"\0" * 5),
            _chunk(b"acTL", struct.pack(">II", rng.choice((0, 1, 2**31)), 0)),
            _chunk(b"fcTL", b"\0" * 10),
            _chunk(b"IHDR", b"\0" * 13),
        )
    )
    place = rng.choice((33, max(33, valid.find(b"IDAT") - 4), max(33, valid.find(b"IEND") - 4)))
    return valid[:place] + odd + valid[place:]
