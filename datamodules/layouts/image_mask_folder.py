"""Images with binary masks of the same names: ``images/`` and ``masks/``, or both below ``train``, ``val``, ``test``.

This is the layout of MFSD and similar sets. Without folders for the splits, 70 % of the faces are for training, 10 %
for validation and 20 % for the test: a random split that is the same on every machine.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from datamodules.labels import OCCLUSION
from datamodules.layouts.layout import (
    ALL,
    SPLITS,
    ErrorHandler,
    Layout,
    images_by_stem,
    in_any_case,
    raise_error,
    split_folder,
)
from datamodules.layouts.sample import Sample
from foundation.errors import DataError
from foundation.names import to_bytes
from foundation.notices import first_of, notice

SHARES = (0.7, 0.8)
"""Cumulated shares of training and validation faces."""


class ImageMaskFolder(Layout):
    """Reads images and their masks, see :mod:`datamodules.masks`."""

    name = "image_mask_folder"
    kind = "occlusion"
    labels = OCCLUSION
    title = "image_mask_folder"
    published = (
        "images/* and masks/* of the same names (or train|val|test / images, masks)\n"
        "Do one of:\n"
        "  - put images there, and for each a mask that is white where the face is occluded"
    )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, sorted by name, see :meth:`Layout.samples`."""
        if self._in_splits:
            folders = [split_folder(self.root, name) for name in (SPLITS if split == ALL else (split,))]
            there = [folder for folder in folders if folder.is_dir() or split != ALL]
            return [sample for folder in there for sample in self._folder(folder, labelled, raise_error)]
        samples = self._folder(self.root, labelled, raise_error)
        if split == ALL:
            return samples
        # By the hashes of the names: one face more or less moves few others, and all machines agree.
        shuffled = sorted(samples, key=lambda sample: hashlib.sha256(to_bytes(sample.id)).hexdigest())
        edges = [0, *(round(share * len(shuffled)) for share in SHARES), len(shuffled)]
        place = SPLITS.index(split)
        chosen = sorted(shuffled[edges[place] : edges[place + 1]])
        if not chosen:
            raise DataError(
                f"{self.root} holds {len(samples)} faces: too few for the split {split}.\n"
                f"Expected: 10 at least, which are split 70/10/20; or train, val and test as folders."
            )
        return chosen

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """Every image by its split, see :meth:`Layout.survey`."""
        if self._in_splits:
            return {split: self._folder(split_folder(self.root, split), True, on_error) for split in SPLITS}
        return {"": self._folder(self.root, True, on_error)}

    @property
    def _in_splits(self) -> bool:
        return not in_any_case(self.root, "images").is_dir() and any(
            split_folder(self.root, split).is_dir() for split in SPLITS
        )

    def _folder(self, folder: Path, labelled: bool, on_error: ErrorHandler) -> list[Sample]:
        pixels, marked = in_any_case(folder, "images"), in_any_case(folder, "masks")
        images = images_by_stem(pixels, on_error)
        if not images:
            on_error("missing_folder", [str(pixels)], self.missing(pixels))
        if not labelled:
            return [Sample(stem, image) for stem, image in sorted(images.items())]
        masks = images_by_stem(marked, on_error)
        if without := sorted(images.keys() - masks.keys()):
            error = DataError(
                f"{len(without)} of {len(images)} images in {pixels} have no mask, the first is "
                f"{images[without[0]].name}.\n"
                f"Expected: {marked / (without[0] + '.png')}, white where the face is occluded.\n"
                f"Add the masks (all black for a face without occlusion), or move those images away."
            )
            on_error("missing_label", without, error)
        if unmatched := sorted(masks.keys() - images.keys()):
            text = f"{len(unmatched)} of {len(masks)} masks in {marked} have no image: {first_of(unmatched)}."
            if on_error is raise_error:  # they are of no use, but do no harm
                notice(text)
            else:
                on_error("missing_image", unmatched, DataError(text))
        return [Sample(stem, image, masks.get(stem)) for stem, image in sorted(images.items())]
