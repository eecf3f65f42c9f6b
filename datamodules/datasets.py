"""The data module of every data set, by the data set's name."""

from __future__ import annotations

from datamodules.annotated import FMLDDataModule, FolderPerClassDataModule, MAFADataModule
from datamodules.faces import CelebAMaskHQDataModule, FaceDataModule, LaPaDataModule
from datamodules.occlusion import AugmentedCelebADataModule, ImageMaskFolderDataModule

DATAMODULES: dict[str, type[FaceDataModule]] = {
    module.layout_type.name: module
    for module in (
        LaPaDataModule,
        CelebAMaskHQDataModule,
        AugmentedCelebADataModule,
        ImageMaskFolderDataModule,
        MAFADataModule,
        FMLDDataModule,
        FolderPerClassDataModule,
    )
}
