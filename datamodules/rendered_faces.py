"""Labelled faces that are rendered as they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datamodules.faces import Faces, ParsingDataModule
from datamodules.sampling import SampleKey
from datamodules.transforms import FaceTransform

RenderFace = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Random numbers -> image (S, S, 3) uint8 RGB and label map (S, S) uint8. See
:class:`synthesis.on_the_fly.RandomFaceRenderer`."""


@dataclass(eq=False, repr=False)
class RenderedFaces(Faces):
    """A face is rendered each time one is read, by (seed, epoch, position): never the same twice.

    Items as in :class:`datamodules.faces.LabelledFaces`, without ``full_label`` and ``groups``. Of ``samples`` only the
    number and the ids are used.

    Args:
        render: renders a face and its label map.
        table: (256,) uint8, look-up table from rendered to returned ids; None leaves label maps as they are.
    """

    render: RenderFace
    table: np.ndarray | None = None

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        epoch, position, index = key
        # The fourth number keeps the faces' random stream apart from the augmentation's.
        face, drawn = self.render(np.random.default_rng([self.transform.seed, epoch, position, 3]))
        image, label = self.transform(face, drawn if self.table is None else self.table[drawn], epoch, position)
        return {
            "image": torch.from_numpy(image),
            "label": torch.from_numpy(label).long(),
            "id": self.samples[index].id,
        }


class RenderedFacesDataModule(ParsingDataModule):
    """Training faces rendered as they are read; validation and test faces as for any data set.

    Args:
        render: renders a face and its label map, in the data set's classes.
        faces, more: arguments of :class:`datamodules.faces.ParsingDataModule`.
    """

    def __init__(self, *faces: Any, render: RenderFace, **more: Any) -> None:
        super().__init__(*faces, **more)
        self.render = render

    def _open(self, split: str, transform: FaceTransform, cache: Any) -> Faces:
        if split != "train":
            return super()._open(split, transform, cache)
        return RenderedFaces(self.labelled(split), transform, self.render)
