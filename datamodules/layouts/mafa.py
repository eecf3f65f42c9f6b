"""MAFA (Ge et al., CVPR 2017): photographs with boxes of faces and of their occluders, in MATLAB files.

``train-images/images`` with ``MAFA-Label-Train/LabelTrainAll.mat``, ``test-images/images`` with
``MAFA-Label-Test/LabelTestAll.mat``; either half is enough, and the ``.mat`` files may lie in the root. A training
face has 21 numbers: box (x, y, w, h), two eyes, box of the occluder from the face's corner, type, degree, gender, race,
orientation, box of glasses; a test face 18: box, kind of face, box of the occluder, type and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.layouts.annotated import AnnotatedLayout, Broken
from datamodules.layouts.layout import ALL
from datamodules.layouts.sample import Annotation, Box, Sample
from foundation.errors import DataError
from foundation.paths import DataRoot, ordinary

SPLITS = {"train": ("Train", "label_train", 1), "test": ("Test", "LabelTest", 0)}
"""Split -> part of its file names, its table, and the table's column with the image's name."""
TEST_KINDS = {1: "masked", 2: "bare"}  # 3 is an invalid face
OCCLUDERS = {1: "simple", 2: "complex", 3: "body"}
LARGEST = 65_535
"""Largest coordinate of a box, in pixels: that of the largest JPEG."""
ORIENTATIONS = {1: "left", 2: "left_frontal", 3: "frontal", 4: "right_frontal", 5: "right"}


class MAFA(AnnotatedLayout):
    """Reads MAFA; faces that its authors call invalid are left out."""

    name = "mafa"
    title = "MAFA"
    published = (
        "train-images/images/*.jpg, MAFA-Label-Train/LabelTrainAll.mat,\n"
        "test-images/images/*.jpg, MAFA-Label-Test/LabelTestAll.mat (either half is enough)\nDo one of:"
    )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:  # noqa: ARG002 (they come with the boxes)
        """The faces of a split, in the table's order; several may share an image. See :meth:`Layout.samples`."""
        chosen = SPLITS if split == ALL else {split: SPLITS[split]} if split in SPLITS else {}
        tables = {name: self._table(name) for name in chosen}
        there = {name: table for name, table in tables.items() if table is not None}
        if not there:
            raise self.missing(self.root / f"MAFA-Label-{'Train' if split == 'train' else 'Test'}")
        return self._intact((one for name, table in there.items() for one in self._faces(name, table)), split)

    def _table(self, split: str) -> Path | None:
        half = SPLITS[split][0]
        file = f"Label{half}All.mat"
        places = (self.root / f"MAFA-Label-{half}" / file, self.root / file)
        return next((place for place in places if place.is_file()), None)

    def _faces(self, split: str, table: Path) -> Iterator[Sample | Broken]:
        # Imported late: importing the readers must stay fast.
        from scipy.io import loadmat

        _, key, column = SPLITS[split]
        try:
            rows = [(str(row[column].item()), row[column + 1].tolist()) for row in loadmat(ordinary(table))[key][0]]
        except Exception as error:
            raise DataError(
                f"{table} is not a table of MAFA ({type(error).__name__}: {error}).\n"
                f"Expected: {key}, with an image's name and its faces in each row, as published."
            ) from error
        folder = DataRoot(self.root / f"{split}-images" / "images", links=True)
        for name, faces in rows:
            image = folder.file(name, str(table))
            if not image.is_file():
                yield Broken("missing image", f"{table} names {name}, which is not in {folder.folder}.")
                continue
            for number, face in enumerate(faces if isinstance(faces, list) else [faces]):
                one = _face(split, f"{Path(name).stem}_{number}", image, table, face)
                if one is not None:
                    yield one


def _face(split: str, face_id: str, image: Path, table: Path, row: Any) -> Sample | Broken | None:
    count = len(row) if isinstance(row, list) else 1
    if count != (21 if split == "train" else 18) or not all(isinstance(part, int | float) for part in row):
        expected = "Expected: 21 in LabelTrainAll.mat, 18 in LabelTestAll.mat."
        return Broken("invalid row", f"{table}: face {face_id} has {count} numbers. {expected}")
    if not all(abs(part) <= LARGEST for part in row):  # false for NaN too
        return Broken("invalid row", f"{table}: face {face_id} has a number that is no pixel of an image.")
    x, y, width, height = row[:4]
    kind = "masked" if split == "train" else TEST_KINDS.get(row[4])
    (left, top, *size), rest = (row[8:12], row[12:]) if split == "train" else (row[5:9], row[9:])
    if kind is None or width <= 0 or height <= 0:
        return None
    occluder = _corners(x + left, y + top, *size) if kind == "masked" and min(size) > 0 else None
    groups = [f"kind/{kind}"]
    if kind == "masked":
        groups += [f"occluder/{OCCLUDERS[rest[0]]}"] if rest[0] in OCCLUDERS else []
    groups += [f"orientation/{ORIENTATIONS[rest[4]]}"] if rest[4] in ORIENTATIONS else []
    annotation = Annotation(table, _corners(x, y, width, height), occluder)
    return Sample(face_id, image, annotation=annotation, groups=tuple(groups))


def _corners(x: int, y: int, width: int, height: int) -> Box:
    return float(x), float(y), float(x + width), float(y + height)
