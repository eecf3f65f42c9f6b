"""One face of a data set on disk: its id, its files and its groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Parts:
    """Labels as one mask per part, ``{folder}/{face}_{part}.png``; paths are built on demand.

    Args:
        folder: folder of the masks.
        face: prefix of their names.
        names: the parts that have a mask.
        suffixes: of their files, in the same order; () if all are ``.png``.
    """

    folder: Path
    face: str
    names: tuple[str, ...]
    suffixes: tuple[str, ...] = ()

    @property
    def files(self) -> list[tuple[str, Path]]:
        """Name and mask of each part."""
        suffixes = self.suffixes or (".png",) * len(self.names)
        named = zip(self.names, suffixes, strict=True)
        return [(name, self.folder / f"{self.face}_{name}{suffix}") for name, suffix in named]


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
RelativeBox = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions of an image's width and height."""

KINDS = ("masked", "incorrect", "bare")
"""Kinds of faces without pixel ground truth: a mask over nose and mouth, a mask that leaves them free, no mask."""


@dataclass(frozen=True, order=True)
class Annotation:
    """Annotation of a face without pixel ground truth; its kind is a group of its sample, such as ``kind/masked``.

    Args:
        file: the file of the annotation; None where a folder's name gives the kind.
        face: the face's box; None where the image is one face.
        occluder: the occluder's box; None if unknown.
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
        label: the label map; None for an unlabelled face and before its part masks are merged.
        landmarks: the landmark file, if the data set has one.
        parts: the part masks, if the data set has labels as such.
        annotation: kind and boxes, if the data set has no pixel ground truth.
        photograph: the same image without rendered masks, if the data set keeps it.
        source: the photograph it was made from, if several samples share one.
        face: the box of its landmarks, if the data set has landmarks.
        groups: the groups that it is scored in, such as ``type/surgical``, if the data set has any.
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
        """The published files of this face's labels, each with its role: a part's name, annotation or label."""
        if self.parts is not None:
            return self.parts.files
        if self.annotation is not None:
            return [] if self.annotation.file is None else [("annotation", self.annotation.file)]
        return [] if self.label is None else [("label", self.label)]
