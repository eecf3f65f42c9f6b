"""Class-balanced sampling of labelled pixels."""

from __future__ import annotations

import numpy as np

from datamodules.labels import IGNORE


def sample_pixels(label: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sample pixels of each class of a label map, without replacement.

    Args:
        label: class ids (H, W); ignored pixels are left out.
        most: number of pixels per class; smaller classes are taken in full.

    Returns:
        Indices into the flat label map (n,), and the number of pixels that each of them represents, (n,).
    """
    flat = label.ravel()
    places, stands_for = [np.empty(0, np.int64)], [np.empty(0)]
    for index in np.unique(flat[flat != IGNORE]):
        own = np.flatnonzero(flat == index)
        chosen = own if len(own) <= most else rng.choice(own, most, replace=False)
        places.append(np.sort(chosen))
        stands_for.append(np.full(len(chosen), len(own) / len(chosen)))
    return np.concatenate(places), np.concatenate(stands_for)
