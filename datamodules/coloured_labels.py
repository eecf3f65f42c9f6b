"""Label maps as RGB images in declared colours -> class ids, by one look-up for each pixel."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.labels import IGNORE, Colour, LabelSet
from foundation.errors import BrokenFileError

COLOURED = ("RGB", "RGBA")
"""Modes of coloured label maps."""
UNDECLARED = 254
"""Id in the table of colours that belong to no class."""
SHOWN = 5
"""Undeclared colours that a message names."""


def ids_of_colours(path: Path, pixels: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Class ids, (H, W) uint8, of a label map in colours.

    Args:
        path: the file, for messages.
        pixels: (H, W, 3) or (H, W, 4) uint8; with a fourth channel, every pixel must be opaque.
        labels: the classes and their colours.

    Raises:
        BrokenFileError: if a pixel has an undeclared colour or is transparent.
    """
    if pixels.shape[2] == 4 and (clear := pixels[..., 3] != 255).any():
        raise BrokenFileError(
            f"The label map {path} has {int(clear.sum())} transparent pixels, {_place(clear)}.\n"
            f"Expected: an opaque PNG in the colours of classes.yaml."
        )
    codes = _codes(pixels)
    ids = _table(labels.palette, labels.ignored_colour)[codes]
    undeclared = ids == UNDECLARED
    if undeclared.any():
        found, counts = np.unique(codes[undeclared], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        named = [
            f"{list(int(found[index]).to_bytes(3, 'big'))} ({counts[index]} pixels, {_place(codes == found[index])})"
            for index in order[:SHOWN].tolist()
        ]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise BrokenFileError(
            f"The label map {path} has {len(found)} undeclared colours in {int(undeclared.sum())} pixels: "
            f"{', '.join(named)}{more}.\n"
            f"Expected: colours of classes.yaml alone, as {list(labels.palette[0])} for {labels.classes[0]}; saved as "
            f"PNG without smoothing (a resized or JPEG label map has mixed colours along borders)."
        )
    return ids


def require_indexed_by_id(path: Path, ids: np.ndarray, palette: Sequence[int], labels: LabelSet) -> None:
    """See that the colours of an indexed label map do not contradict its indices, which are read as class ids.

    An editor that turns a coloured label map into an indexed one numbers the colours in its own order.

    Args:
        path: the file, for messages.
        ids: (H, W) uint8, its indices.
        palette: its colours: red, green and blue of index 0, of index 1 and so on.
        labels: the classes and their colours.

    Raises:
        BrokenFileError: if every index that occurs has a declared colour, and one of them is another class's.
    """
    used = np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist()
    if not used or 3 * max(used) + 3 > len(palette):
        return
    colours = np.array([palette[3 * index : 3 * index + 3] for index in used], dtype=np.uint8)
    meant = _table(labels.palette, labels.ignored_colour)[_codes(colours)]
    wrong = np.flatnonzero(meant != used)
    if UNDECLARED in meant or not len(wrong):
        return
    index, class_id = used[wrong[0]], int(meant[wrong[0]])
    name = "ignored" if class_id == IGNORE else labels.classes[class_id]
    raise BrokenFileError(
        f"The label map {path} has index {index} in the colour {colours[wrong[0]].tolist()}, which is that of {name} "
        f"(id {class_id}).\n"
        f"Expected: indices that are class ids, or an RGB PNG; save it as RGB."
    )


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Colours (..., 3 or 4) uint8 as one number each, (...) int32."""
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


@functools.lru_cache(maxsize=2)
def _table(palette: tuple[Colour, ...], ignored: Colour | None) -> np.ndarray:
    """The id of each of the 2^24 colours, uint8 (16 MiB)."""
    table = np.full(1 << 24, UNDECLARED, dtype=np.uint8)
    table[_codes(np.array(palette))] = np.arange(len(palette))
    if ignored is not None:
        table[_codes(np.array(ignored))] = IGNORE
    return table


def _place(mask: np.ndarray) -> str:
    """Position of the first pixel of a mask (H, W)."""
    row, column = divmod(int(np.argmax(mask)), mask.shape[1])
    return f"first at x={column}, y={row}"
