"""Decides how the masks of a data set are read, from the values of all of them, and counts what they mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.cache import in_threads
from datamodules.layouts import Layout
from datamodules.mask_rules import MaskReading
from datamodules.masks import Found, MaskFile, decide, survey_of
from foundation.errors import DataError
from foundation.notices import notice


@dataclass(frozen=True)
class MaskSurvey:
    """The masks of a data set.

    Args:
        where: what they are, for messages.
        files: the values of each readable one.
        reading: how they are read.
    """

    where: str
    files: Sequence[MaskFile]
    reading: MaskReading

    def warn(self) -> None:
        """A notice if no mask marks a pixel, or every mask all of its image."""
        if (text := self.describe_nothing()) is not None:
            notice(text)

    def describe_nothing(self) -> str | None:
        """The warning that no mask marks a pixel, or every mask all of its image; None if some mark a part."""
        marked = [_marked(file, self.reading) for file in self.files]
        if not any(occluded for occluded, _ in marked):
            what = "mark no pixel as occluded"
        elif all(occluded == valid for occluded, valid in marked):
            what = "all mark the complete image as occluded"
        else:
            return None
        return (
            (
                f"{self.where} ({len(marked)}) {what}; they are read as {self.reading.describe()}. If that is wrong: "
                f"mask.occluded, mask.void and mask.invert say what their values mean."
            )
            if marked
            else None
        )


def survey_masks(layout: Layout) -> MaskSurvey:
    """Read all masks of a data set, of all its splits: training and scoring decide alike.

    Raises:
        AmbiguousMaskError: if their values do not say which pixels are occluded.
    """
    where = f"The masks of {layout.root}"
    if layout.mask is None:
        return MaskSurvey(where, (), MaskReading())
    files = files_of(layout)
    return MaskSurvey(where, files, decide(files, layout.mask, where))


def files_of(layout: Layout) -> list[MaskFile]:
    """The values of each readable mask."""
    samples = [sample for some in layout.survey(_ignore).values() for sample in some]
    paths = sorted({sample.label for sample in samples if sample.label is not None})
    found = in_threads(lambda index: survey_of(paths[index]), len(paths), "reading the values of all masks")
    return [file for file in found if file is not None]


def _ignore(kind: str, ids: Sequence[str], error: DataError) -> None:
    """Errors of other splits; those of the split that is read are raised where it is read."""


def described(files: Sequence[MaskFile]) -> dict[str, Any]:
    """The values of some masks with their shares of the pixels, as texts by channel."""
    channels = {"values": [file.colour for file in files]}
    channels["palette_indices"] = [file.index for file in files if file.index is not None]
    channels["alpha"] = [file.alpha for file in files if file.alpha is not None]
    return {name: Found.all_of(found).describe() for name, found in channels.items() if found}


def _marked(file: MaskFile, reading: MaskReading) -> tuple[int, int]:
    """Occluded pixels of a mask, and those that are not ignored."""
    found = file.channel(reading.channel)
    codes = np.array([*found.counts, *range(256)], dtype=np.int64)
    counts = np.array([*found.counts.values(), *found.levels], dtype=np.int64)
    labels = reading.labels_of(codes)
    return int(counts[labels == 1].sum()), int(counts[labels < 2].sum())
