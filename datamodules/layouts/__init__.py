"""One reader per published data set layout. Readers import neither torch nor image libraries: file names and digests
alone show whether a stage is done."""

from __future__ import annotations

from pathlib import Path

from datamodules.layouts.augmented_celeba import AugmentedCelebA
from datamodules.layouts.celebamask_hq import CelebAMaskHQ
from datamodules.layouts.fmld import FMLD
from datamodules.layouts.folder import Folder
from datamodules.layouts.folder_per_class import FolderPerClass
from datamodules.layouts.image_mask_folder import ImageMaskFolder
from datamodules.layouts.lapa import LaPa
from datamodules.layouts.layout import SPLITS, Layout
from datamodules.layouts.mafa import MAFA
from datamodules.layouts.sample import Parts, Sample
from foundation.errors import ConfigError

LAYOUTS: dict[str, type[Layout]] = {
    layout.name: layout
    for layout in (LaPa, CelebAMaskHQ, Folder, AugmentedCelebA, ImageMaskFolder, MAFA, FMLD, FolderPerClass)
}
PARSED, MASKED, ANNOTATED = (
    {name: layout for name, layout in LAYOUTS.items() if layout.kind == kind}
    for kind in ("parsing", "occlusion", "annotations")
)
"""Data sets of face parts; of occluded faces with binary masks; of faces with boxes or kinds only, for testing
segmenters."""

__all__ = [
    "ANNOTATED",
    "FMLD",
    "LAYOUTS",
    "MAFA",
    "MASKED",
    "PARSED",
    "SPLITS",
    "AugmentedCelebA",
    "CelebAMaskHQ",
    "Folder",
    "FolderPerClass",
    "ImageMaskFolder",
    "LaPa",
    "Layout",
    "Parts",
    "Sample",
    "open_layout",
]


def open_layout(dataset: str, root: str | Path, skip_broken: bool = False, random_split: bool = True) -> Layout:
    """The reader of data set ``dataset`` at folder ``root``.

    Args:
        dataset: a name of :data:`LAYOUTS`.
        root: its folder.
        skip_broken: leave broken annotations out, of a set of :data:`ANNOTATED`.
        random_split: see :class:`datamodules.layouts.folder.Folder`.

    Raises:
        ConfigError: if no layout has that name.
        DataError: if the folder's own ``classes.yaml`` is invalid.
    """
    if dataset not in LAYOUTS:
        raise ConfigError(f"datamodule.dataset={dataset} is not known; expected one of: {', '.join(sorted(LAYOUTS))}.")
    options = {"skip_broken": True} if skip_broken else {}
    if dataset == Folder.name and not random_split:
        options["random_split"] = False
    return LAYOUTS[dataset](Path(root), **options)
