"""The patches that hide parts of a face, drawn with the sample (Proposed MTL pre-training stage)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Masking:
    """What patches are drawn; all lengths in pixels of the network's input.

    Args:
        count: patches per picture (128 in the paper). They may overlap, and must: 128 patches of the paper's sizes
            hold three times the pixels of the central box.
        sides: smallest and largest side.
        region: first and one-past-last pixel, along both axes, of the square that holds every patch whole.
    """

    count: int
    sides: tuple[int, int]
    region: tuple[int, int]


def draw_patches(rng: np.random.Generator, masking: Masking) -> np.ndarray:
    """Square patches, sides and places uniform: (count, 3) int64 of top, left, side."""
    start, end = masking.region
    side = rng.integers(masking.sides[0], masking.sides[1] + 1, masking.count)
    side = np.minimum(side, end - start)
    top = start + rng.integers(0, end - start - side + 1)
    left = start + rng.integers(0, end - start - side + 1)
    return np.stack([top, left, side], axis=1)
