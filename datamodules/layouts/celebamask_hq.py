"""CelebAMask-HQ as published (Lee et al., CVPR 2020): images, one mask for each part of a face, and two lists.

``CelebA-HQ-img/{i}.jpg`` (1024 px as published), ``CelebAMask-HQ-mask-anno/{i // 2000}/{i:05d}_{part}.png`` (512 px; a
part that is not visible has no file), ``CelebA-HQ-to-CelebA-mapping.txt`` (the CelebA image of each one), and CelebA's
``list_eval_partition.txt`` (or Kaggle's ``.csv``) with the splits. The two lists are joined by CelebA's file name:
thresholds on ``orig_idx``, as in the data set's own script, put faces at the ends of a split into the next one. A
partial copy of the data set is valid, and so is one whose masks lie in one folder or end in ``.PNG``, or whose folders
lie one deeper (``CelebAMask-HQ/CelebAMask-HQ``).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from datamodules.labels import CELEBAMASK_HQ
from datamodules.layouts.layout import (
    ALL,
    SPLITS,
    ErrorHandler,
    Layout,
    folder_with,
    images_by_stem,
    in_any_case,
    names_in,
    raise_error,
    rows_of_list,
    same_name,
    unpacked,
)
from datamodules.layouts.sample import Parts, Sample
from foundation.errors import DataError

PARTS = CELEBAMASK_HQ.classes[1:]
FACES_PER_FOLDER = 2000
IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"
MERGED = ("mask", "masks", "label", "labels", "CelebAMask-HQ-mask", "CelebAMaskHQ-mask", MASKS)
"""Folders of label maps that other tools merged of the masks: ``0.png`` holds the ids of all parts of face 0."""
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

    @functools.cached_property
    def _base(self) -> Path:
        return folder_with(self.root, (IMAGES,)) or self.root

    @functools.cached_property
    def _masks(self) -> Path:
        return unpacked(in_any_case(self._base, MASKS))

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
        there = {int(name) for name in names_in(self._masks) if _is_number(name)}
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
        folder = unpacked(in_any_case(self._base, IMAGES))
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

    @property
    def _places(self) -> tuple[Path, ...]:
        """Folders of the lists."""
        return (self.root,) if self._base == self.root else (self._base, self.root)

    def _partition(self) -> Path:
        """CelebA's list of splits, as .txt or .csv."""
        files = [in_any_case(folder, name) for folder in self._places for name in PARTITIONS]
        return next((file for file in files if file.is_file()), files[0])

    def _splits(self, images: dict[int, Path], on_error: ErrorHandler) -> dict[int, str]:
        """The split of each image, by way of its name in CelebA."""
        mappings = [in_any_case(folder, MAPPING) for folder in self._places]
        mapping = next((file for file in mappings if file.is_file()), mappings[0])
        partition = self._partition()
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
        return self._masks / str(index)

    def _parts(self, folders: Iterable[int], on_error: ErrorHandler) -> dict[int, Parts]:
        """The parts of each face in some folders, and in one for all, in the order of the classes, by file names."""
        found: dict[int, tuple[Path, dict[str, str]]] = {}
        for folder, name, number, part in self._part_files(folders, on_error):
            place, suffixes = found.setdefault(number, (folder, {}))
            if place != folder or part in suffixes:
                on_error("same_name", [str(number)], same_name(self._masks, f"{number:05d}_{part}.png", name))
            else:
                suffixes[part] = name[-len(".png") :]
        if not found:
            on_error("missing_folder", [MASKS], self._merged() or self.missing(self._masks))
        return {face: _parts_of(folder, face, suffixes) for face, (folder, suffixes) in found.items()}

    def _part_files(self, folders: Iterable[int], on_error: ErrorHandler) -> Iterator[tuple[Path, str, int, str]]:
        """Folder, name, face and part of each mask."""
        for index in (None, *sorted(folders)):  # None: all masks in one folder
            folder = self._masks if index is None else self._mask_folder(index)
            first = (index or 0) * FACES_PER_FOLDER
            for name in names_in(folder):
                stem, _, suffix = name.rpartition(".")
                if suffix.lower() != "png" or (index is None and _is_number(stem)):  # a merged label map
                    continue
                face, _, part = stem.partition("_")
                number = int(face) if _is_number(face) else -1
                in_place = index is None or number // FACES_PER_FOLDER == index
                if part in PARTS and face == f"{number:05d}" and in_place:
                    yield folder, name, number, part
                    continue
                error = DataError(
                    f"{folder / name} is not a mask of CelebAMask-HQ.\n"
                    f"Expected: names as {first:05d}_skin.png, {FACES_PER_FOLDER} faces a folder, with one of "
                    f"{', '.join(PARTS)}; move it elsewhere."
                )
                on_error("foreign_file", [name], error)

    def _merged(self) -> DataError | None:
        """The error for a copy that holds label maps, merged by another tool, in place of the masks."""
        for name in MERGED:
            folder = unpacked(in_any_case(self._base, name))
            label = next((file for file in names_in(folder) if _is_label_map(file)), None)
            if label is not None:
                return DataError(
                    f"{self.root} holds no part masks, but label maps that were merged already, as {folder / label}.\n"
                    f"Expected: the masks as published, in {self._masks}. Do one of:\n"
                    f"  - put them there\n"
                    f"  - read the label maps as data of your own: rename {folder.name} to labels and {IMAGES} to "
                    f"images, and write\n    classes.yaml with the names of their ids (docs/your_own_faces.md); then "
                    f"datamodule=folder. The usual order is\n    {', '.join(CELEBAMASK_HQ.classes)}"
                )
        return None


def _parts_of(folder: Path, face: int, suffixes: dict[str, str]) -> Parts:
    names = tuple(part for part in PARTS if part in suffixes)
    given = tuple(suffixes[name] for name in names)
    return Parts(folder, f"{face:05d}", names, given if set(given) != {".png"} else ())


def _is_label_map(name: str) -> bool:
    stem, _, suffix = name.rpartition(".")
    return suffix.lower() == "png" and _is_number(stem)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_header(line: int, first: str) -> bool:  # noqa: ARG001 (some lists have a header of several lines)
    return first in ("idx", "image_id")
