"""CelebAMask-HQ as published (Lee et al., CVPR 2020): images, one mask for each part of a face, and two lists.

``CelebA-HQ-img/{i}.jpg`` (1024 px as published), ``CelebAMask-HQ-mask-anno/{i // 2000}/{i:05d}_{part}.png`` (512 px; a
part that is not visible has no file), ``CelebA-HQ-to-CelebA-mapping.txt`` (the CelebA image of each one), and CelebA's
``list_eval_partition.txt`` (or Kaggle's ``.csv``) with the splits. The two lists are joined by CelebA's file name:
thresholds on ``orig_idx``, as in the data set's own script, put faces at the ends of a split into the next one. A
partial copy of the data set is valid.
"""

from __future__ import annotations

from pathlib import Path

from datamodules.labels import CELEBAMASK_HQ
from datamodules.layouts.layout import (
    ALL,
    SPLITS,
    ErrorHandler,
    Layout,
    images_by_stem,
    names_in,
    raise_error,
    rows_of_list,
    same_name,
)
from datamodules.layouts.sample import Parts, Sample
from foundation.errors import DataError

PARTS = CELEBAMASK_HQ.classes[1:]
FACES_PER_FOLDER = 2000
MASKS = "CelebAMask-HQ-mask-anno"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")


class CelebAMaskHQ(Layout):
    """Reads a folder in CelebAMask-HQ's published layout."""

    name = "celebamask_hq"
    labels = CELEBAMASK_HQ
    title = "CelebAMask-HQ"
    published = (
        f"CelebA-HQ-img/*.jpg, CelebAMask-HQ-mask-anno/*/*.png, {MAPPING}\n"
        f"  and CelebA's {PARTITIONS[0]} (or {PARTITIONS[1]})\n"
        f"Do one of:\n"
        f"  - put the data set there: https://github.com/switchablenorms/CelebAMask-HQ (non-commercial research);\n"
        f"    the partition is part of CelebA: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, in the order of their numbers, which are their ids, see :meth:`Layout.samples`.

        A labelled face has at least one part. The split ``all`` needs neither list.
        """
        images = self._images(raise_error)
        if split != ALL:
            splits, count = self._splits(images, raise_error), len(images)
            images = {number: image for number, image in images.items() if splits[number] == split}
            if not images:
                raise DataError(
                    f"No face of {self.root} is in the split {split}: {MAPPING} and {self._partition().name} put all "
                    f"{count} into others.\nExpected: faces of all three splits; add some."
                )
        if not labelled:
            return [Sample(str(number), image) for number, image in images.items()]
        parts = self._parts({number // FACES_PER_FOLDER for number in images}, raise_error)
        return self._labelled(images, parts, raise_error)

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """Every image by its split, see :meth:`Layout.survey`."""
        images = self._images(on_error)
        there = {int(name) for name in names_in(self.root / MASKS) if _is_number(name)}
        parts = self._parts(there | {number // FACES_PER_FOLDER for number in images}, on_error)
        for number in sorted(parts.keys() - images.keys()):
            first = parts[number].files[0][1]
            on_error("missing_image", [str(number)], DataError(f"{first} and the other parts have no image."))
        splits = self._splits(images, on_error)
        found: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        for sample in self._labelled(images, parts, on_error):
            found.setdefault(splits.get(int(sample.id), ""), []).append(sample)
        return found

    def _labelled(self, images: dict[int, Path], parts: dict[int, Parts], on_error: ErrorHandler) -> list[Sample]:
        """Faces with their parts, in the order of their numbers."""
        without = [number for number in images if number not in parts]
        if without:
            first = images[without[0]]
            error = DataError(
                f"{len(without)} of {len(images)} faces have no parts, the first is {first.name}.\n"
                f"Expected: masks as {self._mask_folder(without[0] // FACES_PER_FOLDER) / f'{without[0]:05d}_skin.png'}"
                f"\nAdd the masks, or move such images out of {first.parent}. All of them are listed by\n"
                f"  python prepare.py task=audit dataset={self.name} root={self.root}"
            )
            on_error("missing_label", [str(number) for number in without], error)
        return [Sample(str(number), image, parts=parts.get(number)) for number, image in images.items()]

    def _images(self, on_error: ErrorHandler) -> dict[int, Path]:
        """The images by their numbers, sorted."""
        folder = self.root / "CelebA-HQ-img"
        images: dict[int, Path] = {}
        for stem, image in images_by_stem(folder, on_error).items():
            if not _is_number(stem):
                error = DataError(f"{image} is not an image of CelebA-HQ.\nExpected: names as 0.jpg; move it away.")
                on_error("foreign_file", [image.name], error)
            elif int(stem) in images:
                on_error("same_name", [str(int(stem))], same_name(folder, images[int(stem)].name, image.name))
            else:
                images[int(stem)] = image
        if not images:
            on_error("missing_folder", [folder.name], self.missing(folder))
        return dict(sorted(images.items()))

    def _partition(self) -> Path:
        """CelebA's list of splits, as .txt or .csv."""
        files = [self.root / name for name in PARTITIONS]
        return next((file for file in files if file.is_file()), files[0])

    def _splits(self, images: dict[int, Path], on_error: ErrorHandler) -> dict[int, str]:
        """The split of each image, by way of its name in CelebA."""
        mapping, partition = self.root / MAPPING, self._partition()
        absent = [file for file in (mapping, partition) if not file.is_file()]
        for file in absent:
            on_error("missing_list", [file.name], self.missing(file))
        if absent:
            return {}
        originals = {row[0]: row[2] for row in rows_of_list(mapping, 5, _is_header, on_error)}
        codes = {row[0]: row[1] for row in rows_of_list(partition, 2, _is_header, on_error)}
        splits: dict[int, str] = {}
        for number, image in images.items():
            original = originals.get(str(number))
            if original is None:
                error = DataError(
                    f"{mapping} has no row for {image.name}.\nExpected: a row that starts with {number} for each "
                    f"image; take the list as published, or move the image elsewhere."
                )
                on_error("no_mapping", [str(number)], error)
                continue
            found = codes.get(original)
            if found not in ("0", "1", "2"):
                error = DataError(
                    f"{partition} has {'no row' if found is None else f'split {found}'} for {original}, which is "
                    f"{image.name}.\nExpected: 0, 1 or 2 (train, val, test) for each image; take CelebA's list."
                )
                on_error("no_split", [str(number)], error)
                continue
            splits[number] = SPLITS[int(found)]
        return splits

    def _mask_folder(self, index: int) -> Path:
        return self.root / MASKS / str(index)

    def _parts(self, folders: set[int], on_error: ErrorHandler) -> dict[int, Parts]:
        """The parts of each face in some folders, in the order of the classes, from file names alone."""
        found: dict[int, set[str]] = {}
        for index in sorted(folders):
            folder = self._mask_folder(index)
            for name in names_in(folder):
                stem, _, suffix = name.rpartition(".")
                if suffix != "png":
                    continue
                face, _, part = stem.partition("_")
                number = int(face) if _is_number(face) else -1
                if part not in PARTS or face != f"{number:05d}" or number // FACES_PER_FOLDER != index:
                    error = DataError(
                        f"{folder / name} is not a mask of CelebAMask-HQ.\n"
                        f"Expected: names as {index * FACES_PER_FOLDER:05d}_skin.png, {FACES_PER_FOLDER} faces a "
                        f"folder, with one of {', '.join(PARTS)}; move it elsewhere."
                    )
                    on_error("foreign_file", [name], error)
                    continue
                found.setdefault(number, set()).add(part)
        if not found:
            on_error("missing_folder", [MASKS], self.missing(self.root / MASKS))
        return {
            face: Parts(
                self._mask_folder(face // FACES_PER_FOLDER),
                f"{face:05d}",
                tuple(part for part in PARTS if part in names),
            )
            for face, names in found.items()
        }


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_header(line: int, first: str) -> bool:  # noqa: ARG001 (some lists have a header of several lines)
    return first in ("idx", "image_id")
