"""The data module of a data set, by the kind of its labels."""

from __future__ import annotations

from datamodules.annotated import AnnotatedDataModule
from datamodules.faces import FaceDataModule, ParsingDataModule
from datamodules.layouts import Layout
from datamodules.occlusion import OcclusionDataModule

DATAMODULES: dict[str, type[FaceDataModule]] = {
    "parsing": ParsingDataModule,
    "occlusion": OcclusionDataModule,
    "annotations": AnnotatedDataModule,
}
"""By :attr:`datamodules.layouts.layout.Layout.kind`."""


def datamodule_type(layout: Layout) -> type[FaceDataModule]:
    """The class of data module that serves a data set."""
    return DATAMODULES[layout.kind]
