"""The interface of all data set readers, and functions that they share."""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from datamodules.labels import LabelSet
from datamodules.layouts.sample import Sample
from foundation.errors import DataError

SPLITS = ("train", "val", "test")
ALL = "all"
"""All faces, in no matter which split: for scoring and prediction, not for training."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
OWN_SUFFIXES = (*IMAGE_SUFFIXES, ".webp", ".bmp")
"""Images of a user's own folders, and of data sets without a fixed format."""

SYNTHETIC_FACES = "  - start with synthetic faces: make demo"
ALTERNATIVES = {
    "parsing": f"{SYNTHETIC_FACES} (in the layout of LaPa), or\n"
    "    python prepare.py task=synthetic_faces layout={name} count=2000 out=data/synthetic/{title}",
    "occlusion": f"{SYNTHETIC_FACES}'s, or\n"
    "    python prepare.py task=synthetic_faces count=700 out=data/synthetic/LaPa, then\n"
    "    python prepare.py task=masked_faces source=data/synthetic/LaPa count=2000 out=data/synthetic/AugmentedCelebA\n"
    "    and datamodule=augmented_celeba datamodule.root=data/synthetic/AugmentedCelebA",
    "annotations": "  - score on faces with pixel ground truth: dataset=image_mask_folder or dataset=augmented_celeba",
}
"""What to use instead of missing data, by :attr:`Layout.kind`: the last lines of that message."""

ErrorHandler = Callable[[str, Sequence[str], DataError], None]
"""Called by a reader with an error: its kind (``curation.audit.findings``), the ids of the faces or names of the files
concerned, and the exception. If it returns, the reader continues without them."""


def raise_error(kind: str, ids: Sequence[str], error: DataError) -> None:  # noqa: ARG001 (for other handlers)
    """The handler that raises the first error; for training, scoring and prediction."""
    raise error


class Layout(abc.ABC):
    """Reads a folder in a published layout; lists files, and opens only lists of names.

    Args:
        root: the data set's folder.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["parsing", "occlusion", "annotations"]] = "parsing"
    """Kind of labels: face parts, binary occlusion masks, or boxes and kinds of faces."""
    labels: LabelSet
    """The classes: of the data set as published, or those that the folder declares."""
    title: ClassVar[str]
    """The data set's name as published."""
    published: ClassVar[str]
    """The folder's expected content and where to get it: lines of an error message, without the root."""
    knows_faces: ClassVar[bool] = False
    """Whether its samples have the box of their face."""
    data_name: str | None = None
    """The owner's name for the data; None for a published data set."""
    declared: str | None = None
    """The folder's own declarations that change how labels are read; None for a published data set."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def origin(self) -> str:
        """``drawn`` for synthetic faces of this project's generator, else ``real``; recorded in the runs' status."""
        return "drawn" if recorded_origin(self.root) == "drawn" else "real"

    @abc.abstractmethod
    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, in an order that depends on nothing but their ids.

        Args:
            split: ``train``, ``val`` or ``test``; or ``all``, see :data:`ALL`.
            labelled: require labels for every image; otherwise only images are read.

        Raises:
            DataError: if files are absent or do not fit together.
        """

    @abc.abstractmethod
    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """Split -> all its faces, with their labels if they have any; "" holds faces that no list assigns.

        ``on_error`` is called with each error; with more than :meth:`samples` raises, such as labels without an image.
        """

    def missing(self, place: Path) -> DataError:
        """The error for a missing folder or file of the layout, with its expected content and what to do."""
        state = "is empty" if place.is_dir() else "does not exist"
        alternative = ALTERNATIVES[self.kind].format(name=self.name, title=self.title)
        return DataError(
            f"No {self.title} faces: {place} {state}.\n"
            f"Expected under {self.root}:  {self.published}\n"
            f"  - give its path: datamodule.root=/path/to/{self.title}\n{alternative}"
        )


def recorded_origin(folder: Path) -> str | None:
    """The origin that a built data set records; None for other folders."""
    try:
        about = json.loads((folder / "dataset.json").read_text())
    except (OSError, ValueError):  # absent, or of another tool
        return None
    return about.get("origin") if isinstance(about, dict) else None


def files_by_stem(
    folder: Path, suffixes: tuple[str, ...], on_error: ErrorHandler = raise_error, deep: bool = False
) -> dict[str, Path]:
    """Files of a folder by their names without extension, sorted; hidden files and other kinds are left out.

    Args:
        folder: the folder.
        suffixes: extensions in lower case, each with its dot.
        on_error: called with the error that two files share a stem.
        deep: take files at any depth, by their paths below the folder.
    """
    files: dict[str, Path] = {}
    for name in files_below(folder, suffixes) if deep else names_in(folder):
        stem, _, suffix = name.rpartition(".")
        if f".{suffix.lower()}" not in suffixes:
            continue
        path = folder / name
        if stem in files:
            on_error("same_name", [stem], same_name(path.parent, files[stem].name, path.name))
        else:
            files[stem] = path
    return files


def files_below(folder: Path, suffixes: tuple[str, ...], left_out: Callable[[Path], bool] | None = None) -> list[str]:
    """Paths of the files below a folder with one of the extensions, at any depth, sorted; hidden files are left out.

    Args:
        folder: the folder.
        suffixes: extensions in lower case, each with its dot.
        left_out: whether a folder is left out with all below it; None takes all others.
    """
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=_unless_absent):
        here = Path(place)
        folders[:] = [name for name in folders if not (name[0] == "." or (left_out and left_out(here / name)))]
        above = f"{here.relative_to(folder).as_posix()}/".removeprefix("./")
        found += [above + name for name in names if name[0] != "." and name.lower().endswith(suffixes)]
    return sorted(found)


def _unless_absent(error: OSError) -> None:
    """A folder that cannot be read is an error: os.walk would take it for an empty one."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def rows_of_list(
    file: Path, columns: int, is_header: Callable[[int, str], bool], on_error: ErrorHandler = raise_error
) -> Iterator[list[str]]:
    """The rows of a published list, columns separated by blanks or commas; another number of columns is an error.

    Args:
        file: the list.
        columns: the number of columns.
        is_header: whether the line of a number, from 1 on, with this first column is no row.
        on_error: called with the error of a row, which is left out if it returns.
    """
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        row = line.replace(",", " ").split()
        if not row or is_header(number, row[0]):
            continue
        if len(row) == columns:
            yield row
        else:
            error = DataError(
                f"{file}, line {number}: {line[:80]!r}.\nExpected: {columns} columns; take the list as published."
            )
            on_error("broken_row", [f"{file.name}:{number}"], error)


def names_in(folder: Path) -> list[str]:
    """Sorted names of a folder's entries, hidden files left out; [] if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def same_name(folder: Path, first: str, second: str) -> DataError:
    """The error for two images of one face in a folder."""
    return DataError(
        f"Two files of one name in {folder}: {first} and {second}.\nExpected one file per face; remove one of them."
    )
