"""Images of one face each, in folders of faces with and without a face mask: RMFD, MaskedFace-Net, the Kaggle sets.

The nearest parent folder with a known name gives an image's kind, at any depth: ``with_mask/a.jpg``,
``test/without_mask/b.png``, ``AFDB_masked_face_dataset/someone/c.jpg``. A parent folder ``train``, ``val`` (or
``training``, ``valid``, ``validation``) or ``test`` gives its split; without one the image is in the test split.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from datamodules.layouts.annotated import AnnotatedLayout
from datamodules.layouts.layout import ALL, SPLIT_OF_FOLDER
from datamodules.layouts.sample import Annotation, Sample
from foundation.errors import DataError

FOLDERS = {
    "masked": (
        "with_mask",
        "withmask",
        "masked",
        "mask",
        "masked_face",
        "face_with_mask",
        "correct_mask",
        "correctly_masked",
        "afdb_masked_face_dataset",
        "cmfd",
        "correctly_masked_face_dataset",
    ),
    "bare": (
        "without_mask",
        "withoutmask",
        "unmasked",
        "no_mask",
        "nomask",
        "unmasked_face",
        "face_no_mask",
        "non_mask",
        "afdb_face_dataset",
    ),
    "incorrect": (
        "incorrect_mask",
        "incorrectly_masked",
        "mask_weared_incorrect",
        "mask_worn_incorrectly",
        "incorrectly_masked_face",
        "partial_mask",
        "imfd",
        "incorrectly_masked_face_dataset",
    ),
}
KIND_OF_FOLDER = {folder: kind for kind, folders in FOLDERS.items() for folder in folders}


class FolderPerClass(AnnotatedLayout):
    """Reads folders of faces with and without masks; each image is one face."""

    name = "folder_per_class"
    title = "folder_per_class"
    published = "with_mask/* and without_mask/* (or the names of RMFD and the like), at any depth\nDo one of:"

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:  # noqa: ARG002 (the folder gives the kind)
        """The faces of a split, by their names, see :meth:`Layout.samples`."""
        if not self.root.is_dir():
            raise self.missing(self.root)
        images = self._images_below()
        faces = [face for image in images if (face := self._face(image)) is not None]
        chosen = [sample for place, sample in faces if split in (ALL, place)]
        if not chosen:
            names = "; ".join(f"{kind}: {', '.join(folders)}" for kind, folders in FOLDERS.items())
            where = f"of the split {split} " if faces else ""
            raise DataError(
                f"{self.root} holds no image {where}in a folder of masked or of bare faces.\n"
                f"Expected: folders of one of these names. {names}."
            )
        if others := len(images) - len(faces):
            self.notes = (
                f"left out: {others} of {len(images)} images of {self.root} are in no folder of a known name.",
            )
        return chosen

    def _face(self, image: Path) -> tuple[str, Sample] | None:
        """Split and sample of an image; None if no parent folder gives its kind."""
        name = image.relative_to(self.root)
        above = [_plain(part) for part in (self.root.name, *name.parent.parts)]
        folder = _nearest(above, KIND_OF_FOLDER)
        if folder is None:
            return None
        split = SPLIT_OF_FOLDER.get(_nearest(above, SPLIT_OF_FOLDER) or "", "test")
        groups = (f"kind/{KIND_OF_FOLDER[folder]}",)
        return split, Sample("__".join(name.parts), image, annotation=Annotation(), groups=groups)


def _plain(folder: str) -> str:
    """A folder's name as in :data:`FOLDERS`: of ``Correctly Masked Face Dataset (CMFD)`` without the abbreviation."""
    return folder.lower().partition("(")[0].strip().replace("-", "_").replace(" ", "_")


def _nearest(above: Sequence[str], known: Container[str]) -> str | None:
    """The nearest parent folder with a known name."""
    return next((name for name in reversed(above) if name in known), None)
