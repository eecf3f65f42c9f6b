"""What a layout knows of one face: an id and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Sample:
    """One face on disk; nothing is read yet.

    Args:
        id: name of the face within its split, without extension.
        image: the picture.
        label: the label map, or None for an unlabelled face.
        landmarks: the landmark file, or None where the data set has none.
    """

    id: str
    image: Path
    label: Path | None = None
    landmarks: Path | None = None
