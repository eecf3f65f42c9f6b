"""Renders synthetic faces during training: another face each time one of the data set is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datamodules.labels import PAINTING_ORDERS, LabelSet
from synthesis.faces import SyntheticFace, render_random_face
from synthesis.layout_writers import as_filed


@dataclass(frozen=True)
class RandomFaceRenderer:
    """Renders random labelled faces like those of a data set; it is pickled to loader processes.

    Args:
        size: width and height in pixels.
        labels: the data set's classes: LaPa's, or those of CelebAMask-HQ's parts.
        order: in which parts are painted, a name of :data:`datamodules.labels.PAINTING_ORDERS`; None: LaPa's label map.
    """

    size: int
    labels: LabelSet
    order: str | None

    def __call__(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A face: image (size, size, 3) uint8 RGB, with JPEG's losses, and label map (size, size) uint8.

        Args:
            rng: the same state gives the same bytes.
        """
        face = render_random_face(rng, self.size)
        return as_filed(face), face.label if self.order is None else self._painted(face)

    def _painted(self, face: SyntheticFace) -> np.ndarray:
        label = np.zeros((self.size, self.size), np.uint8)
        for part in PAINTING_ORDERS[self.order or ""]:
            if (seen := face.parts.get(part)) is not None:
                label[seen] = self.labels.classes.index(part)
        return label


def renderer_of(about: Mapping[str, object], labels: LabelSet, order: str | None) -> RandomFaceRenderer:
    """A renderer of faces like those of a built data set.

    Args:
        about: its ``dataset.json``.
        labels: its classes.
        order: see :class:`RandomFaceRenderer`.
    """
    return RandomFaceRenderer(int(str(about["size"])), labels, order)
