"""The interface of all data set readers, and functions that they share."""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from datamodules.image_files import UNSUPPORTED, is_image, stem_of
from datamodules.labels import LabelSet
from datamodules.layouts.sample import Sample
from datamodules.mask_rules import MaskRules
from foundation.errors import DataError
from foundation.names import shown
from foundation.notices import first_of, notice
from foundation.paths import ordinary

SPLITS = ("train", "val", "test")
ALL = "all"
"""All faces, in no matter which split: for scoring and prediction, not for training."""
SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of a split's folder in copies of data sets, the published one first."""
SPLIT_OF_FOLDER = {folder: split for split, folders in SPLIT_FOLDERS.items() for folder in folders}

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
    mask: MaskRules | None = MaskRules()
    """What is declared about binary masks; None: they are 0 and 255, as this project writes them."""
    notes: Sequence[str] = ()
    """What the reader left out of the faces it returned, one line each, for the console and the status."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def origin(self) -> str:
        """``drawn`` for synthetic faces of this project's generator, else ``real``; recorded in the runs' status."""
        return "drawn" if "drawn" in (recorded_origin(self.root), recorded_origin(self._base)) else "real"

    @property
    def labelled_splits(self) -> Sequence[str]:
        """The splits with labelled faces; a published data set has them in each."""
        return SPLITS

    @property
    def _base(self) -> Path:
        """The folder that holds the published folders: the root, or one in it, see :func:`folder_with`."""
        return self.root

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
        state = state_of(place)
        alternative = ALTERNATIVES[self.kind].format(name=self.name, title=self.title)
        return DataError(
            f"No {self.title} faces: {place} {state}.\n"
            f"Expected under {self.root}:  {self.published}\n"
            f"  - give its path: datamodule.root=/path/to/{self.title}\n{alternative}"
        )


def state_of(place: Path) -> str:
    """What is wrong with a folder or file that lacks what was expected of it, for messages."""
    if not place.is_dir():
        return "is not an ordinary file" if place.exists() else "does not exist"
    names = [shown(name)[:40] for name in names_in(place)]
    if not names:
        return "is empty"
    return f"holds {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}, which is not what is expected there"


def in_any_case(folder: Path, name: str) -> Path:
    """The path of a name below a folder, with ``/``; where it does not exist, of the only one that differs in case."""
    path = folder
    for part in name.split("/"):
        found = path / part
        alike = [] if found.exists() else [other for other in names_in(path) if other.lower() == part.lower()]
        path = path / alike[0] if len(alike) == 1 else found
    return path


def split_folder(root: Path, split: str) -> Path:
    """The folder of a split, by the first of its names that exists; by the published name if none does."""
    folders = [in_any_case(root, name) for name in SPLIT_FOLDERS.get(split, (split,))]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def folder_with(root: Path, expected: Sequence[str]) -> Path | None:
    """The folder that holds one of the expected folders: the root, or the only one in it that does.

    Archives contain a folder, and are often unpacked into one of the same name: ``LaPa/LaPa/train/images``.
    """
    inner = (root / name for name in names_in(root) if name != "__MACOSX" and (root / name).is_dir())
    for places in ([root], inner):
        holding = [place for place in places if any(in_any_case(place, name).is_dir() for name in expected)]
        if len(holding) == 1:
            return holding[0]
    return None


def unpacked(folder: Path) -> Path:
    """A folder, or the folder of the same name in it."""
    return inner if (inner := in_any_case(folder, folder.name)).is_dir() else folder


def recorded_origin(folder: Path) -> str | None:
    """The origin that a built data set records; None for other folders."""
    try:
        about = json.loads(ordinary(folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # absent, or of another tool
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
    names = files_below(folder) if deep else names_in(folder)
    return _by_stem(folder, [name for name in names if name.lower().endswith(suffixes)], on_error)


def images_by_stem(folder: Path, on_error: ErrorHandler = raise_error, deep: bool = False) -> dict[str, Path]:
    """The images of a folder, of all forms that are read, see :func:`files_by_stem`; other files are named.

    Raises:
        DataError: if ``on_error`` raises: for images of a form that is not supported, and for two of one stem.
    """
    images, others = sorted_images(folder, files_below(folder) if deep else names_in(folder))
    others = [name for name in others if deep or not (folder / name).is_dir()]
    if others and on_error is raise_error:
        notice(f"{left_out(folder, others)}.")
    elif others:
        on_error("foreign_file", others, DataError(f"{left_out(folder, others)}."))
    files = _by_stem(folder, images, on_error)
    if unsupported := [stem for stem, path in files.items() if path.suffix.lower() in UNSUPPORTED]:
        names = [files[stem].name for stem in unsupported]
        error = DataError(
            f"{len(names)} of {len(images)} images in {folder} are of an unsupported form: {first_of(names)}.\n"
            f"Expected: JPEG, PNG, WebP, TIFF or the like; convert them, or move them away."
        )
        on_error("unreadable_image", unsupported, error)
    return files


def sorted_images(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of a folder's images, and those of its other files."""
    images = [name for name in names if not name.endswith("/") and is_image(folder / name)]
    return images, sorted({*names} - {*images}) if len(images) < len(names) else []


def left_out(folder: Path, names: Sequence[str]) -> str:
    """The message about files of a folder that are no images."""
    links = " (links to folders are not followed)" if any(name.endswith("/") for name in names) else ""
    return f"{len(names)} files in {folder} are left out, since they are no images{links}: {first_of(names)}"


def _by_stem(folder: Path, names: Sequence[str], on_error: ErrorHandler) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name in names:
        stem, path = stem_of(name), folder / name
        if stem in files:
            on_error("same_name", [stem], same_name(path.parent, files[stem].name, path.name))
        else:
            files[stem] = path
    return files


def files_below(folder: Path, skipped: Callable[[Path], bool] | None = None) -> list[str]:
    """Paths of the files below a folder, at any depth, sorted; hidden files are left out.

    Links to folders are not followed, since they may lead in a circle; they are listed with a ``/`` at their end.

    Args:
        folder: the folder.
        skipped: whether a folder is left out with all below it; None takes all others.
    """
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=_unless_absent):
        here = Path(place)
        folders[:] = [name for name in folders if not (name[0] == "." or (skipped and skipped(here / name)))]
        above = f"{here.relative_to(folder).as_posix()}/".removeprefix("./")
        found += [above + name for name in names if name[0] != "."]
        found += [f"{above}{name}/" for name in folders if (here / name).is_symlink()]
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
    for number, line in enumerate(lines_of(file), start=1):
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


def lines_of(file: Path) -> list[str]:
    """The lines of a list of file names, which need not be UTF-8.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        text = ordinary(file).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.\nExpected: a text file.") from error
    return text.split("\n")


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
