"""What a layout knows of one face: an id and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Parts:
    """Labels as one mask a part, ``{folder}/{face}_{part}.png``; paths are made as they are asked for.

    Args:
        folder: where the masks lie.
        face: how their names begin.
        names: the parts that have a mask.
    """

    folder: Path
    face: str
    names: tuple[str, ...]

    @property
    def files(self) -> list[tuple[str, Path]]:
        """Name and mask of each part."""
        return [(name, self.folder / f"{self.face}_{name}.png") for name in self.names]


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
RelativeBox = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions of an image's width and height."""

KINDS = ("masked", "incorrect", "bare")
"""What is known of a face without pixel ground truth: a mask over nose and mouth, one that leaves them free, none."""


@dataclass(frozen=True, order=True)
class Annotation:
    """What a data set without pixel ground truth says of a face; its kind is the group ``kind/masked`` of its sample.

    Args:
        file: the file that says so; None where a folder's name does.
        face: where it is; None where the whole image is one face.
        occluder: where what hides it is; None where nobody says.
    """

    file: Path | None = None
    face: Box | None = None
    occluder: Box | None = None


@dataclass(frozen=True, order=True)
class Sample:
    """One face on disk; nothing is read yet.

    Args:
        id: name of the face within its split, without extension.
        image: the image.
        label: the label map, or None for an unlabelled face and for one whose parts are not merged.
        landmarks: the landmark file, or None where the data set has none.
        parts: the parts' masks, where the data set keeps labels so.
        annotation: what is known of it instead of labels, where the data set has no pixel ground truth.
        photograph: the same image without what was drawn over it, where the data set keeps it.
        source: the photograph it was made of, where several were made of one.
        face: the box of its landmarks, where the data set tells it.
        groups: what it belongs to and is scored with, as ``type/surgical``, where the data set says so.
    """

    id: str
    image: Path
    label: Path | None = None
    landmarks: Path | None = None
    parts: Parts | None = None
    annotation: Annotation | None = None
    photograph: Path | None = None
    source: str | None = None
    face: RelativeBox | None = None
    groups: tuple[str, ...] = ()

    @property
    def label_files(self) -> list[tuple[str, Path]]:
        """The published files that say this face's labels, each with what it is to the face."""
        if self.parts is not None:
            return self.parts.files
        if self.annotation is not None:
            return [] if self.annotation.file is None else [("annotation", self.annotation.file)]
        return [] if self.label is None else [("label", self.label)]
