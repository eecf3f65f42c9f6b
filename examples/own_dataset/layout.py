"""A data set in a layout of one's own: LaPa's faces, split again by a hash of their names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from datamodules.labels import LAPA
from datamodules.layouts import SPLITS, Layout, Sample
from datamodules.layouts.layout import ALL


class HashedSplits(Layout):
    """All faces of ``<root>/*/images`` with their label maps in ``<root>/*/labels``.

    Args:
        root: the data set's folder.
        held_out: fraction of the faces in each of val and test.
    """

    name = "hashed_splits"
    labels = LAPA  # the ids in the label maps: names, colours and left/right pairs
    title = "LaPa"
    published = "*/images/*.jpg, */labels/*.png (class ids 0..10)"

    def __init__(self, root: Path, held_out: float = 0.15) -> None:
        super().__init__(root)
        self.held_out = held_out

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, sorted by id; ``all`` is every face."""
        found: list[Sample] = []
        for image in sorted(self.root.glob("*/images/*.jpg")):
            face = f"{image.parent.parent.name}_{image.stem}"
            label = image.parent.parent / "labels" / f"{image.stem}.png"
            if split in (ALL, self._split(face)):
                found.append(Sample(face, image, label if labelled else None))
        if not found:
            raise self.missing(self.root)
        return found

    def survey(self, on_error: object) -> dict[str, list[Sample]]:
        """Every face by its split, for ``prepare.py task=audit``; nothing can be wrong with a hash."""
        del on_error
        return {split: self.samples(split) for split in SPLITS}

    def _split(self, face: str) -> str:
        position = (
            int(hashlib.sha256(os.fsencode(face)).hexdigest()[:8], 16) / 2**32
        )  # 0..1, the same on every computer
        return "val" if position < self.held_out else "test" if position < 2 * self.held_out else "train"
