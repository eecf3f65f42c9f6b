"""Base of readers of data sets without pixel ground truth, on which segmenters are tested by boxes and kinds."""

from __future__ import annotations

from pathlib import Path

from datamodules.labels import OCCLUSION
from datamodules.layouts.layout import ErrorHandler, Layout
from datamodules.layouts.sample import Sample

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class AnnotatedLayout(Layout):
    """A data set whose faces have a kind and at best a box of the occluder; for testing, not for training."""

    kind = "annotations"
    labels = OCCLUSION

    @property
    def synthetic_alternative(self) -> str:
        return "  - score on faces with pixel ground truth: dataset=image_mask_folder or dataset=augmented_celeba"

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:  # noqa: ARG002 (there are no other files to check)
        """All faces."""
        return {"": self.samples("all")}


def images_below(root: Path) -> list[Path]:
    """The images of a folder at any depth, by their names below it; hidden files and folders are left out."""
    files = ((path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [path for name, path in sorted(files) if not any(part.startswith(".") for part in name.split("/"))]
