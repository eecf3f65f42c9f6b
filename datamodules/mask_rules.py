"""What the values of binary masks mean: as the user declares it, and as it is decided for a set of masks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.labels import IGNORE, Colour

Value = int | Colour
"""A grey value or palette index, 0..255, or an RGB colour."""
Channel = Literal["colour", "index", "alpha"]
COLOUR = 256
"""Codes of colours start here; a grey value's code is the value."""


def code_of(value: Value) -> int:
    """The code of a value; a grey colour is its grey value."""
    if isinstance(value, int):
        return value
    red, green, blue = value
    return red if red == green == blue else COLOUR + (red << 16 | green << 8 | blue)


def value_of(code: int) -> Value:
    """The inverse of :func:`code_of`."""
    if code < COLOUR:
        return code
    red, green, blue = (code - COLOUR).to_bytes(3, "big")
    return red, green, blue


def text_of(code: int) -> str:
    """A value as settings write it."""
    value = value_of(code)
    return str(value) if isinstance(value, int) else str([*value]).replace(" ", "")


@dataclass(frozen=True)
class MaskRules:
    """What a user declares about the masks of a set.

    Args:
        occluded: the values of occluded pixels; None decides by the values found.
        void: the value of pixels that are neither trained on nor scored; None decides by the values found.
        invert: masks mark the visible face; all other pixels are occluded.
    """

    occluded: tuple[Value, ...] | None = None
    void: Value | None = None
    invert: bool = False


@dataclass(frozen=True)
class MaskReading:
    """How the masks of a set are read.

    Args:
        occluded: codes of occluded pixels; () for brighter ones than ``threshold``.
        void: codes of ignored pixels.
        channel: which numbers of a file count: colours, palette indices (of files with a palette), or alpha (of files
            that have it).
        threshold: brightness above which a pixel is occluded.
        brightest: whether the brightness of a colour is its largest channel, not its luminance.
        invert: exchange occluded and seen pixels at the end.
    """

    occluded: tuple[int, ...] = ()
    void: tuple[int, ...] = ()
    channel: Channel = "colour"
    threshold: int = 127
    brightest: bool = False
    invert: bool = False

    def labels_of(self, codes: np.ndarray) -> np.ndarray:
        """0 seen, 1 occluded or :data:`IGNORE` of each code or, if ``occluded`` is empty, brightness; uint8."""
        if codes.dtype == np.uint8:  # one look-up
            return self.labels_of(np.arange(256))[codes]
        occluded = np.isin(codes, self.occluded) if self.occluded else codes > self.threshold
        labels = (occluded != self.invert).astype(np.uint8)
        if self.void:
            labels[np.isin(codes, self.void)] = IGNORE
        return labels

    @property
    def digest(self) -> str:
        """Changes with the labels of any mask."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]

    def describe(self) -> str:
        """One line for messages and reports."""
        names = {"colour": "value", "index": "palette index", "alpha": "alpha"}
        occluded = " or ".join(map(text_of, self.occluded)) or f"above {self.threshold}"
        void = "".join(f", {text_of(code)} is void" for code in self.void)
        return f"occluded where the {names[self.channel]} is {'not ' * self.invert}{occluded}{void}"
