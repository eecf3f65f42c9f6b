"""Searches an image of any size for faces: over an image pyramid, in overlapping tiles, at a bounded cost."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from datamodules.finding.detectors import CONFIDENT, Detector
from datamodules.finding.names import SMALLEST

OVERVIEW = 256
"""Longer side, in pixels, of the first level: the network misses a quarter of the faces above that size."""
ONLY = 640
"""Longer side, in pixels, of the level of a detector that searches a single one."""
BEST = 96
"""The size, in pixels, at which the smallest faces are presented: of masked faces of 24 px, the detector finds 5 % at
their own size, 35 % at 48 px, 76 % at 96 px."""
SEARCHED = 20_000_000
"""Pixels of the largest level; a larger image is enlarged less, so that its smallest faces are missed."""
TILE = 960
OVERLAP = 224
"""Side of a tile and least overlap of two, in pixels: a face that is cut by one is complete in another one, or was
large enough for the level before."""
CUT = 3
"""Distance, in pixels, of a box from the edge of its tile, below which the face may be cut by it."""
COVERED = 0.2
"""Share of the image that found faces cover, from which on smaller ones are not searched for: it is a portrait."""
SAME = 0.4
"""Intersection over union of two boxes of one face."""
WITHIN = 0.6
"""Share of the smaller of two boxes of one face that lies in the other."""


def search(image: np.ndarray, detector: Detector, smallest: int | None = SMALLEST) -> np.ndarray:
    """Faces of an image, each once: left, top, right, bottom in pixels of the image, confidence: (N, 5) float64.

    Args:
        image: (H, W, 3) uint8 RGB.
        detector: the detector.
        smallest: size of the smallest faces, in pixels; None: a single level is searched.
    """
    found = np.zeros((0, 5))
    for width, height in level_sizes(image.shape[0], image.shape[1], smallest):
        if _covered(found, image.shape) > COVERED:
            break
        level = _resized(image, width, height)
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2 + [1])
        for left, top, tile in tiles(level):
            rows = detector(tile)
            rows = rows[(rows[:, 4] > CONFIDENT) & ~_is_cut(rows, tile.shape, left, top, level.shape)]
            found = np.concatenate([found, (rows + np.array([left, top, left, top, 0])) * scale])
        found = suppressed(found)
    return found


def level_sizes(height: int, width: int, smallest: int | None) -> list[tuple[int, int]]:
    """Width and height of the levels of an image: each about twice as large as the one before."""
    longer = max(height, width)
    first = last = min(1.0, (ONLY if smallest is None else OVERVIEW) / longer)
    if smallest is not None:
        last = max(first, min(BEST / smallest, (SEARCHED / (height * width)) ** 0.5))
    steps = int(np.ceil(np.log2(last / first) - 0.1))
    scales = [first * (last / first) ** (step / max(steps, 1)) for step in range(steps + 1)]
    return [(max(1, round(scale * width)), max(1, round(scale * height))) for scale in scales]


def tiles(level: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Left, top and pixels of the overlapping tiles of a level (H, W, 3)."""
    starts = [_starts(side) for side in level.shape[:2]]
    for top in starts[0]:
        for left in starts[1]:
            yield left, top, level[top : top + TILE, left : left + TILE]


def _starts(side: int) -> list[int]:
    if side <= TILE:
        return [0]
    count = -(-(side - OVERLAP) // (TILE - OVERLAP))
    return [round(place * (side - TILE) / (count - 1)) for place in range(count)]


def _is_cut(rows: np.ndarray, tile: tuple[int, ...], left: int, top: int, level: tuple[int, ...]) -> np.ndarray:
    """Which boxes (N, 5) of a tile reach an edge that is not one of the level: (N,) bool."""
    height, width = tile[:2]
    return (
        ((rows[:, 0] < CUT) & (left > 0))
        | ((rows[:, 1] < CUT) & (top > 0))
        | ((rows[:, 2] > width - CUT) & (left + width < level[1]))
        | ((rows[:, 3] > height - CUT) & (top + height < level[0]))
    )


def suppressed(rows: np.ndarray) -> np.ndarray:
    """Non-maximum suppression of boxes (N, 5): of those of one face, at any scale, the most confident stays."""
    kept: list[np.ndarray] = []
    for row in rows[np.argsort(-rows[:, 4], kind="stable")]:
        others = np.array(kept).reshape(-1, 5)
        low, high = np.maximum(others[:, :2], row[:2]), np.minimum(others[:, 2:4], row[2:4])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        areas, area = (others[:, 2:4] - others[:, :2]).prod(axis=1), (row[2:4] - row[:2]).prod()
        is_same = (shared > SAME * (areas + area - shared)) | (shared > WITHIN * np.minimum(areas, area))
        if area > 0 and not is_same.any():
            kept.append(row)
    return np.array(kept).reshape(-1, 5)


def _covered(rows: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of an image that boxes (N, 5), none of which overlap much, cover."""
    inside = np.clip(rows[:, :4], 0, np.array([shape[1], shape[0]] * 2))
    return float((inside[:, 2:] - inside[:, :2]).prod(axis=1).sum() / (shape[0] * shape[1]))


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if (height, width) == image.shape[:2]:
        return image
    smaller = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
