"""Batches of occluded faces: images and binary occlusion masks, see :data:`datamodules.labels.OCCLUSION`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from datamodules.cache import Cache
from datamodules.faces import FaceDataModule, Faces, open_images
from datamodules.labels import LabelSet
from datamodules.layouts import AugmentedCelebA
from datamodules.mask_survey import survey_masks
from datamodules.reading import DecodedImage
from datamodules.sampling import SampleKey
from datamodules.transforms import FaceTransform
from foundation.errors import DataError

IN_FULL = 1 << 20
"""More pixels than an image has: it is decoded at full size, and landmarks are in its own pixels."""

RenderMasks = Callable[[np.random.Generator, np.ndarray, Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""Random numbers, image (H, W, 3) uint8 and the landmarks (68, 2) of each face -> the image with face masks, and where
they occlude it (H, W) uint8, 0 or 255. See :class:`synthesis.masked_faces.on_the_fly.RandomMaskRenderer`."""


@dataclass(eq=False, repr=False)
class RenderedMaskFaces(Faces):
    """Faces whose masks are rendered as they are read, by (seed, epoch, position): another mask each time.

    Items as in :class:`datamodules.faces.LabelledFaces`, without ``full_label`` and ``groups``.

    Args:
        photographs: a sample's photograph without masks by its index, at full size.
        landmarks: for each sample the landmarks of its faces, (68, 2), in pixels.
        render_masks: renders masks on the photographs.
    """

    photographs: Callable[[int], DecodedImage]
    landmarks: Sequence[Sequence[np.ndarray]]
    render_masks: RenderMasks

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        epoch, position, index = key
        # The fourth number keeps the masks' random stream apart from the augmentation's.
        rng = np.random.default_rng([self.transform.seed, epoch, position, 2])
        image, occlusion = self.render_masks(rng, self.photographs(index).pixels, self.landmarks[index])
        sample = self.samples[index]
        pixels, label = self.transform(image, occlusion // 255, epoch, position, face=sample.face)
        return {"image": torch.from_numpy(pixels), "label": torch.from_numpy(label).long(), "id": sample.id}


class OcclusionDataModule(FaceDataModule):
    """Batches of occluded faces with binary masks.

    Validation and test batches also hold ``groups``, if the data set has any: mask type, wearing style and pose.

    Args:
        render_masks: renders new training masks in each epoch, on the kept photographs; None trains on the masks as
            built. Validation and test always use the masks as built. Only for
            :class:`datamodules.layouts.augmented_celeba.AugmentedCelebA`.
        faces, more: arguments of :class:`datamodules.faces.FaceDataModule`.
    """

    def __init__(self, *faces: Any, render_masks: RenderMasks | None = None, **more: Any) -> None:
        super().__init__(*faces, **more)
        self.render_masks = render_masks

    @functools.cached_property
    def read_labels(self) -> LabelSet:
        """The classes with how the masks of the set are read, from the values of all of them.

        Raises:
            AmbiguousMaskError: if these do not say which pixels are occluded.
        """
        survey = survey_masks(self.layout)
        survey.warn()
        return replace(self.layout.labels, mask=survey.reading)

    def _open(self, split: str, transform: FaceTransform, cache: Cache | None) -> Faces:
        if split != "train" or self.render_masks is None:
            return super()._open(split, transform, cache)
        samples = self.labelled(split)
        files = [sample.photograph for sample in samples if sample.photograph is not None]
        if len(files) < len(samples):
            raise DataError(
                f"{self.layout.root} has no photographs without masks to render new ones on.\n"
                f"Expected: a set that was built with photographs=true (python prepare.py task=masked_faces ...), or "
                f"segment.on_the_fly=false."
            )
        assert isinstance(self.layout, AugmentedCelebA)  # noqa: S101 (for the type checker: others have no photographs)
        found = self.layout.landmarks()
        landmarks = [[np.array(face) for face in found[sample.id]] for sample in samples]
        bare = [replace(sample, image=file) for sample, file in zip(samples, files, strict=True)]
        photographs = open_images(bare, IN_FULL, cache)
        return RenderedMaskFaces(samples, transform, photographs, landmarks, self.render_masks)
