"""LaPa as published (Liu et al., AAAI 2020): ``{train,val,test}/{images,labels,landmarks}``, one stem per face.

Images have any size; label maps are single-channel PNGs of class ids 0..10; landmarks are optional here. Files are
counted, never assumed: copies of the data set in circulation hold between 18,168 and 18,176 training faces. Copies may
lie one folder deeper (``LaPa/LaPa``) and call ``val`` ``valid``.
"""

from __future__ import annotations

import functools
from pathlib import Path

from datamodules.labels import LAPA
from datamodules.layouts.layout import (
    ALL,
    SPLIT_OF_FOLDER,
    SPLITS,
    ErrorHandler,
    Layout,
    files_by_stem,
    folder_with,
    images_by_stem,
    in_any_case,
    raise_error,
    split_folder,
    unpacked,
)
from datamodules.layouts.sample import Sample
from foundation.errors import DataError

IMAGES = tuple(f"{folder}/images" for folder in SPLIT_OF_FOLDER)


class LaPa(Layout):
    """Reads a folder in LaPa's published layout."""

    name = "lapa"
    labels = LAPA
    title = "LaPa"
    published = (
        "train|val|test / images/*.jpg, labels/*.png (class ids 0..10)\n"
        "Do one of:\n"
        "  - put the data set there: https://github.com/lucia123/lapa-dataset (non-commercial research)"
    )

    @functools.cached_property
    def _base(self) -> Path:
        return folder_with(self.root, IMAGES) or self.root

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, sorted by id, see :meth:`Layout.samples`; ``all`` needs one split at least."""
        if split == ALL:
            there = [name for name in SPLITS if split_folder(self._base, name).is_dir()] or SPLITS[:1]
            return [sample for name in there for sample in self.samples(name, labelled)]
        images = self._files(split, "images", raise_error)
        if not labelled:
            return [Sample(stem, image) for stem, image in sorted(images.items())]
        return self._labelled(split, images, self._files(split, "labels", raise_error), raise_error)

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """Every image of the three splits, see :meth:`Layout.survey`."""
        found = {}
        for split in SPLITS:
            images = self._files(split, "images", on_error)
            labels = self._files(split, "labels", on_error)
            for stem in sorted(labels.keys() - images.keys()):
                on_error("missing_image", [stem], DataError(f"{labels[stem]} has no image."))
            found[split] = self._labelled(split, images, labels, on_error)
        return found

    def _files(self, split: str, kind: str, on_error: ErrorHandler) -> dict[str, Path]:
        """Images or label maps of a split by their stems."""
        folder = unpacked(in_any_case(split_folder(self._base, split), kind))
        files = images_by_stem(folder, on_error) if kind == "images" else files_by_stem(folder, (".png",), on_error)
        if not files:
            on_error("missing_folder", [f"{split}/{kind}"], self.missing(folder))
        return files

    def _labelled(
        self, split: str, images: dict[str, Path], labels: dict[str, Path], on_error: ErrorHandler
    ) -> list[Sample]:
        """The faces of a split, sorted by id, with their label maps."""
        folder = split_folder(self._base, split)
        unlabelled = sorted(images.keys() - labels.keys())
        if unlabelled:
            error = DataError(
                f"{len(unlabelled)} of {len(images)} images in {folder / 'images'} have no label map, the first is "
                f"{images[unlabelled[0]].name}.\n"
                f"Expected: {folder / 'labels' / (unlabelled[0] + '.png')}\n"
                f"Add the label maps, or move the unlabelled images out of this split. All of them are listed by\n"
                f"  python prepare.py task=audit dataset={self.name} root={self.root}"
            )
            on_error("missing_label", unlabelled, error)
        landmarks = files_by_stem(unpacked(in_any_case(folder, "landmarks")), (".txt",))
        return [Sample(stem, image, labels.get(stem), landmarks.get(stem)) for stem, image in sorted(images.items())]
