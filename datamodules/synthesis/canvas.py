"""The canvas: hard-edged polygons; one and the same mask sets the colours, the labels and the part masks.

Each part is rasterised once, unsmoothed and in fixed point (so labels are the same on any machine), on a grid
`SUPERSAMPLING` times as fine as the picture. Labels are put to the vote there; colours are blended on the picture
itself, by the share of each pixel that the mask covers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

SUPERSAMPLING = 2
SOFTNESS = 4  # light, relief and beards are smooth: they are computed on a grid this many times coarser than the masks


class Canvas:
    """A picture painted from back to front.

    Masks and labels are `side` = `SUPERSAMPLING` * `size` wide; `rgb` is float32 (size, size, 3) in 0..255, and
    so are all fields of colour, opacity and gain.
    """

    def __init__(self, side: int) -> None:
        self.side, self.size = side, side // SUPERSAMPLING
        self.rgb = np.zeros((self.size, self.size, 3), np.float32)
        self.label = np.zeros((side, side), np.uint8)
        self.parts: dict[str, np.ndarray] = {}

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """Union of polygons (N, 2), in canvas pixels, as a mask of 0 and 255; nothing is smoothed."""
        mask = np.zeros((self.side, self.side), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [_fixed_point(polygon)], 255, shift=4)
        return mask

    def lines(self, curves: Sequence[np.ndarray] | np.ndarray, width: float, closed: bool = False) -> np.ndarray:
        """Curves (N, 2), in canvas pixels as is their `width`, as a mask of 0 and 255."""
        mask = np.zeros((self.side, self.side), np.uint8)
        fixed = list(_fixed_point(curves)) if isinstance(curves, np.ndarray) else [_fixed_point(c) for c in curves]
        cv2.polylines(mask, fixed, closed, 255, max(1, round(width)), shift=4)
        return mask

    def paint(self, mask: np.ndarray, colour: Any, label: int | None = None, alpha: Any = 1.0, gain: Any = 1.0) -> None:
        """Lays a colour (3,) or a picture (size, size, 3), times `gain`, over the mask.

        `gain` and `alpha` are numbers or fields (size, size). Without `label` the labels beneath stay.
        """
        x, y, w, h = cv2.boundingRect(mask)
        if w == 0:
            return
        if label is not None:
            self.label[y : y + h, x : x + w][mask[y : y + h, x : x + w] > 0] = label
        x, y, right, low = x // 2, y // 2, (x + w + 1) // 2, (y + h + 1) // 2
        box = np.s_[y:low, x:right]
        covered = cv2.resize(
            mask[2 * y : 2 * low, 2 * x : 2 * right], (right - x, low - y), interpolation=cv2.INTER_AREA
        )
        opacity = covered * np.float32(1 / 255)
        opacity *= alpha[box] if isinstance(alpha, np.ndarray) else np.float32(alpha)
        beneath = self.rgb[box]
        if np.ndim(colour) == 3 and not isinstance(gain, np.ndarray):
            source = colour[box] if gain == 1.0 else colour[box] * np.float32(gain)
        else:
            gains = gain[box] if isinstance(gain, np.ndarray) else np.full(opacity.shape, gain, np.float32)
            source = (
                cv2.merge([gains] * 3) * colour[box]
                if np.ndim(colour) == 3
                else cv2.merge([gains * np.float32(c) for c in colour])
            )
        self.rgb[box] = cv2.blendLinear(beneath, source, 1 - opacity, opacity)

    def keep(self, part: str, mask: np.ndarray, hides: Iterable[str] = ()) -> None:
        """Adds a mask to a part's own, and takes it away from the parts that it `hides`."""
        for hidden in hides:
            if hidden in self.parts:
                self.parts[hidden] = cv2.subtract(self.parts[hidden], mask)
        if part:
            self.parts[part] = cv2.bitwise_or(self.parts[part], mask) if part in self.parts else mask

    def voted_label(self) -> np.ndarray:
        """Labels uint8 (size, size): the most frequent id of each pixel's samples."""
        return _majority(self.label)

    def part_masks(self) -> dict[str, np.ndarray]:
        """The parts that are seen, bool (size, size): pixels of which a part covers half or more."""
        size = (self.size, self.size)
        shrunk = {part: cv2.resize(m, size, interpolation=cv2.INTER_AREA) >= 127 for part, m in self.parts.items()}
        return {part: mask for part, mask in shrunk.items() if mask.any()}


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
        """A field (cells, cells) or (cells, cells, 3) over the picture: float32 (size, size) or (size, size, 3)."""
        times, size = SOFTNESS // SUPERSAMPLING, self.side // SUPERSAMPLING
        return cv2.resize(coarse.astype(np.float32), None, fx=times, fy=times)[:size, :size]


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
    coarse = cells * 4 < side  # where cells are seen as such, their edges must be smooth
    return cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC if coarse else cv2.INTER_LINEAR)


@functools.cache
def _sensor() -> np.ndarray:
    """Two million draws of standard normal noise: drawing them anew would cost more than all of the skin."""
    return np.random.default_rng(0).standard_normal(1 << 21, dtype=np.float32)


def sensor_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise of a camera, standard normal float32 (size, size, 3): a random stretch of one long recording."""
    count, recording = 3 * size * size, _sensor()
    if count * 2 > len(recording):
        return rng.standard_normal((size, size, 3), dtype=np.float32)
    start = int(rng.integers(len(recording) - count))
    return recording[start : start + count].reshape(size, size, 3)
