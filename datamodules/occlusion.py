"""Batches of hidden faces: pictures and what hides them, as label maps of two classes, ``seen`` and ``hidden``."""

from __future__ import annotations

from datamodules.faces import FaceDataModule
from datamodules.layouts import AugmentedCelebA, ImageMaskFolder


class AugmentedCelebADataModule(FaceDataModule):
    """Masked faces as built, see :class:`datamodules.layouts.augmented_celeba.AugmentedCelebA`.

    Batches hold ``groups`` too: what each face wears and how it is turned.
    """

    layout_type = AugmentedCelebA


class ImageMaskFolderDataModule(FaceDataModule):
    """Any pictures with masks, see :class:`datamodules.layouts.image_mask_folder.ImageMaskFolder`."""

    layout_type = ImageMaskFolder
