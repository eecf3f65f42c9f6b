"""Renders face masks during training: each time a photograph is read, its faces get other masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthesis.masked_faces.config import choices_of
from synthesis.masks.choices import MaskChoices, choose_mask
from synthesis.masks.rendering import render_mask


@dataclass(frozen=True)
class RandomMaskRenderer:
    """Renders random face masks on a photograph; it is pickled to loader processes.

    Args:
        choices: mask types, textures and wearing styles, and how often each is rendered.
    """

    choices: MaskChoices

    @staticmethod
    def as_built(parameters: Mapping[str, Any]) -> RandomMaskRenderer:
        """A renderer with the choices of a built data set, see :meth:`MaskedFacesConfig.parameters`.

        Raises:
            ConfigError: if its templates no longer exist.
        """
        return RandomMaskRenderer(choices_of(parameters))

    def __call__(
        self, rng: np.random.Generator, image: np.ndarray, landmarks: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Render a mask on each face.

        Args:
            rng: random choice of the masks; advanced by the same amount for each face.
            image: (H, W, 3) uint8 RGB; not modified.
            landmarks: of each face, (68, 2), in pixels.

        Returns:
            The image with masks (H, W, 3) uint8, and the occlusion mask (H, W) uint8, 0 or 255.
        """
        occlusion = np.zeros(image.shape[:2], np.uint8)
        for points in landmarks:
            image, occluded = render_mask(image, points, choose_mask(rng, points, self.choices), self.choices)
            occlusion |= occluded
        return image, occlusion
