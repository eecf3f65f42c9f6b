"""The labels of a data set before it is trained on: each label map is read once, and its pixels are counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.labels import LabelSet
from datamodules.layouts import Sample
from datamodules.reading import ImageFiles, read_label, require_size
from foundation.interruption import checked


def class_pixels(samples: Sequence[Sample], labels: LabelSet) -> np.ndarray:
    """Pixels of each class in the label maps of some faces, (classes,) int64.

    Raises:
        BrokenFileError: if a label map cannot be read, holds an id of no class, or is of another size than its image.
    """
    total = np.zeros(len(labels), dtype=np.int64)
    for sample in checked(samples):
        if sample.label is not None:
            label = read_label(sample.label, labels)
            require_size(sample, label.shape, ImageFiles((sample.image,)).frame(0).size)
            total += np.bincount(label.ravel(), minlength=256)[: len(labels)]
    return total
