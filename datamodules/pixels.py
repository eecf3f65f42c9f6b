"""Which pixels of a labelled face are classified on: as many of each class, whatever its area."""

from __future__ import annotations

import numpy as np

from datamodules.labels import IGNORE


def draw_pixels(label: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels of each class that occurs, without putting back.

    Args:
        label: class ids (H, W); those that are to be ignored are left out.
        most: pixels of a class; of one that has fewer all are taken.
        rng: what is drawn with.

    Returns:
        Places in the flat label map (n,), and how many pixels each of them stands for, (n,).
    """
    flat = label.ravel()
    places, stands_for = [np.empty(0, np.int64)], [np.empty(0)]
    for index in np.unique(flat[flat != IGNORE]):
        own = np.flatnonzero(flat == index)
        chosen = own if len(own) <= most else rng.choice(own, most, replace=False)
        places.append(np.sort(chosen))
        stands_for.append(np.full(len(chosen), len(own) / len(chosen)))
    return np.concatenate(places), np.concatenate(stands_for)
