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
        mirrored: pairs of ids, left and right, that a horizontal flip must exchange.
        own_sides: whether left is the person's own, which lies right in an upright picture; else it is the viewer's.
        binary: whether label maps are published as masks, 0 and 255, JPEG among them, instead of ids.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    mirrored: tuple[tuple[int, int], ...]
    own_sides: bool = False
    binary: bool = False

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


OCCLUSION = LabelSet(
    name="occlusion",
    classes=("seen", "hidden"),
    palette=((0, 0, 0), (255, 255, 255)),
    mirrored=(),
    binary=True,
)

LAPA = LabelSet(
    # LaPa names sides as the viewer sees them: its "left" eye lies on the left of an upright picture.
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

CELEBAMASK_HQ = LabelSet(
    # Classes are named as the parts' files are. ``l_`` and ``r_`` are the person's own left and right: ``l_eye`` lies
    # on the right of an upright picture, opposite to LaPa. (``l_lip`` and ``u_lip`` are the lower and the upper one.)
    name="celebamask_hq",
    classes=(
        "background",
        "skin",
        "nose",
        "eye_g",  # glasses
        "l_eye",
        "r_eye",
        "l_brow",
        "r_brow",
        "l_ear",
        "r_ear",
        "mouth",  # what is seen between the lips
        "u_lip",
        "l_lip",
        "hair",
        "hat",
        "ear_r",  # ear-rings
        "neck_l",  # necklace
        "neck",
        "cloth",
    ),
    palette=(
        (0, 0, 0),
        (204, 0, 0),
        (76, 153, 0),
        (204, 204, 0),
        (51, 51, 255),
        (204, 0, 204),
        (0, 255, 255),
        (255, 204, 204),
        (102, 51, 0),
        (255, 0, 0),
        (102, 204, 0),
        (255, 255, 0),
        (0, 0, 153),
        (0, 0, 204),
        (255, 51, 153),
        (0, 204, 204),
        (0, 51, 0),
        (255, 153, 51),
        (0, 204, 0),
    ),
    mirrored=((4, 5), (6, 7), (8, 9)),
    own_sides=True,
)

SMALL_AND_LARGE: dict[str, tuple[str, ...]] = {
    "lapa": (
        "left_eyebrow",
        "right_eyebrow",
        "left_eye",
        "right_eye",
        "upper_lip",
        "inner_mouth",
        "lower_lip",
        "nose",
        "hair",
    ),
    "celebamask_hq": ("neck_l", "ear_r", "eye_g", "l_brow", "r_brow", "l_eye", "u_lip", "mouth", "hair"),
}
"""Classes worth a look of their own, by data set: the small ones, of which most can be lost, and a few large ones."""

# fmt: off
PAINTING_ORDERS: dict[str, tuple[str, ...]] = {
    # The data set's own script (g_mask.py): neck and cloth cover most of a necklace.
    "official": CELEBAMASK_HQ.classes[1:],
    # BiSeNet of zllrunning and of those who follow it: nose to hat cover ear-rings, cloth the necklace.
    "zllrunning": (
        "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose", "mouth", "u_lip",
        "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ),
    # FaRL and SegFace: what is worn comes last and is kept whole.
    "farl": (
        "neck", "skin", "cloth", "l_ear", "r_ear", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "l_lip",
        "u_lip", "hair", "eye_g", "hat", "ear_r", "neck_l",
    ),
}
# fmt: on
"""Orders in which CelebAMask-HQ's parts, which overlap, are painted into one label map: later cover earlier ones."""

LAPA_OF_CELEBAMASK_HQ: dict[str, str] = {
    "background": "background",
    "skin": "skin",
    "nose": "nose",
    "eye_g": "skin",  # LaPa looks through glasses; a part mask does not tell what lies behind them
    "l_eye": "right_eye",
    "r_eye": "left_eye",
    "l_brow": "right_eyebrow",
    "r_brow": "left_eyebrow",
    "l_ear": "skin",
    "r_ear": "skin",
    "mouth": "inner_mouth",
    "u_lip": "upper_lip",
    "l_lip": "lower_lip",
    "hair": "hair",
    "hat": "background",
    "ear_r": "background",
    "neck_l": "background",
    "neck": "background",
    "cloth": "background",
}
"""What LaPa calls each class of CelebAMask-HQ; left and right change places, since each is named from another side."""


def lapa_table() -> np.ndarray:
    """Look-up table, uint8 of length 256: LaPa's id for each id of CelebAMask-HQ; others stay what they are."""
    table = np.arange(256, dtype=np.uint8)
    table[: len(CELEBAMASK_HQ)] = [LAPA.classes.index(LAPA_OF_CELEBAMASK_HQ[name]) for name in CELEBAMASK_HQ.classes]
    return table
