"""Base of readers of data sets without pixel ground truth, on which segmenters are tested by boxes and kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datamodules.image_files import is_image
from datamodules.labels import OCCLUSION
from datamodules.layouts.layout import ALL, ErrorHandler, Layout, files_below
from datamodules.layouts.sample import Sample
from foundation.errors import DataError
from foundation.names import shown

SHOWN = 5
"""Broken annotations that a message quotes."""


@dataclass(frozen=True)
class Broken:
    """An annotation that gives no face.

    Args:
        kind: what is wrong, as it is counted: ``missing image``, ``empty box``.
        text: one line that names the file.
    """

    kind: str
    text: str


class AnnotatedLayout(Layout):
    """A data set whose faces have a kind and at best a box of the occluder; for testing, not for training.

    Args:
        root: the data set's folder.
        skip_broken: leave broken annotations out, with a note; else they are an error.
    """

    kind = "annotations"
    labels = OCCLUSION

    def __init__(self, root: Path, skip_broken: bool = False) -> None:
        super().__init__(root)
        self.skip_broken = skip_broken

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:  # noqa: ARG002 (there are no other files to check)
        """All faces."""
        return {"": self.samples(ALL)}

    def _images_below(self) -> list[Path]:
        """The images at any depth, by their names below the root."""
        return [path for name in files_below(self.root) if is_image(path := self.root / name)]

    def _intact(self, found: Iterable[Sample | Broken], split: str) -> list[Sample]:
        """The faces among what was found.

        Raises:
            DataError: if an annotation is broken, unless such are skipped, or if there is no face.
        """
        read = list(found)
        samples = [one for one in read if isinstance(one, Sample)]
        broken = [one for one in read if isinstance(one, Broken)]
        if not broken and samples:
            self.notes = ()
            return samples
        counts = ", ".join(f"{count} x {kind}" for kind, count in Counter(one.kind for one in broken).most_common())
        summary = f"{len(broken)} of {len(read)} annotations of {self.root} are broken: {counts}."
        lines = [one.text for one in broken[:SHOWN]] + (["..."] if len(broken) > SHOWN else [])
        if broken and not self.skip_broken:
            raise DataError("\n".join([*lines, summary, "Repair them, or leave them out: skip_broken=true."]))
        if not samples:
            what = f"{summary} No face remains" if broken else f"{self.root} annotates no face of the split {split}"
            raise DataError("\n".join([*lines, f"{what}.", "Expected: one at least; or another split, split=all."]))
        self.notes = (shown(f"left out, with skip_broken=true: {summary} The first: {broken[0].text}"),)
        return samples
