"""Estimates a photograph's lighting from its pixels, so that rendered masks match it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from synthesis.masks.shapes import Face


@dataclass(frozen=True)
class Lighting:
    """Light and camera noise of a photograph.

    Args:
        gain: float32 (3,): exposure and, in part, the colour of the light.
        slope: relative increase of the light per face width, to the right and downwards.
        middle: (2,), reference point of the slope, in pixels.
        grain: standard deviation of the noise, on a scale of 255.
    """

    gain: np.ndarray
    slope: np.ndarray
    middle: np.ndarray
    grain: float

    @staticmethod
    def of(image: np.ndarray, face: Face) -> Lighting:
        """Lighting of an image (H, W, 3) uint8."""
        step = max(1, min(image.shape[:2]) // 32)
        small = image[::step, ::step].reshape(-1, 3).astype(np.float32)
        bright = small @ np.full(3, 1 / 3, np.float32)
        order = np.argsort(bright)
        exposure = np.clip(float(bright[order[int(0.94 * len(order))]]) / 215, 0.25, 1.05)
        lit = small[order[len(order) // 2 :]].mean(axis=0) + 1
        cast = (lit / lit.mean()) ** 0.35  # in part: most of what is bright is skin
        points = face.points[[*range(1, 16), 27, 29, 31, 35, 41, 46]]
        around = points + 0.12 * (face.points[30] - points)  # off the contour, on skin
        reach = max(1, round(0.06 * face.width))
        low = np.floor(around.min(axis=0)).astype(int) - reach
        high = np.ceil(around.max(axis=0)).astype(int) + reach + 1
        low, high = np.maximum(low, 0), np.minimum(high, image.shape[1::-1])
        middle = around.mean(axis=0)
        if (high - low < 3).any():
            return Lighting(exposure * cast, np.zeros(2), middle, 0.0)
        grey = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
        smooth = cv2.blur(grey, (2 * reach + 1, 2 * reach + 1))
        x, y = np.clip(np.rint(around - low).astype(int), 0, high - low - 1).T
        rows = np.column_stack([(around - middle) / face.width, np.ones(len(around))])
        slope = np.linalg.lstsq(rows, smooth[y, x].astype(np.float64), rcond=None)[0]
        residue = cv2.absdiff(grey, cv2.blur(grey, (3, 3)))
        return Lighting(exposure * cast, slope[:2] / max(slope[2], 8.0), middle, float(np.clip(residue.mean(), 0, 5)))
