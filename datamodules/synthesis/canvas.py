"""The canvas: hard-edged polygons, colours and labels set by one and the same mask, larger than the picture to be.

Each part is rasterised once, unsmoothed, on a canvas `SUPERSAMPLING` times as wide as the picture, and that one mask
sets colours and labels alike. In the end colours are averaged down and labels put to the vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

SUPERSAMPLING = 2
SOFTNESS = 4  # light, relief and beards are smooth: they are computed on a grid this many times coarser


class Canvas:
    """Colours float32 (side, side, 3) in 0..255 and labels uint8 (side, side), painted from back to front."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.rgb = np.zeros((side, side, 3), np.float32)
        self.label = np.zeros((side, side), np.uint8)

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """Union of polygons (N, 2), in canvas pixels, as a mask of 0 and 255; nothing is smoothed."""
        mask = np.zeros((self.side, self.side), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [_fixed_point(polygon)], 255, shift=4)
        return mask

    def lines(self, curves: Sequence[np.ndarray], width: float, closed: bool = False) -> np.ndarray:
        """Curves (N, 2), in canvas pixels as is their `width`, as a mask of 0 and 255."""
        mask = np.zeros((self.side, self.side), np.uint8)
        cv2.polylines(mask, [_fixed_point(c) for c in curves], closed, 255, max(1, round(width)), shift=4)
        return mask

    def paint(self, mask: np.ndarray, colour: Any, label: int | None = None, alpha: Any = 1.0, gain: Any = 1.0) -> None:
        """Lays a colour (3,) or a picture (side, side, 3), times `gain`, over the mask.

        `gain` and `alpha` are numbers or fields (side, side). Without `label` the labels beneath stay.
        """
        x, y, w, h = cv2.boundingRect(mask)
        if w == 0:
            return
        box = np.s_[y : y + h, x : x + w]
        gain, alpha = (v[box] if isinstance(v, np.ndarray) else np.full((h, w), v, np.float32) for v in (gain, alpha))
        if np.ndim(colour) == 3:
            source = colour[box] * cv2.merge([gain] * 3)
        else:
            source = cv2.merge([gain * np.float32(c) for c in colour])
        beneath = self.rgb[box]
        cv2.copyTo(beneath + (source - beneath) * cv2.merge([alpha] * 3), mask[box], beneath)
        if label is not None:
            self.label[box][mask[box] > 0] = label

    def shrunk(self) -> tuple[np.ndarray, np.ndarray]:
        """Averaged colours float32 (size, size, 3) and voted labels uint8 (size, size) at the picture's size."""
        size = self.side // SUPERSAMPLING
        return cv2.resize(self.rgb, (size, size), interpolation=cv2.INTER_AREA), _majority(self.label)


def _majority(label: np.ndarray) -> np.ndarray:
    """Most frequent id of each 2 x 2 block, (2n, 2n) -> (n, n); never an id that is not there."""
    a, b, c, d = label[::2, ::2], label[::2, 1::2], label[1::2, ::2], label[1::2, 1::2]
    return np.where((b == c) | (b == d), b, np.where(c == d, c, a))


class SoftGrid:
    """A grid `SOFTNESS` times coarser than a canvas `side` pixels wide; fields on it are (cells, cells)."""

    def __init__(self, side: int) -> None:
        self.side, self.cells = side, -(-side // SOFTNESS)

    def area(self, polygons: Sequence[np.ndarray], blur: float) -> np.ndarray:
        """Union of polygons (N, 2) as a field float32 in 0..1; polygons and `blur` in canvas pixels."""
        area = np.zeros((self.cells, self.cells), np.float32)
        for polygon in polygons:
            cv2.fillPoly(area, [_fixed_point(polygon / SOFTNESS)], 1.0, shift=4)
        return cv2.GaussianBlur(area, (0, 0), max(blur / SOFTNESS, 0.3))

    def enlarge(self, coarse: np.ndarray) -> np.ndarray:
        """A field (cells, cells) or (cells, cells, 3) on the canvas: float32 (side, side) or (side, side, 3)."""
        fine = cv2.resize(coarse.astype(np.float32), None, fx=SOFTNESS, fy=SOFTNESS)
        return fine[: self.side, : self.side]


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.rint((points - 0.5) * 16).astype(np.int32)


def hull(points: np.ndarray) -> np.ndarray:
    """The convex hull of points (N, 2), float32 (M, 2)."""
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def rounded(points: np.ndarray, rounds: int = 2) -> np.ndarray:
    """A closed polygon (N, D) with its corners cut `rounds` times (Chaikin), (N * 2**rounds, D)."""
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1)
        points = cut.reshape(-1, points.shape[1])
    return points


def roughened(rng: np.random.Generator, polygon: np.ndarray, amount: float) -> np.ndarray:
    """A closed polygon (N, 2) whose edge is frayed by about `amount` of its radius, (8 * N, 2)."""
    steps = (np.roll(polygon, -1, axis=0) - polygon)[:, None] * np.linspace(0, 1, 8, endpoint=False)[:, None]
    dense = (polygon[:, None] + steps).reshape(-1, 2)
    wave = np.zeros(len(dense))
    for bumps in (7, 23, 61):
        knots = rng.standard_normal(bumps)
        knots = np.append(knots, knots[0])
        wave += np.interp(np.linspace(0, bumps, len(dense), endpoint=False), np.arange(bumps + 1), knots)
    centre = polygon.mean(axis=0)
    return centre + (dense - centre) * (1 + 0.7 * amount * wave)[:, None]


def noise(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise float32 (side, side), about standard normal, with `cells` bumps across."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
