"""Batches of faces without pixel ground truth: crops of photographs with each face's kind and its occluder's box."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datamodules.cache import Cache
from datamodules.faces import FaceDataModule, Faces
from datamodules.landmarks import square
from datamodules.reading import read_image, read_photograph, shrunk
from datamodules.sampling import SampleKey
from datamodules.transforms import FaceTransform
from foundation.errors import BrokenFileError

MARGIN = 1.5
"""Side of the square crop, in sides of the face's box: CelebA's images show about as much."""


LARGEST = 3
"""Largest side of a crop, in sides of the image: a larger box is an error, and its crop may not fit into memory."""


class AnnotatedFaces(Faces):
    """Faces with their kind and the box of their occluder.

    An item is ``image`` (3, S, S) float, ``occluder`` (4,) float: left, top, right, bottom in sides of the image, NaN
    where it is unknown; ``groups``, of which one is ``kind/masked``, ``kind/incorrect`` or ``kind/bare``, and ``id``.
    """

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        epoch, position, index = key
        sample = self.samples[index]
        annotation = sample.annotation
        assert annotation is not None  # noqa: S101 (for the type checker: these layouts annotate every face)
        occluder = np.full(4, np.nan, np.float32)
        if annotation.face is None:
            photo = shrunk(read_photograph(sample.image), self.transform.least_source)
            image, _ = self.transform(photo.pixels, None, epoch, position, photo.extent)
        else:
            left, top, right, low = annotation.face
            side = max(1, round(MARGIN * max(right - left, low - top)))
            left, top = round((left + right - side) / 2), round((top + low - side) / 2)
            stored = read_image(sample.image, upright=False).pixels
            if side > LARGEST * max(stored.shape[:2]):
                raise BrokenFileError(
                    f"{annotation.file} has a face of {annotation.face[2] - annotation.face[0]:g}x"
                    f"{annotation.face[3] - annotation.face[1]:g} pixels in {sample.image}, which is "
                    f"{stored.shape[1]}x{stored.shape[0]}.\nExpected: a box that fits the image; repair it."
                )
            cut = shrunk(square(stored, left, top, side), self.transform.least_source)
            image, _ = self.transform(cut.pixels, None, epoch, position, cut.extent)
            if annotation.occluder is not None:
                inside = np.clip((np.array(annotation.occluder) - (left, top, left, top)) / side, 0, 1)
                occluder[:] = inside if (inside[2:] > inside[:2]).all() else np.nan
        return {
            "image": torch.from_numpy(image),
            "occluder": torch.from_numpy(occluder),
            "groups": sample.groups,
            "id": sample.id,
        }


class AnnotatedDataModule(FaceDataModule):
    """Test batches of one data set without pixel ground truth, see :class:`AnnotatedFaces`."""

    def _open(self, split: str, transform: FaceTransform, cache: Cache | None) -> AnnotatedFaces:  # noqa: ARG002 (each face is read once)
        return AnnotatedFaces(self.labelled(split), transform)
