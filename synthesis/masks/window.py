"""A window of a photograph, into which layers are blended from back to front, each with its own opacity."""

from __future__ import annotations

import cv2
import numpy as np

from synthesis.masks.lighting import Lighting
from synthesis.masks.shapes import COLUMNS, ROWS
from synthesis.raster import grid_triangles, rasterise


class Window:
    """The part of an image that a mask covers; every operation costs only the window's size.

    Args:
        image: the full image, (H, W, 3) uint8; changed by :meth:`put`.
        x, y, right, low: the window's edges; right and bottom edge are one beyond it.
        unit: width of the face, in pixels.
    """

    def __init__(self, image: np.ndarray, x: int, y: int, right: int, low: int, unit: float) -> None:
        self.unit, self.blur = unit, float(np.clip(unit / 420, 0.45, 1.3))
        self.box = np.s_[y:low, x:right]
        self.corner = np.array([x, y], np.float64)
        self.target = image[self.box]
        self.rgb: np.ndarray = self.target.astype(np.float32)
        self.shape = self.rgb.shape[:2]
        self.clear = np.ones(self.shape, np.float32)

    @staticmethod
    def around(image: np.ndarray, points: np.ndarray, unit: float) -> Window | None:
        """The window around points (N, 2) of a face ``unit`` pixels wide; None if it is outside the image."""
        margin = 3 + 0.06 * unit
        x, y = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int)
        right, low = np.minimum(np.ceil(points.max(axis=0) + margin), image.shape[1::-1]).astype(int)
        return Window(image, x, y, right, low, unit) if right - x >= 2 and low - y >= 2 else None

    def filled(self, outlines: list[np.ndarray], blur: float | None = None) -> np.ndarray:
        """Coverage float32 (h, w) in 0..1 of polygons (N, 2), with soft edges, `blur` pixels wide if it is given."""
        cover = np.zeros(self.shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(cover, [self._fixed(outline)], 255, cv2.LINE_AA, shift=4)
        return cv2.GaussianBlur(cover.astype(np.float32) * np.float32(1 / 255), (0, 0), blur or self.blur)

    def lines(self, curves: list[np.ndarray], width: float) -> np.ndarray:
        """Coverage of curves (N, 2), in proportion for those thinner than a pixel."""
        cover = np.zeros(self.shape, np.uint8)
        for curve in curves:
            cv2.polylines(cover, [self._fixed(curve)], False, 255, max(1, round(width)), cv2.LINE_AA, shift=4)
        share = np.float32(min(1.0, width) / 255)
        return cv2.GaussianBlur(cover.astype(np.float32) * share, (0, 0), 0.7 * self.blur)

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        # Fixed-point coordinates are limited; far outside the window positions make no difference.
        return np.rint(np.clip(points - self.corner, -4000, 8000) * 16).astype(np.int32)

    def shadow(self, outline: np.ndarray, blur: float, cover: np.ndarray) -> None:
        """Darken the surroundings of a layer with coverage ``cover``: its shadow on the face."""
        dark = self.filled([outline], max(blur, 0.5)) * np.float32(0.3)
        left = 1 - dark * (1 - cover)
        self.rgb = cv2.multiply(self.rgb, cv2.merge([left, left, left]))

    def light(self, lighting: Lighting) -> np.ndarray:
        """The photograph's own light over the window, float32 (h, w) around 1."""
        down, across = (np.arange(count, dtype=np.float32) for count in self.shape)
        (slope_x, slope_y), (x, y) = 0.8 * lighting.slope, lighting.middle - self.corner
        field = 1 + (across - x) * (slope_x / self.unit) + ((down - y) * (slope_y / self.unit))[:, None]
        return np.clip(field, 0.45, 1.5).astype(np.float32)

    def over(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u and v, each (h, w) from 0 to 1, at each pixel beneath a grid (ROWS, COLUMNS, 2); 0 elsewhere."""
        middle = grid.mean(axis=(0, 1))
        points = middle + 1.06 * (grid - middle) - self.corner  # a little wider than the outline
        raster = np.zeros((max(self.shape),) * 2 + (3,), np.float32)
        rasterise(points.reshape(-1, 2), _FLAT, _CORNERS, _TRIANGLES, raster)
        u, v, _ = cv2.split(raster)
        return u[: self.shape[0], : self.shape[1]], v[: self.shape[0], : self.shape[1]]

    def lay(self, opacity: np.ndarray, colours: np.ndarray) -> None:
        """Blend colours (h, w, 3) or (3,) in 0..255 over the window, by opacity (h, w)."""
        source = colours if colours.ndim == 3 else np.broadcast_to(colours, self.rgb.shape).astype(np.float32)
        self.rgb = cv2.blendLinear(self.rgb, source, 1 - opacity, opacity)
        self.clear *= 1 - opacity

    def put(self, ground_truth: np.ndarray | None) -> None:
        """Write the window into the image, and 255 into the ground truth where the layers' opacity is 0.5 or more.

        Layers that do not count as occlusion leave the ground truth as it is (``ground_truth`` None).
        """
        self.target[:] = cv2.convertScaleAbs(self.rgb)
        if ground_truth is not None:
            ground_truth[self.box][self.clear <= 0.5] = 255


_TRIANGLES = grid_triangles(ROWS, COLUMNS)
_V, _U = np.mgrid[0 : 1 : ROWS * 1j, 0 : 1 : COLUMNS * 1j]
_CORNERS = np.stack([_U, _V, np.ones_like(_U)], axis=-1).reshape(-1, 3).astype(np.float32)
_FLAT = np.full(ROWS * COLUMNS, 30.0)  # all equally far away
