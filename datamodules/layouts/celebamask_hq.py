"""CelebAMask-HQ as published (Lee et al., CVPR 2020): pictures, one mask for each part of a face, and two lists.

``CelebA-HQ-img/{i}.jpg`` (1024 px as published), ``CelebAMask-HQ-mask-anno/{i // 2000}/{i:05d}_{part}.png`` (512 px; a
part that is not seen has no file), ``CelebA-HQ-to-CelebA-mapping.txt`` (which picture of CelebA each one was), and
CelebA's ``list_eval_partition.txt`` (or Kaggle's ``.csv``), which says the split. The two lists are joined by the name
of CelebA's file: thresholds on ``orig_idx``, as in the data set's own script, put faces at the ends of a split into the
next one. Files are counted, never assumed: a part of the data set is a data set.
"""

from __future__ import annotations

from pathlib import Path

from datamodules.labels import CELEBAMASK_HQ
from datamodules.layouts.layout import IMAGE_SUFFIXES, SPLITS, Layout, files_by_stem, names_in, same_name
from datamodules.layouts.sample import Parts, Sample
from engine.errors import DataError

PARTS = CELEBAMASK_HQ.classes[1:]
FACES_PER_FOLDER = 2000
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
ALL = "all"
"""The split of every picture in the folder, which needs neither list: for scoring and prediction, not for training."""


class CelebAMaskHQ(Layout):
    """Reads a folder in CelebAMask-HQ's published layout.

    Args:
        root: the folder that holds ``CelebA-HQ-img`` and ``CelebAMask-HQ-mask-anno``.
    """

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
        """The faces of a split, in the order of their numbers, which are their ids.

        Args:
            split: ``train``, ``val`` or ``test``; or ``all``, for which no list is needed.
            labelled: require at least one part for every picture; otherwise only pictures are looked at.

        Raises:
            DataError: if a folder or list is absent or empty, a list has no row for a picture, two pictures have one
                number, a file has a name that is none of the layout, or a face has no parts.
        """
        images = self._images()
        if split != ALL:
            images = self._of_split(images, split)
        if not labelled:
            return [Sample(str(number), image) for number, image in images.items()]
        parts = self._parts({number // FACES_PER_FOLDER for number in images})
        without = [number for number in images if number not in parts]
        if without:
            first = images[without[0]]
            raise DataError(
                f"{len(without)} of {len(images)} faces have no part at all, the first is {first.name}.\n"
                f"Expected: masks as {self._mask_folder(without[0] // FACES_PER_FOLDER) / f'{without[0]:05d}_skin.png'}"
                f"\nAdd the masks, or move such pictures out of {first.parent}."
            )
        return [Sample(str(number), image, parts=parts[number]) for number, image in images.items()]

    def _images(self) -> dict[int, Path]:
        """The pictures by their numbers, sorted."""
        folder = self.root / "CelebA-HQ-img"
        images: dict[int, Path] = {}
        for stem, image in files_by_stem(folder, IMAGE_SUFFIXES).items():
            if not _is_number(stem):
                raise DataError(f"{image} is no picture of CelebA-HQ.\nExpected: names as 0.jpg; move it elsewhere.")
            if int(stem) in images:
                raise same_name(folder, images[int(stem)].name, image.name)
            images[int(stem)] = image
        if not images:
            raise self.missing(folder)
        return dict(sorted(images.items()))

    def _of_split(self, images: dict[int, Path], split: str) -> dict[int, Path]:
        """The pictures that CelebA's partition puts into a split."""
        mapping = self.root / MAPPING
        partition = next((file for name in PARTITIONS if (file := self.root / name).is_file()), None)
        if not mapping.is_file() or partition is None:
            raise self.missing(mapping if not mapping.is_file() else self.root / PARTITIONS[0])
        originals = {row[0]: row[2] for row in _rows(mapping, columns=5)}
        splits = {row[0]: row[1] for row in _rows(partition, columns=2)}
        wanted = str(SPLITS.index(split))
        chosen: dict[int, Path] = {}
        for number, image in images.items():
            original = originals.get(str(number))
            if original is None:
                raise DataError(
                    f"{mapping} has no row for {image.name}.\nExpected: a row that starts with {number} for each "
                    f"picture; take the list as published, or move the picture elsewhere."
                )
            found = splits.get(original)
            if found not in ("0", "1", "2"):
                raise DataError(
                    f"{partition} has {'no row' if found is None else f'split {found}'} for {original}, which is "
                    f"{image.name}.\nExpected: 0, 1 or 2 (train, val, test) for each picture; take CelebA's list."
                )
            if found == wanted:
                chosen[number] = image
        if not chosen:
            raise DataError(
                f"No face of {self.root} is in the split {split}: {MAPPING} and {partition.name} put all {len(images)} "
                f"into others.\nExpected: faces of all three splits; add some."
            )
        return chosen

    def _mask_folder(self, index: int) -> Path:
        return self.root / "CelebAMask-HQ-mask-anno" / str(index)

    def _parts(self, folders: set[int]) -> dict[int, Parts]:
        """The parts of each face in some folders, in the order of the classes; no file is looked at by itself."""
        found: dict[int, set[str]] = {}
        for index in sorted(folders):
            folder = self._mask_folder(index)
            for name in names_in(folder):
                stem, _, suffix = name.rpartition(".")
                if suffix != "png":
                    continue
                face, _, part = stem.partition("_")
                if part not in PARTS or not _is_mask_number(face, index):
                    raise DataError(
                        f"{folder / name} is no mask of CelebAMask-HQ.\n"
                        f"Expected: names as {index * FACES_PER_FOLDER:05d}_skin.png, {FACES_PER_FOLDER} faces a "
                        f"folder, with one of {', '.join(PARTS)}; move it elsewhere."
                    )
                found.setdefault(int(face), set()).add(part)
        if not found:
            raise self.missing(self.root / "CelebAMask-HQ-mask-anno")
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


def _is_mask_number(text: str, folder: int) -> bool:
    """Whether masks of a folder are named by this number: five digits or more."""
    return _is_number(text) and text == f"{int(text):05d}" and int(text) // FACES_PER_FOLDER == folder


def _rows(file: Path, columns: int) -> list[list[str]]:
    """The rows of a list, whose columns are parted by blanks or commas, without its head.

    Raises:
        DataError: if a row has another number of columns.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        row = line.replace(",", " ").split()
        if not row or row[0] in ("idx", "image_id"):
            continue
        if len(row) != columns:
            raise DataError(
                f"{file}, line {number}: {line[:80]!r}.\nExpected: {columns} columns; take the list as published."
            )
        rows.append(row)
    return rows
