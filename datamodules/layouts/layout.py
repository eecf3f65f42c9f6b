"""What every published layout answers, and what their readers share."""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from datamodules.labels import LabelSet
from datamodules.layouts.sample import Sample
from foundation.errors import DataError

SPLITS = ("train", "val", "test")
ALL = "all"
"""Every face there is, whatever lists of splits say or lack: for scoring and prediction, not for training."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

Met = Callable[[str, Sequence[str], DataError], None]
"""What becomes of an error that a reader meets: its kind (``curation.audit.findings``), the ids of the faces, or names
of the files, that have it, and the error in words. If it returns, the reader goes on without what was at error."""


def refuse(kind: str, ids: Sequence[str], error: DataError) -> None:  # noqa: ARG001 (what others tell apart)
    """Raise the first error, as whoever wants to use the data does."""
    raise error


class Layout(abc.ABC):
    """Reads a folder in a published layout; files are listed, none is opened but for lists of names.

    Args:
        root: the data set's folder.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["parsing", "occlusion", "annotations"]] = "parsing"
    """What its labels are: face parts, binary masks of what is occluded, or boxes and kinds of faces."""
    labels: LabelSet
    """The classes: of the data set as published, or those that the folder declares."""
    title: ClassVar[str]
    """The data set's name as it is written."""
    published: ClassVar[str]
    """What belongs into the folder, and where it is to be had: lines of a message, the root left open."""
    knows_faces: ClassVar[bool] = False
    """Whether its samples say where in the image their face is."""

    @property
    def drawn_instead(self) -> str:
        """How to do without the data set: the last lines of that message."""
        return (
            "  - start with synthetic faces: make demo (in the layout of LaPa), or\n"
            f"    python prepare.py task=synthetic_faces layout={self.name} count=2000 out=data/synthetic/{self.title}"
        )

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def data_name(self) -> str | None:
        """What the folder's owner calls the data; None for a published data set."""
        return None

    @property
    def declared(self) -> str | None:
        """What the folder declares of its labels that changes how they are read; None where all is published."""
        return None

    @property
    def origin(self) -> str:
        """``drawn`` if this project's generator made the images, else ``real``."""
        try:
            about = json.loads((self.root / "dataset.json").read_text())
        except (OSError, ValueError):  # not there, or somebody else's
            return "real"
        return "drawn" if isinstance(about, dict) and about.get("origin") == "drawn" else "real"

    @abc.abstractmethod
    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, in an order that depends on nothing but their ids.

        Args:
            split: ``train``, ``val`` or ``test``; or ``all``, see :data:`ALL`.
            labelled: require labels for every image; otherwise only images are looked at.

        Raises:
            DataError: if files are absent or do not fit together.
        """

    @abc.abstractmethod
    def survey(self, met: Met) -> dict[str, list[Sample]]:
        """Every image there is by its split, each error handed over instead of raised.

        Args:
            met: is told of each error; more than :meth:`samples` raises, such as labels without an image.

        Returns:
            Split -> faces, with the labels that they have; the split "" holds those whose split no list says.
        """

    def missing(self, place: Path) -> DataError:
        """The error that a folder or file of the layout is not there, with what belongs there and what to do."""
        state = "is empty" if place.is_dir() else "does not exist"
        return DataError(
            f"No {self.title} faces: {place} {state}.\n"
            f"Expected under {self.root}:  {self.published}\n"
            f"  - say where it lies: datamodule.root=/path/to/{self.title}\n{self.drawn_instead}"
        )


def files_by_stem(folder: Path, suffixes: tuple[str, ...], met: Met = refuse) -> dict[str, Path]:
    """Files of a folder by their names without extension, sorted; hidden files and other kinds are left out.

    Raises:
        DataError: if two files share a stem.
    """
    files: dict[str, Path] = {}
    for name in names_in(folder):
        stem, _, suffix = name.rpartition(".")
        if f".{suffix.lower()}" not in suffixes:
            continue
        if stem in files:
            met("same_name", [stem], same_name(folder, files[stem].name, name))
            continue
        files[stem] = folder / name
    return files


def names_in(folder: Path) -> list[str]:
    """Sorted names of what lies in a folder, hidden files left out; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def same_name(folder: Path, first: str, second: str) -> DataError:
    """The error that two images of a folder stand for one face."""
    return DataError(
        f"Two files of one name in {folder}: {first} and {second}.\nExpected one file per face; remove one of them."
    )
