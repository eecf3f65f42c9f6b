"""Base of readers of data sets without pixel ground truth, on which segmenters are tested by boxes and kinds."""

from __future__ import annotations

from pathlib import Path

from datamodules.image_files import is_image
from datamodules.labels import OCCLUSION
from datamodules.layouts.layout import ALL, ErrorHandler, Layout, files_below
from datamodules.layouts.sample import Sample


class AnnotatedLayout(Layout):
    """A data set whose faces have a kind and at best a box of the occluder; for testing, not for training."""

    kind = "annotations"
    labels = OCCLUSION

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:  # noqa: ARG002 (there are no other files to check)
        """All faces."""
        return {"": self.samples(ALL)}

    def _images_below(self) -> list[Path]:
        """The images at any depth, by their names below the root."""
        return [path for name in files_below(self.root) if is_image(path := self.root / name)]
