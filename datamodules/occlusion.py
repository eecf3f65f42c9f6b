"""Batches of hidden faces: pictures and what hides them, as label maps of two classes, ``seen`` and ``hidden``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from datamodules.cache import Cache
from datamodules.faces import FaceDataModule, Faces, open_pictures
from datamodules.layouts import AugmentedCelebA, Sample
from datamodules.reading import Picture
from datamodules.sampling import Draw
from datamodules.synthesis.masked_faces.wanted import choices_of
from datamodules.synthesis.masks import MaskChoices, choose_mask, draw_mask
from datamodules.transforms import FaceTransform
from foundation.errors import DataError

IN_FULL = 1 << 20
"""More pixels than a picture has: it is decoded as it is, and landmarks are in its own pixels."""


class MasksDrawnAnew(Faces):
    """Faces whose masks are drawn as they are asked for, by (seed, epoch, position): no face wears one twice.

    Items as in :class:`datamodules.faces.LabelledFaces`, without ``full_label`` and ``groups``.

    Args:
        samples: the faces.
        photographs: a sample's picture without a mask by its index, in full.
        landmarks: for each sample those of its faces, (68, 2), in pixels.
        choices: what is drawn.
        transform: to training size.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        photographs: Callable[[int], Picture],
        landmarks: Sequence[Sequence[np.ndarray]],
        choices: MaskChoices,
        transform: FaceTransform,
    ) -> None:
        super().__init__(samples, transform)
        self.photographs = photographs
        self.landmarks = landmarks
        self.choices = choices

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        epoch, position, index = draw
        # The fourth number keeps the masks' random stream apart from the augmentation's.
        rng = np.random.default_rng([self.transform.seed, epoch, position, 2])
        image = self.photographs(index).pixels
        truth = np.zeros(image.shape[:2], np.uint8)
        for landmarks in self.landmarks[index]:
            image, hidden = draw_mask(image, landmarks, choose_mask(rng, landmarks, self.choices), self.choices)
            truth |= hidden
        sample = self.samples[index]
        pixels, label = self.transform(image, truth // 255, epoch, position, face=sample.face)
        return {"image": torch.from_numpy(pixels), "label": torch.from_numpy(label).long(), "id": sample.id}


class OcclusionDataModule(FaceDataModule):
    """Batches of occluded faces with binary masks.

    Batches of validation and test hold ``groups`` too, where the data set has such: the mask type and the pose.

    Args:
        on_the_fly: render training masks again each time, on the photographs that were kept; validation and test stay
            as built. Only for :class:`datamodules.layouts.augmented_celeba.AugmentedCelebA`.
        arguments: those of :class:`datamodules.faces.FaceDataModule`.
    """

    def __init__(self, *args: Any, on_the_fly: bool = False, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.on_the_fly = on_the_fly

    def _open(self, split: str, transform: FaceTransform, cache: Cache | None) -> Faces:
        if split != "train" or not self.on_the_fly:
            return super()._open(split, transform, cache)
        samples = self.labelled(split)
        files = [sample.photograph for sample in samples if sample.photograph is not None]
        if len(files) < len(samples):
            raise DataError(
                f"{self.layout.root} has no photographs without masks to draw on.\n"
                f"Expected: a set that was built with photographs=true (python prepare.py task=masked_faces ...), or "
                f"segment.on_the_fly=false."
            )
        assert isinstance(self.layout, AugmentedCelebA)  # noqa: S101 (for the type checker: others have no photographs)
        found = self.layout.landmarks()
        landmarks = [[np.array(face) for face in found[sample.id]] for sample in samples]
        bare = [replace(sample, image=file) for sample, file in zip(samples, files, strict=True)]
        photographs = open_pictures(bare, IN_FULL, cache)
        return MasksDrawnAnew(samples, photographs, landmarks, choices_of(self.layout.parameters()), transform)
