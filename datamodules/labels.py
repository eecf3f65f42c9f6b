"""Class names, ids, palettes and left/right pairs: the only place that knows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IGNORE = 255
"""Label of pixels that belong to no picture (the border a rotation leaves): neither trained on nor scored."""


@dataclass(frozen=True)
class LabelSet:
    """The classes of one data set, in the order of their ids.

    Args:
        name: the data set's short name.
        classes: class names; position is id, and id 0 is the background.
        palette: RGB colour of each class, 0..255.
        mirrored: pairs of ids that a horizontal flip must exchange.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    mirrored: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def flip_table(self) -> np.ndarray:
        """Look-up table, uint8 of length 256: the id that each id becomes when the picture is mirrored."""
        table = np.arange(256, dtype=np.uint8)
        for left, right in self.mirrored:
            table[left], table[right] = right, left
        return table

    def colorize(self, label: np.ndarray) -> np.ndarray:
        """Label map (H, W) of ids -> RGB picture (H, W, 3), uint8; ignored pixels are mid-grey."""
        table = np.full((256, 3), 128, dtype=np.uint8)
        table[: len(self)] = self.palette
        return table[label]


LAPA = LabelSet(
    # LaPa names sides as the viewer sees them: its "left" eye lies on the left of an upright picture.
    # (CelebAMask-HQ means the subject's own left, the opposite side.)
    name="lapa",
    classes=(
        "background",
        "skin",  # ears are labelled as skin; neck and hats as background
        "left_eyebrow",
        "right_eyebrow",
        "left_eye",
        "right_eye",
        "nose",
        "upper_lip",
        "inner_mouth",
        "lower_lip",
        "hair",
    ),
    palette=(
        (0, 0, 0),
        (0, 153, 255),
        (102, 255, 153),
        (0, 204, 153),
        (255, 255, 102),
        (255, 255, 204),
        (255, 153, 0),
        (255, 102, 255),
        (102, 0, 51),
        (255, 204, 255),
        (255, 0, 102),
    ),
    mirrored=((2, 3), (4, 5)),
)
