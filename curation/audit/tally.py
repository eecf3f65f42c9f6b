"""Totals of an audit: findings by kind, and counts of classes, image sizes and splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curation.audit.faces import Face
from curation.audit.findings import KINDS, Finding, Findings
from datamodules.labels import LabelSet
from foundation.names import shown

SMALL = 0.01
"""Share of pixels below which a class is a small one, in the paper's sense."""


NAMED = 5
"""Other images that the finding of a duplicate names; ``duplicate_groups`` of the report has all."""


def _name_in_split(split: str, face: Face) -> str:
    name = shown(face.sample.id)
    return f"{name} ({split})" if split else name


@dataclass
class Tally:
    """Adds up faces as they are read; keeps a few hundred bytes of each.

    Args:
        labels: the classes.
        findings: the layout reader's findings.
        masks: the values of a set of masks and how they are read.
    """

    labels: LabelSet
    findings: Findings
    splits: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    labelled: int = 0
    """Faces whose label map could be read."""
    pixels: np.ndarray = field(init=False)
    """(classes,) pixels of each class."""
    holders: np.ndarray = field(init=False)
    """(classes,) faces that have each class."""
    masks: dict[str, Any] = field(default_factory=dict)
    _by_digest: dict[bytes, list[tuple[str, Face]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pixels, self.holders = (np.zeros(len(self.labels), dtype=np.int64) for _ in range(2))

    def add(self, face: Face, split: str) -> None:
        """Count a face of a split."""
        self.splits[split] += 1
        for finding in face.findings:
            self.findings.add(finding)
        if face.size is not None:
            self.sizes[face.size] += 1
            self._by_digest.setdefault(face.digest, []).append((split, face))
        if face.pixels is not None:
            self.labelled += 1
            self.pixels += face.pixels
            self.holders += face.pixels > 0

    def close(self) -> None:
        """Find duplicate images, after all faces were added.

        A finding names a few of the others, so that a thousand copies of one image give a thousand short findings.
        """
        for group in self.duplicates:
            first = [_name_in_split(split, face) for split, face in group[: NAMED + 1]]
            for index, (_, face) in enumerate(group):
                others = [name for number, name in enumerate(first) if number != index][:NAMED]
                more = len(group) - 1 - len(others)
                named = ", ".join(others) + (f" and {more} more" if more else "")
                text = f"{shown(face.sample.image.name)} has the pixels of {named}."
                self.findings.add(Finding("duplicate", face.sample.id, text, face.sample))

    @property
    def duplicates(self) -> list[list[tuple[str, Face]]]:
        """Groups of faces, each with its split, whose images have the same pixels."""
        return [group for group in self._by_digest.values() if len(group) > 1]

    @property
    def faces(self) -> int:
        return self.splits.total()

    @property
    def shares(self) -> np.ndarray:
        """(classes,) share of all labelled pixels."""
        return self.pixels / max(1, int(self.pixels.sum()))

    def as_plain(self) -> dict[str, Any]:
        """Everything as plain values, with the ids of each kind of finding under its name."""
        classes = {
            name: {"share": float(share), "faces": int(count), "small": bool(share < SMALL)}
            for name, share, count in zip(self.labels.classes, self.shares, self.holders, strict=True)
        }
        return {
            "faces": self.faces,
            "labelled": self.labelled,
            "splits": {split or "none": count for split, count in self.splits.items()},
            "sizes": {f"{width}x{height}": count for (height, width), count in self.sizes.most_common()},
            "classes": classes,
            **({"masks": self.masks} if self.masks else {}),
            **{kind: self.findings.ids(kind) for kind in KINDS},
            "duplicate_groups": [[_name_in_split(*one) for one in group] for group in self.duplicates],
            "details": {kind: texts for kind in KINDS if (texts := self.findings.texts(kind))},
        }
