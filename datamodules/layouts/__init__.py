"""One reader per published data set layout. Readers import neither torch nor image libraries: a stage that is already
done is recognised from names and file digests alone."""

from __future__ import annotations

from pathlib import Path

from datamodules.layouts.augmented_celeba import AugmentedCelebA
from datamodules.layouts.celebamask_hq import CelebAMaskHQ
from datamodules.layouts.fmld import FMLD
from datamodules.layouts.folder_per_class import FolderPerClass
from datamodules.layouts.image_mask_folder import ImageMaskFolder
from datamodules.layouts.lapa import LaPa
from datamodules.layouts.layout import SPLITS, Layout
from datamodules.layouts.mafa import MAFA
from datamodules.layouts.sample import Parts, Sample
from foundation.errors import ConfigError

PARSED: dict[str, type[Layout]] = {layout.name: layout for layout in (LaPa, CelebAMaskHQ)}
"""Data sets of faces in parts."""
MASKED: dict[str, type[Layout]] = {layout.name: layout for layout in (AugmentedCelebA, ImageMaskFolder)}
"""Data sets of hidden faces with binary masks."""
ANNOTATED: dict[str, type[Layout]] = {layout.name: layout for layout in (MAFA, FMLD, FolderPerClass)}
"""Data sets of hidden and bare faces without pixel truth, on which a segmenter can be tested."""
LAYOUTS = PARSED | MASKED | ANNOTATED

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
    "FolderPerClass",
    "ImageMaskFolder",
    "LaPa",
    "Layout",
    "Parts",
    "Sample",
    "open_layout",
]


def open_layout(dataset: str, root: str | Path) -> Layout:
    """The reader of data set ``dataset`` at folder ``root``.

    Raises:
        ConfigError: if no layout has that name.
    """
    if dataset not in LAYOUTS:
        raise ConfigError(f"datamodule.dataset={dataset} is not known; expected one of: {', '.join(sorted(LAYOUTS))}.")
    return LAYOUTS[dataset](Path(root))
