"""Batches of hidden faces: images and what hides them, as label maps of two classes, ``seen`` and ``occluded``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from datamodules.cache import Cache
from datamodules.faces import FaceDataModule, Faces, open_images
from datamodules.layouts import AugmentedCelebA, Sample
from datamodules.reading import DecodedImage
from datamodules.sampling import Draw
from datamodules.transforms import FaceTransform
from foundation.errors import DataError

IN_FULL = 1 << 20
"""More pixels than an image has: it is decoded as it is, and landmarks are in its own pixels."""

RenderMasks = Callable[[np.random.Generator, np.ndarray, Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""Random numbers, image (H, W, 3) uint8 and the landmarks (68, 2) of each face -> the image with face masks, and where
they occlude it (H, W) uint8, 0 or 255. See :class:`synthesis.masked_faces.on_the_fly.RandomMaskRenderer`."""


class RenderedMaskFaces(Faces):
    """Faces whose masks are rendered when they are read, by (seed, epoch, position): another mask each time.

    Items as in :class:`datamodules.faces.LabelledFaces`, without ``full_label`` and ``groups``.

    Args:
        samples: the faces.
        photographs: a sample's image without a mask by its index, in full.
        landmarks: for each sample those of its faces, (68, 2), in pixels.
        render_masks: renders masks on the photographs.
        transform: to training size.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        photographs: Callable[[int], DecodedImage],
        landmarks: Sequence[Sequence[np.ndarray]],
        render_masks: RenderMasks,
        transform: FaceTransform,
    ) -> None:
        super().__init__(samples, transform)
        self.photographs = photographs
        self.landmarks = landmarks
        self.render_masks = render_masks

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        epoch, position, index = draw
        # The fourth number keeps the masks' random stream apart from the augmentation's.
        rng = np.random.default_rng([self.transform.seed, epoch, position, 2])
        image, occlusion = self.render_masks(rng, self.photographs(index).pixels, self.landmarks[index])
        sample = self.samples[index]
        pixels, label = self.transform(image, occlusion // 255, epoch, position, face=sample.face)
        return {"image": torch.from_numpy(pixels), "label": torch.from_numpy(label).long(), "id": sample.id}


class OcclusionDataModule(FaceDataModule):
    """Batches of occluded faces with binary masks.

    Batches of validation and test hold ``groups`` too, where the data set has such: the mask type and the pose.

    Args:
        render_masks: renders other training masks each time, on the photographs that were kept; None trains on the
            masks as built. Those of validation and test always stay as built. Only for
            :class:`datamodules.layouts.augmented_celeba.AugmentedCelebA`.
        arguments: those of :class:`datamodules.faces.FaceDataModule`.
    """

    def __init__(self, *args: Any, render_masks: RenderMasks | None = None, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.render_masks = render_masks

    def _open(self, split: str, transform: FaceTransform, cache: Cache | None) -> Faces:
        if split != "train" or self.render_masks is None:
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
        photographs = open_images(bare, IN_FULL, cache)
        return RenderedMaskFaces(samples, photographs, landmarks, self.render_masks, transform)
