"""The canvas: hard-edged polygons, each of which sets colours, labels and part masks.

Each part is rasterised once, without smoothing and in fixed point (so labels are the same on any machine), on a grid
`SUPERSAMPLING` times as fine as the image. A pixel's label is the majority of its samples; colours are blended on the
image itself, by the mask's coverage of each pixel.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

SUPERSAMPLING = 2
SOFTNESS = 4  # light, relief and beards are smooth: they are computed on a grid this many times coarser than the masks


@dataclass(frozen=True)
class Mask:
    """Mask of a part: 0 and 255 in a window of the canvas, whose corner (x, y) and size are even.

    A small part costs only its window. `a & b` is the intersection, `a | b` the union, `a - b` the difference.
    """

    pixels: np.ndarray
    x: int
    y: int

    @property
    def box(self) -> tuple[slice, slice]:
        """The window, as an index into the canvas."""
        height, width = self.pixels.shape
        return np.s_[self.y : self.y + height, self.x : self.x + width]

    @property
    def image_box(self) -> tuple[slice, slice]:
        """The window, as an index into the image."""
        height, width = self.pixels.shape
        return np.s_[self.y // 2 : (self.y + height) // 2, self.x // 2 : (self.x + width) // 2]

    def covered(self) -> np.ndarray:
        """Coverage of each image pixel in the window, uint8 0..255."""
        height, width = self.pixels.shape
        if not self.pixels.size:
            return np.zeros((height // 2, width // 2), np.uint8)
        return cv2.resize(self.pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)

    def __and__(self, other: Mask) -> Mask:
        mine, theirs, x, y = self._common(other)
        return Mask(cv2.bitwise_and(mine, theirs) if mine.size else mine, x, y)

    def __sub__(self, other: Mask) -> Mask:
        mine, theirs, x, y = self._common(other)
        if not mine.size:
            return self
        left = self.pixels.copy()
        part = left[y - self.y : y - self.y + mine.shape[0], x - self.x : x - self.x + mine.shape[1]]
        cv2.subtract(mine, theirs, dst=part)
        return Mask(left, self.x, self.y)

    def __or__(self, other: Mask) -> Mask:
        x, y = min(self.x, other.x), min(self.y, other.y)
        right = max(mask.x + mask.pixels.shape[1] for mask in (self, other))
        low = max(mask.y + mask.pixels.shape[0] for mask in (self, other))
        pixels = np.zeros((low - y, right - x), np.uint8)
        for mask in (self, other):
            if mask.pixels.size:
                pixels[mask.y - y :, mask.x - x :][: mask.pixels.shape[0], : mask.pixels.shape[1]] |= mask.pixels
        return Mask(pixels, x, y)

    def _common(self, other: Mask) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Both masks' pixels in the window that they share, and its corner."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right = min(mask.x + mask.pixels.shape[1] for mask in (self, other))
        low = min(mask.y + mask.pixels.shape[0] for mask in (self, other))
        if right <= x or low <= y:
            return np.zeros((0, 0), np.uint8), np.zeros((0, 0), np.uint8), x, y
        mine, theirs = (m.pixels[y - m.y : low - m.y, x - m.x : right - m.x] for m in (self, other))
        return mine, theirs, x, y


class Canvas:
    """An image painted from back to front.

    Masks and labels are `side` = `SUPERSAMPLING` * `size` wide; `rgb` is float32 (size, size, 3) in 0..255, and
    so are all fields of colour, opacity and gain. `labels` are the ids of the labelled parts in the label map.
    """

    def __init__(self, side: int, labels: Mapping[str, int]) -> None:
        self.side, self.size, self.labels = side, side // SUPERSAMPLING, labels
        self.rgb = np.zeros((self.size, self.size, 3), np.float32)
        self.label = np.zeros((side, side), np.uint8)
        self.parts: dict[str, Mask] = {}

    def mask(self, *polygons: np.ndarray) -> Mask:
        """Union of polygons (N, 2), in canvas pixels; nothing is smoothed."""
        fixed = [_fixed_point(polygon) for polygon in polygons]
        mask = self._window(np.concatenate(fixed), 1)
        if mask.pixels.size:
            for polygon in fixed:
                cv2.fillPoly(mask.pixels, [polygon - (16 * mask.x, 16 * mask.y)], 255, shift=4)
        return mask

    def lines(self, curves: Sequence[np.ndarray] | np.ndarray, width: float, closed: bool = False) -> Mask:
        """Curves (N, 2), in canvas pixels as is their `width`."""
        fixed = _fixed_point(np.concatenate(curves))
        thickness = max(1, round(width))
        mask = self._window(fixed, thickness)
        if mask.pixels.size:
            fixed -= np.array([16 * mask.x, 16 * mask.y], np.int32)
            ends = itertools.accumulate(map(len, curves), initial=0)
            pieces = [fixed[start:end] for start, end in itertools.pairwise(ends)]
            cv2.polylines(mask.pixels, pieces, closed, 255, thickness, shift=4)
        return mask

    def ellipses(self, boxes: Sequence[tuple[np.ndarray, float, float]], width: float | None = None) -> Mask:
        """Upright ellipses: middle, half width and half height in canvas pixels; filled, or rims of a `width`."""
        rings = [middle + (a, b) * _CIRCLE for middle, a, b in boxes]
        return self.mask(*rings) if width is None else self.lines(rings, width, closed=True)

    def _window(self, fixed: np.ndarray, margin: int) -> Mask:
        """An empty mask about points (N, 2) in sixteenths of a pixel."""
        x, y, width, height = cv2.boundingRect(fixed)
        ends = ((x >> 4) - margin, (y >> 4) - margin, (x + width >> 4) + margin + 3, (y + height >> 4) + margin + 3)
        x, y, right, low = (min(max(end, 0), self.side) // 2 * 2 for end in ends)
        return Mask(np.zeros((max(low - y, 0), max(right - x, 0)), np.uint8), x, y)

    def paint(
        self,
        mask: Mask,
        colour: Any,
        part: str | None = None,
        occludes: Iterable[str] = (),
        alpha: Any = 1.0,
        gain: Any = 1.0,
    ) -> None:
        """Paints a colour (3,) or an image (size, size, 3), times `gain`, within a mask.

        Args:
            mask: the area.
            colour: RGB in 0..255.
            part: the part whose label and mask this is; None changes colours only.
            occludes: parts whose masks lose this area. Others continue beneath it, as in human annotations.
            alpha: opacity, a number or a field (size, size) in 0..1.
            gain: a number or a field (size, size).
        """
        if not mask.pixels.size:
            return
        if part is not None:
            self.keep(mask, part, occludes)
        box = mask.image_box
        opacity = mask.covered() * np.float32(1 / 255)
        opacity *= alpha[box] if isinstance(alpha, np.ndarray) else np.float32(alpha)
        if np.ndim(colour) == 3 and not isinstance(gain, np.ndarray):
            source = colour[box] * np.float32(gain)
        elif not isinstance(gain, np.ndarray):
            source = np.empty((*opacity.shape, 3), np.float32)
            source[:] = np.multiply(colour, gain)
        elif np.ndim(colour) == 3:
            source = cv2.merge([gain[box]] * 3) * colour[box]
        else:
            source = cv2.merge([gain[box] * np.float32(c) for c in colour])
        beneath = self.rgb[box]
        cv2.blendLinear(beneath, source, 1 - opacity, opacity, dst=beneath)

    def keep(self, mask: Mask, part: str, occludes: Iterable[str] = ()) -> None:
        """Records label and mask of a part, and removes the area from the masks that it occludes; paints nothing."""
        if part in self.labels:
            cv2.copyTo(np.full_like(mask.pixels, self.labels[part]), mask.pixels, self.label[mask.box])
        for occluded in occludes:
            if occluded in self.parts:
                self.parts[occluded] -= mask
        self.parts[part] = self.parts[part] | mask if part in self.parts else mask

    def voted_label(self) -> np.ndarray:
        """Labels uint8 (size, size): the most frequent id of each 2 x 2 samples; never one that is not there."""
        a, b, c, d = (self.label[y::2, x::2].copy() for y in (0, 1) for x in (0, 1))
        return np.where((b == c) | (b == d), b, np.where(c == d, c, a))

    def part_masks(self) -> dict[str, np.ndarray]:
        """Masks of the visible parts, bool (size, size): pixels that a part covers by half or more."""
        visible = {}
        for part, mask in self.parts.items():
            covered = mask.covered() >= 127
            if covered.any():
                visible[part] = np.zeros((self.size, self.size), bool)
                visible[part][mask.image_box] = covered
        return visible


class SoftGrid:
    """A grid `SOFTNESS` times coarser than a canvas `side` pixels wide; fields on it are (cells, cells)."""

    def __init__(self, side: int) -> None:
        self.side, self.cells = side, -(-side // SOFTNESS)

    def area(self, polygon: np.ndarray, blur: float) -> np.ndarray:
        """A polygon (N, 2) as a field float32 in 0..1; polygon and `blur` in canvas pixels."""
        area = np.zeros((self.cells, self.cells), np.float32)
        cv2.fillPoly(area, [_fixed_point(polygon / SOFTNESS)], 1.0, shift=4)
        return cv2.GaussianBlur(area, (0, 0), max(blur / SOFTNESS, 0.3))

    def enlarge(self, coarse: np.ndarray) -> np.ndarray:
        """A field (cells, cells) or (cells, cells, 3) over the image: float32 (size, size) or (size, size, 3)."""
        times, size = SOFTNESS // SUPERSAMPLING, self.side // SUPERSAMPLING
        return cv2.resize(coarse.astype(np.float32), None, fx=times, fy=times)[:size, :size]


_ANGLES, _EIGHTHS = np.arange(24) * (np.pi / 12), np.arange(8)[:, None] / 8
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.rint((points - 0.5) * 16).astype(np.int32)


def hull(points: np.ndarray) -> np.ndarray:
    """The convex hull of points (N, 2), float32 (M, 2)."""
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def rounded(points: np.ndarray, rounds: int = 2) -> np.ndarray:
    """A closed polygon (N, D) with its corners cut `rounds` times (Chaikin), (N * 2**rounds, D)."""
    for _ in range(rounds):
        near, after = points, np.concatenate([points[1:], points[:1]])
        points = np.empty((2 * len(near), near.shape[1]))
        points[::2], points[1::2] = 0.75 * near + 0.25 * after, 0.25 * near + 0.75 * after
    return points


def roughened(rng: np.random.Generator, polygon: np.ndarray, amount: float) -> np.ndarray:
    """A closed polygon (N, 2) whose edge is frayed by about `amount` of its radius, (8 * N, 2)."""
    after = np.concatenate([polygon[1:], polygon[:1]])
    dense = (polygon[:, None] + (after - polygon)[:, None] * _EIGHTHS).reshape(-1, 2)
    wave = np.zeros(len(dense))
    for bumps in (7, 23, 61):
        knots = rng.standard_normal(bumps)
        knots = np.append(knots, knots[0])
        wave += np.interp(np.linspace(0, bumps, len(dense), endpoint=False), np.arange(bumps + 1), knots)
    centre = polygon.mean(axis=0)
    return centre + (dense - centre) * (1 + 0.7 * amount * wave)[:, None]


def noise(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise float32 (side, side), about standard normal, with `cells` bumps across."""
    grid = recorded_noise(rng, cells, cells)
    if cells * 8 < side:  # large cells need smooth edges
        grid = cv2.resize(grid, (4 * cells, 4 * cells), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR)


def recorded_noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal noise float32, read-only: a random stretch of one long recording."""
    count, recording = math.prod(shape), _recording()
    if count * 2 > len(recording):
        return rng.standard_normal(shape, dtype=np.float32)
    start = int(rng.integers(len(recording) - count))
    return recording[start : start + count].reshape(shape)


@functools.cache
def _recording() -> np.ndarray:
    """Two million samples of standard normal noise; to sample them for each face would cost more than its skin."""
    recording = np.random.default_rng(0).standard_normal(1 << 21, dtype=np.float32)
    recording.flags.writeable = False
    return recording
