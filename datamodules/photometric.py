"""Strong photometric augmentation, with which a parser of synthetic faces generalises to photographs."""

from __future__ import annotations

from typing import Any

import albumentations as A
import cv2
import numpy as np

GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Shares of red, green and blue in the luminance (ITU-R BT.601)."""


class Photometric(A.ImageOnlyTransform):
    """Random illumination, colour and camera of an image; its geometry stays.

    At strength 1: gain of each channel ±50 %, gamma exp(±0.5), brightness, contrast and saturation ±70 %, a smooth
    field of light ±60 % (p 0.5), grey (p 0.15), Gaussian blur of up to a hundredth of the side (p 0.3) and noise of up
    to 8 % of the range (p 0.5). All ranges and probabilities grow linearly with the strength.

    Args:
        strength: 0..1.
    """

    def __init__(self, strength: float) -> None:
        super().__init__(p=1.0)
        self.strength = strength

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:  # noqa: ARG002
        """RGB image (H, W, 3) uint8 -> the same shape and type."""
        rng, strength = self.random_generator, self.strength

        def change(largest: float, *shape: int) -> np.ndarray:
            return rng.uniform(-largest * strength, largest * strength, shape).astype(np.float32)

        def happens(probability: float) -> bool:
            return bool(rng.random() < probability * strength)

        pixels = img.astype(np.float32) / 255
        pixels = (pixels * (1 + change(0.5, 3))).clip(0, 1) ** np.exp(change(0.5))
        brightness, contrast, saturation = 1 + change(0.7, 3)
        pixels = pixels * brightness
        mean = float((pixels @ GREY).mean())
        pixels = mean + contrast * (pixels - mean)
        grey = (pixels @ GREY)[..., None]
        pixels = grey + (0.0 if happens(0.15) else saturation) * (pixels - grey)
        if happens(0.5):
            pixels = pixels * (1 + _smooth_field(change(0.6, 3, 3), img.shape[:2]))[..., None]
        if happens(0.3):
            pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.3, max(0.4, max(img.shape) / 100))))
        if happens(0.5):
            pixels = pixels + rng.normal(0, rng.uniform(0, 0.08), pixels.shape).astype(np.float32)
        return (pixels.clip(0, 1) * 255).round().astype(np.uint8)


def _smooth_field(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A few values (h, w), interpolated to (H, W)."""
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
