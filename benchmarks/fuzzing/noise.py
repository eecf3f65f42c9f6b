"""Mutations of bytes that know nothing of their structure."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

MOST = 1 << 20
"""Largest mutated file that repeats a block, in bytes."""
INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
DIGITS: tuple[bytes, ...] = (
    b"0",
    b"-1",
    b"255",
    b"256",
    b"65536",
    b"2147483648",
    b"99999999999999999999",
    b"1e999",
    b"nan",
    b"-inf",
)
DIGITS += (b"1e30", b"0.5", b"1_000", b"0x10", "²".encode(), "٣".encode(), b"9" * 5000)
OTHER_CONTENT = (
    b"\x00" * 300,
    b"\xff" * 300,
    b"\n" * 300,
    b"plain text\n",
    b"\xef\xbb\xbf",
    "text in UTF-16\n".encode("utf-16"),
    b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n",
    b"PK\x03\x04" + b"\x00" * 60,
    b"\x1f\x8b\x08\x00" + b"\x00" * 60,
    b"\x89HDF\r\n\x1a\n" + b"\x00" * 60,
    b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.",
    b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x00" * 400,
    b"SQLite format 3\x00" + b"\x00" * 100,
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='../outside/canary.png'/></svg>",
    b"[" * 100_000,
    b"{'a': " * 20_000,
    b"P5\n99999 99999\n255\n",
    b"P6 4 4 255\n" + b"\x40" * 48,
)
"""Files of other forms, and of none."""

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def noisy(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A content after one to four mutations; others are spliced in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        rng.choice(MUTATIONS)(rng, data, others)
    return bytes(data)


def _span(rng: random.Random, data: Sequence[int], most: int = 1 << 12) -> tuple[int, int]:
    """Start and end of a part; parts are often short and often near the file's start, where headers are."""
    start = rng.randrange(len(data) + 1)
    if rng.random() < 0.4:
        start = min(start, rng.randrange(64))
    length = rng.choice((1, 2, 4, 8, rng.randrange(1, 64), rng.randrange(1, most)))
    return start, min(len(data), start + length)


def _flip_bits(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if data:
            start, _end = _span(rng, data)
            data[min(start, len(data) - 1)] ^= 1 << rng.randrange(8)


def _random_bytes(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    start, end = _span(rng, data, 256)
    data[start:end] = rng.randbytes(end - start)


def _truncate(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    del data[rng.choice((rng.randrange(len(data) + 1), max(0, len(data) - rng.randrange(1, 40)))) :]


def _delete(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    start, end = _span(rng, data)
    del data[start:end]


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice((*others, rng.choice(OTHER_CONTENT)))
    start, end = _span(rng, other)
    place, _ = _span(rng, data)
    data[place : place + rng.choice((0, end - start))] = other[start:end]


def _repeat(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    start, end = _span(rng, data)
    times = rng.choice((1, 2, 10, 1000))
    if (end - start) * times <= MOST:
        data[end:end] = data[start:end] * times


def _integer(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    """An extreme integer in place of the bytes somewhere, in either byte order."""
    form = rng.choice("<>") + rng.choice("BHIQ")
    value = rng.choice(INTEGERS) & ((1 << 8 * struct.calcsize(form)) - 1)
    start, _ = _span(rng, data)
    data[start : start + struct.calcsize(form)] = struct.pack(form, value)


def _digits(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    """Another number in place of one that is written in digits."""
    found = list(re.finditer(rb"\d+(\.\d+)?", data[: 1 << 14]))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = rng.choice(DIGITS)


def _encoding(rng: random.Random, data: bytearray, __: Sequence[bytes]) -> None:
    text = data[: 1 << 16].decode("utf-8", "replace")
    form = rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig", "cp037"))
    data[:] = text.encode(form, "replace")


MUTATIONS: tuple[Mutation, ...] = (
    *(_flip_bits, _random_bytes, _truncate, _delete, _splice, _repeat, _integer, _digits, _encoding),
    *(_flip_bits, _integer, _digits),
)
