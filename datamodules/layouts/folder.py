"""A user's own images and classes: ``images/``, ``labels/`` and ``classes.yaml``.

Images lie at any depth; the label map of ``images/a/1.jpg`` is ``labels/a/1.png``, and the id of both is ``a/1``. An
image without a label map is unlabelled: pre-training uses it, fine-tuning and scoring do not. The splits come from

- folders: ``train/images``, ``train/labels``, ``val/...``, ``test/...`` in place of ``images`` and ``labels``;
- lists: ``train.txt``, ``val.txt``, ``test.txt``, one id a line;
- random: 80 % of the labelled images for training, 10 % for validation, 10 % for the test, by the seed in
  ``classes.yaml``. They depend on the ids alone; a new image moves at most one other image between splits at each
  border.

Without folders, unlabelled images that no list names are training images; labelled ones are left out. With
``random_split=False`` all images are training images where neither folders nor lists make a split.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from datamodules.declared_classes import FILE, read_classes
from datamodules.layouts.layout import (
    ALL,
    SPLITS,
    ErrorHandler,
    Layout,
    files_below,
    files_by_stem,
    images_by_stem,
    in_any_case,
    lines_of,
    raise_error,
    sorted_images,
    split_folder,
    state_of,
)
from datamodules.layouts.sample import Sample
from foundation.errors import DataError
from foundation.names import one_line, to_bytes

SCORED = 0.1
"""Share of the labelled images that a random split gives to validation, and to the test."""


class Folder(Layout):
    """Reads a folder of the user's own images, label maps and classes.

    Args:
        root: the folder.
        random_split: split at random where the folder has no split of its own.

    Raises:
        DataError: if there is no ``classes.yaml``, or an entry of it is invalid.
    """

    name = "folder"
    title = "my_faces"
    published = (
        "classes.yaml, images/*.jpg and labels/*.png of the same names (or train|val|test / images, labels)\n"
        "Do one of:\n"
        "  - put images and label maps there: docs/your_own_faces.md"
    )

    def __init__(self, root: Path, random_split: bool = True) -> None:
        super().__init__(root)
        self.random_split = random_split
        if not self.root.is_dir():
            raise self.missing(self.root)
        declared = read_classes(self.root / FILE)
        self.labels = declared.labels
        self.data_name = self.labels.name
        # As one line, without name and mappings, which change no trained weight.
        plain = {key: value for key, value in self.labels.as_plain().items() if key not in ("name", "mappings")}
        self.declared = json.dumps(plain, sort_keys=True)
        self.split_seed = declared.split_seed

    def missing(self, place: Path) -> DataError:
        """See :meth:`Layout.missing`."""
        return DataError(
            f"No images of your own: {place} {state_of(place)}.\nExpected under {self.root}:  {self.published}\n"
            f"  - name the folder that holds them: datamodule.root=/path/to/{self.title}"
        )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The images of a split, sorted by id; ``labelled`` leaves those without a label map out."""
        splits = self._splits(raise_error)
        names = SPLITS if split == ALL else (split,)
        images = [sample for name in names for sample in splits[name]]
        found = [sample for sample in images if sample.label is not None or not labelled]
        if not found:
            where = f"the split {split}" if split != ALL else "any split"
            what = f"{len(images)} images of {where}, none with a label map" if images else f"no image of {where}"
            message = f"{self.root} has {what}.\nExpected: one at least. {self._how()}"
            if split == "train" and images:
                message += "\nWithout any: self-training from synthetic labels, label_fraction=0 (docs/few_labels.md)."
            raise DataError(message)
        return found

    @property
    def labelled_splits(self) -> tuple[str, ...]:
        splits = self._splits(raise_error)
        return tuple(split for split in SPLITS if any(sample.label is not None for sample in splits[split]))

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """Every image by its split, see :meth:`Layout.survey`; a missing label map is not an error here."""
        return self._splits(on_error)

    @property
    def _in_folders(self) -> bool:
        return any(in_any_case(split_folder(self.root, split), "images").is_dir() for split in SPLITS)

    @property
    def _lists(self) -> list[Path]:
        return [file for split in SPLITS if (file := self.root / f"{split}.txt").is_file()]

    def _how(self) -> str:
        if self._in_folders:
            return f"Add images to {self.root}/<split>/images and their label maps to {self.root}/<split>/labels."
        if self._lists:
            return f"Name them in {', '.join(str(self.root / f'{split}.txt') for split in SPLITS)}."
        if not self.random_split:
            return f"Label maps are {self.root}/labels/<name>.png, of the same names as the images."
        return "A random split takes at least 3 labelled images; or make train.txt, val.txt and test.txt."

    def _splits(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """The images of each split; "" holds labelled ones that no list names."""
        if self._in_folders and (
            others := [place.name for place in (in_any_case(self.root, "images"), *self._lists) if place.exists()]
        ):
            error = DataError(
                f"{self.root} has folders for the splits and {' and '.join(others)}: which split is meant?\n"
                f"Expected: train/images and the like; or images/, with or without train.txt, val.txt and test.txt."
            )
            on_error("foreign_file", others, error)
        if self._in_folders:
            return {split: self._samples_in(split_folder(self.root, split), on_error) for split in SPLITS}
        samples = self._samples_in(self.root, on_error)
        if not samples:
            on_error("missing_folder", ["images"], self.missing(self.root / "images"))
        if self._lists:
            return self._split_by_lists(samples, on_error)
        return self._split_at_random(samples) if self.random_split else {"train": samples, "val": [], "test": []}

    def _split_at_random(self, samples: list[Sample]) -> dict[str, list[Sample]]:
        # By the ids alone: an image more or less moves few others, and every machine splits alike.
        order = sorted(
            (sample.id for sample in samples if sample.label is not None),
            key=lambda name: hashlib.sha256(to_bytes(f"{self.split_seed}/{name}")).digest(),
        )
        count = max(1, round(SCORED * len(order)))
        scored = dict.fromkeys(order[:count], "test") | dict.fromkeys(order[count : 2 * count], "val")
        return {split: [sample for sample in samples if scored.get(sample.id, "train") == split] for split in SPLITS}

    def _split_by_lists(self, samples: list[Sample], on_error: ErrorHandler) -> dict[str, list[Sample]]:
        known = {line: sample.id for sample in samples for line in (sample.id, one_line(sample.id))}
        splits: dict[str, str] = {}
        for split in SPLITS:
            file = self.root / f"{split}.txt"
            for number, name in self._listed(file, on_error):
                where = f"{file}, line {number}: {name[:80]!r}"
                if name not in known:
                    error = DataError(
                        f"{where} names no image: {self.root / 'images' / name}.jpg or the like is absent.\n"
                        f"Expected: ids of images, which are their paths below images/ without extension."
                    )
                    on_error("broken_row", [f"{file.name}:{number}"], error)
                elif known[name] in splits:
                    error = DataError(f"{where} is in {splits[known[name]]}.txt already.\nExpected: every image once.")
                    on_error("broken_row", [f"{file.name}:{number}"], error)
                else:
                    splits[known[name]] = split
        found: dict[str, list[Sample]] = {split: [] for split in (*SPLITS, "")}
        unlisted = "" if self.random_split or (self.root / "train.txt").is_file() else "train"
        for sample in samples:
            found[splits.get(sample.id, "train" if sample.label is None else unlisted)].append(sample)
        return found

    def _listed(self, file: Path, on_error: ErrorHandler) -> list[tuple[int, str]]:
        """Number and id of each line of a list that is not empty."""
        if not (self.random_split or file.is_file()):  # then no split but train is needed
            return []
        try:
            lines = lines_of(file)
        except DataError as reason:
            error = DataError(
                f"{str(reason).splitlines()[0].rstrip('.')}, but there is {self._lists[0].name}.\n"
                f"Expected: train.txt, val.txt and test.txt, one id a line; or none of them for a random split."
            )
            on_error("missing_list", [file.name], error)
            return []
        return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]

    def _samples_in(self, folder: Path, on_error: ErrorHandler) -> list[Sample]:
        """The images below ``images`` with their label maps, sorted by id."""
        pixels, maps = in_any_case(folder, "images"), in_any_case(folder, "labels")
        images = images_by_stem(pixels, on_error, deep=True)
        labels = files_by_stem(maps, (".png",), on_error, deep=True)
        below, _ = sorted_images(maps, files_below(maps))
        if others := [name for name in below if not name.lower().endswith(".png")]:
            error = DataError(
                f"{maps / others[0]} is no PNG, as are {len(others) - 1} more label maps.\n"
                f"Expected: label maps as PNG, which keeps every pixel as it is."
            )
            on_error("foreign_file", others, error)
        if unmatched := sorted(labels.keys() - images.keys()):
            error = DataError(
                f"{len(unmatched)} of {len(labels)} label maps in {maps} have no image, the first is "
                f"{labels[unmatched[0]].name}.\n"
                f"Expected: {pixels / unmatched[0]}.jpg or the like; add it, or move the label map away."
            )
            on_error("missing_image", unmatched, error)
        return [Sample(name, image, labels.get(name)) for name, image in sorted(images.items())]
