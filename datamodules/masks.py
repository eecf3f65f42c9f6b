"""Reads binary masks, whatever their values are, and decides what these mean from all masks of a set.

Unambiguous are 0 and 255, 0 and 1, one other value or colour on black, 255 next to 0 and 1 (void), values blurred
around 0 and another one (JPEG), and alpha if it alone varies. Others are refused unless they are declared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.decoding import TOLERANCE, opaque, opened, require_range, upright, with_alpha
from datamodules.mask_rules import COLOUR, Channel, MaskReading, MaskRules, Value, code_of, text_of
from foundation.errors import BrokenFileError, DataError

FEW = 8
"""Most values of a mask that is not blurred; more of one that is are not listed."""
DARK = 32
"""Values of a blurred mask below this are black."""
BRIGHT = 200
"""A blurred mask whose most frequent other value is at least this is one of 0 and 255."""
BETWEEN = 0.1
"""Largest share of pixels in the middle between two values, in a blurred mask that has but these."""
TINT = 40
"""Difference between channels of a pixel that is coloured, not grey by JPEG."""
FULL = 65535
"""Largest number of 16 bits."""


@dataclass(frozen=True)
class MaskPixels:
    """The numbers of one mask, each (H, W): grey values as uint8, or codes as int32.

    Args:
        colour: codes of the colours, transparency left out.
        index: palette indices, of a file with a palette.
        alpha: of a file that has it.
        lossy: whether the file is a JPEG.
    """

    colour: np.ndarray
    index: np.ndarray | None = None
    alpha: np.ndarray | None = None
    lossy: bool = False

    @staticmethod
    def of(file: Image.Image) -> MaskPixels:
        """The numbers of an image of any mode.

        Raises:
            ValueError: if it has numbers of an unknown range.
        """
        lossy = file.format in ("JPEG", "MPO")
        file = upright(file)
        clear = with_alpha(file) if file.has_transparency_data else None
        if file.mode in ("I", "F") or file.mode.startswith("I;16"):
            return MaskPixels(_wide(np.asarray(file)), lossy=lossy)
        index = np.asarray(file) if file.mode == "P" else None
        alpha = None if clear is None else np.asarray(clear.getchannel("A"))
        if file.mode in ("L", "1", "LA", "La"):
            return MaskPixels(np.asarray(opaque(file, "L")), index, alpha, lossy)
        return MaskPixels(_codes(np.asarray(opaque(clear or file, "RGB"))), index, alpha, lossy)

    def channel(self, name: Channel) -> np.ndarray:
        """The numbers that count, see :class:`MaskReading`."""
        own = {"index": self.index, "alpha": self.alpha}.get(name)
        return self.colour if own is None else own

    def read(self, reading: MaskReading) -> np.ndarray:
        """0 seen, 1 occluded, 255 ignored: (H, W) uint8."""
        codes = self.channel(reading.channel)
        return reading.labels_of(codes if reading.occluded else brightness(codes, reading.brightest))


def _wide(numbers: np.ndarray) -> np.ndarray:
    """Masks of 16 or 32 bits in 8: ids and 0 and 255 stay, the full range is scaled, as are floats of 0 to 1.

    The largest number next to ids alone is void and stays that: 255.
    """
    require_range(numbers)
    most = float(numbers.max(initial=0))
    if numbers.dtype.kind == "f" and most <= 1 + TOLERANCE:
        numbers = numbers * 255
    elif most == FULL and 0 < numbers.max(initial=0, where=numbers < FULL) < DARK:
        numbers = np.where(numbers < FULL, numbers, 255)
    scaled = numbers if numbers.max(initial=0) <= 255 + TOLERANCE else numbers / 257
    return scaled.round().clip(0, 255).astype(np.uint8)


def _codes(pixels: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) as codes, (H, W): uint8 if all are grey, else int32."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    grey = (red == green) & (green == blue)
    if grey.all():
        return red
    wide = pixels.astype(np.int32)
    return np.where(grey, wide[..., 0], COLOUR + (wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]))


def _rgb(codes: np.ndarray) -> np.ndarray:
    """Codes (n,) -> RGB (n, 3)."""
    colours = codes - COLOUR
    return np.where((codes < COLOUR)[:, None], codes[:, None], np.stack([colours >> s & 255 for s in (16, 8, 0)], 1))


def brightness(codes: np.ndarray, brightest: bool) -> np.ndarray:
    """The brightness of codes (H, W), uint8: grey values, and luminance or the largest channel of colours."""
    if codes.dtype == np.uint8:
        return codes
    rgb = _rgb(codes.ravel()).astype(np.uint8).reshape(*codes.shape, 3)
    return rgb.max(axis=2) if brightest else np.asarray(Image.fromarray(rgb).convert("L"))


@dataclass(frozen=True)
class Found:
    """The values of one channel of one mask, or of several.

    Args:
        counts: pixels of each code, of masks that are not blurred.
        levels: (256,) pixels of each brightness, the largest channel, of blurred masks.
        tinted: pixels of blurred masks that have a colour.
        hues: the mean colour of the bright pixels of each blurred mask in colours, 0..1; and the share that differs.
        lossy: whether all blurred masks are JPEGs.
    """

    counts: Counter[int] = field(default_factory=Counter)
    levels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    tinted: int = 0
    hues: tuple[tuple[np.ndarray, float], ...] = ()
    lossy: bool = True

    @staticmethod
    def of(codes: np.ndarray, lossy: bool) -> Found:
        """Count the values of a mask (H, W)."""
        if codes.dtype == np.uint8:
            levels = np.bincount(codes.ravel(), minlength=256)
            values = np.flatnonzero(levels)
            if _is_exact(values, lossy):
                return Found(Counter(dict(zip(values.tolist(), levels[values].tolist(), strict=True))))
            return Found(levels=levels, lossy=lossy)
        values, counts = np.unique(codes, return_counts=True)
        colours = _rgb(values)
        if _is_exact(colours.max(axis=1), lossy):
            return Found(Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))))
        brightest = colours.max(axis=1)
        levels = np.bincount(brightest, counts, 256).astype(np.int64)
        tinted = int(counts[brightest - colours.min(axis=1) > TINT].sum())
        marked = brightest >= max(DARK, 2 * _peak(levels) // 3)
        hues = colours[marked] / brightest[marked, None]
        mean = np.average(hues, axis=0, weights=counts[marked])
        others = counts[marked][(np.abs(hues - mean) > 1 / 3).any(axis=1)].sum() / counts[marked].sum()
        return Found(levels=levels, tinted=tinted, hues=((mean, float(others)),), lossy=lossy)

    @staticmethod
    def all_of(found: Iterable[Found]) -> Found:
        """The values of several masks."""
        every = list(found)
        counts: Counter[int] = Counter()
        for one in every:
            counts.update(one.counts)
        return Found(
            counts,
            np.sum([one.levels for one in every], axis=0) if every else np.zeros(256, np.int64),
            sum(one.tinted for one in every),
            tuple(hue for one in every for hue in one.hues),
            all(one.lossy for one in every if one.levels.any()),
        )

    @property
    def blurred(self) -> bool:
        return bool(self.levels.any())

    def describe(self) -> str:
        """The most frequent values, each with its share of the pixels."""
        total = self.counts.total() + int(self.levels.sum())
        shown = [f"{text_of(code)} ({100 * count / total:.1f} %)" for code, count in self.counts.most_common(FEW)]
        more = len(self.counts) - FEW
        if more > 0:
            shown.append(f"{more} more")
        if self.blurred:
            levels = np.flatnonzero(self.levels)
            shown.append(f"a range of {levels[0]} to {levels[-1]} ({100 * self.levels.sum() / total:.1f} %)")
        return ", ".join(shown)


def _is_exact(values: np.ndarray, lossy: bool) -> bool:
    if values.max(initial=0) <= DARK:
        return True
    smoothed = len(set(values[(values > DARK) & (values < 255 - DARK)].tolist())) > 2 and values.max() == 255
    return len(values) <= FEW and not lossy and not smoothed


def _peak(levels: np.ndarray) -> int:
    """The most frequent brightness that is not black; 0 if all pixels are."""
    return int(levels[DARK + 1 :].argmax()) + DARK + 1 if levels[DARK + 1 :].any() else 0


@dataclass(frozen=True)
class MaskFile:
    """What one mask contributes to the decision.

    Args:
        colour: values of its colours.
        index: of its palette indices, or None.
        alpha: of its alpha, or None.
        marks: whether a varying alpha says what is occluded: True if alone or as the colours do; None if alpha is
            constant, or absent.
    """

    colour: Found
    index: Found | None = None
    alpha: Found | None = None
    marks: bool | None = None

    @staticmethod
    def of(pixels: MaskPixels) -> MaskFile:
        marks: bool | None = None
        if pixels.alpha is not None and pixels.alpha.min() != pixels.alpha.max():
            seen = pixels.colour[pixels.alpha > 0]
            marks = bool((seen == seen[0]).all()) or bool(np.array_equal(pixels.colour != 0, pixels.alpha > 127))
        index, alpha = (None if part is None else Found.of(part, False) for part in (pixels.index, pixels.alpha))
        return MaskFile(Found.of(pixels.colour, pixels.lossy), index, alpha, marks)

    def channel(self, name: Channel) -> Found:
        own = {"index": self.index, "alpha": self.alpha}.get(name)
        return self.colour if own is None else own

    @property
    def contradicts_alpha(self) -> bool:
        """Whether its colours mark other pixels than its alpha does."""
        varies = self.colour.blurred or len(self.colour.counts) > 1
        return self.marks is False or (self.marks is None and self.alpha is not None and varies)


class AmbiguousMaskError(DataError):
    """Masks whose values do not say which pixels are occluded."""


def decide(files: Sequence[MaskFile], rules: MaskRules, where: str) -> MaskReading:
    """How masks are read, from the values of all of them and what is declared.

    Args:
        files: the masks.
        rules: what is declared.
        where: what they are, for messages: ``The masks of <folder>``.

    Raises:
        AmbiguousMaskError: if they can mean more than one thing.
    """
    has_alpha = any(file.marks is not None for file in files)
    if rules.occluded is not None:
        reading = _declared(files, rules)
    elif has_alpha:
        agree = not any(file.contradicts_alpha for file in files)
        found = Found.all_of(file.channel("alpha") for file in files)
        reading = _of_values(found, rules.void) if agree else None
        reading = reading and replace(reading, channel="alpha")
    else:
        colours = Found.all_of(file.colour for file in files)
        reading = _of_values(colours, rules.void)
        if reading is None and any(file.index is not None for file in files):
            reading = _of_values(Found.all_of(file.channel("index") for file in files), rules.void)
            reading = reading and replace(reading, channel="index")
    if reading is None:
        raise _ambiguous(files, rules, where, has_alpha)
    return replace(reading, invert=rules.invert)


def _of_values(found: Found, void: Value | None) -> MaskReading | None:
    """How masks of these values are read; None if that is not clear."""
    declared = () if void is None else (code_of(void),)
    values = {code for code in found.counts if code} - {*declared}
    if found.blurred:
        return None if declared else _of_levels(found, values)
    if values == {1, 255} and not declared:
        return MaskReading((1,), (255,))
    if len(values) == 1 and values != {255}:
        return MaskReading(tuple(values), declared)
    # Nearly 0 and 255: values that are neither ids nor void, as of a mask that was resized.
    black, white = {v for v in values if v < DARK}, {v for v in values if 255 - DARK < v < 256}
    if values == white or (values == black | white and white - {255}):
        return MaskReading((255,) if declared and declared[0] >= COLOUR else (), declared)
    return None


def _of_levels(found: Found, values: set[int]) -> MaskReading | None:
    """How blurred masks are read, next to others of these values; None if that is not clear."""
    peak, total = _peak(found.levels), int(found.levels.sum())
    middle = found.levels[64:192] if peak >= BRIGHT else found.levels[peak // 4 : 3 * peak // 4]
    third = middle.max(initial=0) > max(0.03 * total, 0.5 * middle.sum())  # one value in the middle, not a border
    if middle.sum() > BETWEEN * total or third:
        return None
    coloured = found.tinted > 0.01 * total
    if coloured:
        hues = np.array([hue for hue, _ in found.hues])
        if max(others for _, others in found.hues) > BETWEEN or (hues.max(axis=0) - hues.min(axis=0) > 1 / 3).any():
            return None
    if peak >= BRIGHT:
        white = (_rgb(np.array([*values], dtype=np.int64)) > 255 - DARK).all()
        return MaskReading(brightest=coloured) if white else None
    above = found.levels[min(255, peak + DARK) :].sum()
    if not found.lossy or above > 0.01 * total or any(abs(value - peak) > DARK // 2 for value in values):
        return None
    return MaskReading(threshold=peak // 2, brightest=coloured)


def _declared(files: Sequence[MaskFile], rules: MaskRules) -> MaskReading | None:
    """How masks are read whose occluded values are declared; None if they are too blurred for it."""
    occluded = tuple(code_of(value) for value in rules.occluded or ())
    indices = Found.all_of(file.index for file in files if file.index is not None)
    by_index = bool(indices.counts or indices.blurred) and all(code < COLOUR for code in occluded)
    greys = Found.all_of(file.colour for file in files)
    if by_index and not any(code in indices.counts for code in occluded) and any(c in greys.counts for c in occluded):
        by_index = False  # a palette of greys: the declared ones are colours
    found = Found.all_of(file.channel("index" if by_index else "colour") for file in files)
    if found.blurred:
        if len(occluded) != 1 or rules.void is not None:
            return None
        # White is declared: what is nearly black is noise, and no id.
        read = _of_levels(found, {code for code in found.counts if code >= (DARK if occluded[0] >= BRIGHT else 1)})
        if read is None:
            return None
        return read if occluded[0] > read.threshold else None
    void = None if rules.void is None else code_of(rules.void)
    others = {*found.counts} - {255}
    ids = all(code < DARK for code in others) and not others <= {*occluded}  # else 255 is the visible face
    if void is None and ids and 255 in found.counts and 255 not in occluded:
        void = 255  # next to ids
    return MaskReading(occluded, () if void is None else (void,), "index" if by_index else "colour")


def _ambiguous(files: Sequence[MaskFile], rules: MaskRules, where: str, has_alpha: bool) -> AmbiguousMaskError:
    found = Found.all_of(file.colour for file in files)
    indexed = any(file.index is not None for file in files)
    parts = [f"values {found.describe()}"]
    if indexed:
        parts.append(f"palette indices {Found.all_of(file.channel('index') for file in files).describe()}")
    if has_alpha:
        parts.append(f"alpha {Found.all_of(file.channel('alpha') for file in files).describe()}")
    counts = Found.all_of(file.channel("index") for file in files).counts if indexed else found.counts
    rarest = [code for code, _ in counts.most_common() if code not in (0, 255)]
    example = text_of(rarest[-1] if rarest else 255)
    return AmbiguousMaskError(
        f"{where} do not say which pixels are occluded: {'; '.join(parts)}.\n"
        f"Expected: 0 and 255, 0 and 1, or one colour on black; 255 next to 0 and 1 is void. Say which values are "
        f"occluded: mask.occluded=[{example}], with mask.void=255 if there are pixels to ignore, or mask.invert=true "
        f"if masks mark the visible face (train.py: datamodule.mask.occluded=...)."
        + (" Blurred masks must be saved as PNG without smoothing." if found.blurred else "")
        + (f" mask.occluded={[*(rules.occluded or ())]} does not fit." if rules.occluded is not None else "")
    )


def opened_mask(path: Path) -> AbstractContextManager[Image.Image]:
    """An open mask; see :func:`datamodules.decoding.opened`."""
    expected = "Expected: an image, white where the face is occluded; replace the file or remove the face."
    return opened(path, f"Cannot read the mask {path}", expected)


def survey_of(path: Path) -> MaskFile | None:
    """What a mask contributes to the decision of its set; None if it cannot be read."""
    try:
        with opened_mask(path) as file:
            return MaskFile.of(MaskPixels.of(file))
    except BrokenFileError:  # named where it is read
        return None


def read_mask(path: Path, reading: MaskReading | None = None) -> np.ndarray:
    """A binary mask, (H, W) uint8: 0 seen, 1 occluded, 255 ignored.

    Args:
        path: an image of any mode.
        reading: how the masks of its set are read, see :mod:`datamodules.mask_survey`; None decides by this one alone.

    Raises:
        BrokenFileError: if the file cannot be read.
        AmbiguousMaskError: if its values can mean more than one thing.
    """
    with opened_mask(path) as file:
        pixels = MaskPixels.of(file)
        if reading is None:
            reading = decide([MaskFile.of(pixels)], MaskRules(), f"The pixels of the mask {path}")
        return pixels.read(reading)
