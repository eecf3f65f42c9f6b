"""Class names, ids, palettes, left/right pairs, and which class of one set is which of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from foundation.errors import ConfigError

if TYPE_CHECKING:
    from datamodules.mask_rules import MaskReading

IGNORE = 255
"""Label of pixels that belong to no image (the border a rotation leaves): neither trained on nor scored."""
Colour = tuple[int, int, int]
"""RGB, 0..255."""


@dataclass(frozen=True)
class LabelSet:
    """The classes of one data set, in the order of their ids.

    Args:
        name: the set's short name.
        classes: class names; position is id, and id 0 is the background.
        palette: RGB colour of each class, 0..255.
        mirrored: pairs of ids, left and right, that a horizontal flip must exchange.
        own_sides: whether left is the subject's left, which lies on the image's right; else it is the image's left.
        binary: whether label maps are published as masks, 0 and 255, JPEG among them, instead of ids.
        mappings: name of another set -> class name -> the class of that set that it is a part of; names every class.
        coloured: whether label maps may be RGB images in the colours of the palette, besides ids.
        ignored: whether label maps may hold :data:`IGNORE`.
        ignored_colour: RGB colour of pixels that are ignored, in coloured label maps.
        mask: how binary masks are read; None decides by the values of each; no part of the classes.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    mirrored: tuple[tuple[int, int], ...]
    own_sides: bool = False
    binary: bool = False
    mappings: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    coloured: bool = False
    ignored: bool = True
    ignored_colour: Colour | None = None
    mask: MaskReading | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def flip_table(self) -> np.ndarray:
        """Look-up table, uint8 of length 256: the id that each id becomes when the image is mirrored."""
        table = np.arange(256, dtype=np.uint8)
        for left, right in self.mirrored:
            table[left], table[right] = right, left
        return table

    @property
    def digest_of_reading(self) -> str:
        """Changes with what decides how a label map is read: ids, colours, and whether pixels may be ignored."""
        declared = (self.palette if self.coloured else len(self), self.ignored, self.ignored_colour)
        return hashlib.sha256(repr(declared).encode()).hexdigest()[:8]

    def colorize(self, label: np.ndarray) -> np.ndarray:
        """Label map (H, W) of ids -> RGB image (H, W, 3), uint8; ignored pixels are mid-grey."""
        table = np.full((256, 3), 128, dtype=np.uint8)
        table[: len(self)] = self.palette
        return table[label]

    def is_same_as(self, other: LabelSet) -> bool:
        """Whether an id means the same class in both sets, whatever the sets are called."""
        return (self.classes, self.own_sides) == (other.classes, other.own_sides)

    def maps_to(self, other: LabelSet) -> bool:
        """Whether :meth:`table_to` has a table."""
        return self.is_same_as(other) or other.name in self.mappings

    def table_to(self, other: LabelSet) -> np.ndarray:
        """Look-up table, uint8 of length 256: the id in ``other`` of each id of this set; the others stay as they are.

        Raises:
            ConfigError: if the sets differ and no mapping is declared.
        """
        table = np.arange(256, dtype=np.uint8)
        if not self.maps_to(other):
            raise ConfigError(
                f"No mapping is declared from the classes of {self.name} to those of {other.name}.\n"
                f"Expected: one under maps_to, see docs/your_own_faces.md."
            )
        if not self.is_same_as(other):
            names = self.mappings[other.name]
            table[: len(self)] = [other.classes.index(names[name]) for name in self.classes]
        return table

    def as_plain(self) -> dict[str, Any]:
        """The set as plain lists, texts and numbers, for a checkpoint, a status or an exported file."""
        return json.loads(json.dumps({name: value for name, value in asdict(self).items() if name != "mask"}))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> LabelSet:
        """The set that :meth:`as_plain` describes."""
        palette, mirrored = ([tuple(one) for one in plain[key]] for key in ("palette", "mirrored"))
        colour = plain["ignored_colour"]
        tuples = {"classes": tuple(plain["classes"]), "palette": tuple(palette), "mirrored": tuple(mirrored)}
        return cls(**{**plain, **tuples, "ignored_colour": None if colour is None else tuple(colour)})


OCCLUSION = LabelSet(
    name="occlusion",
    classes=("seen", "occluded"),
    palette=((0, 0, 0), (255, 255, 255)),
    mirrored=(),
    binary=True,
)

LAPA_COLOURS: dict[str, Colour] = {
    "background": (0, 0, 0),
    "skin": (0, 153, 255),  # ears are labelled as skin; neck and hats as background
    "left_eyebrow": (102, 255, 153),
    "right_eyebrow": (0, 204, 153),
    "left_eye": (255, 255, 102),
    "right_eye": (255, 255, 204),
    "nose": (255, 153, 0),
    "upper_lip": (255, 102, 255),
    "inner_mouth": (102, 0, 51),
    "lower_lip": (255, 204, 255),
    "hair": (255, 0, 102),
}
"""Sides are as the viewer sees them: the "left" eye lies on the left of an upright image."""

LAPA = LabelSet("lapa", tuple(LAPA_COLOURS), tuple(LAPA_COLOURS.values()), mirrored=((2, 3), (4, 5)))

CELEBAMASK_HQ_CLASSES: dict[str, tuple[Colour, str]] = {
    "background": ((0, 0, 0), "background"),
    "skin": ((204, 0, 0), "skin"),
    "nose": ((76, 153, 0), "nose"),
    "eye_g": ((204, 204, 0), "skin"),  # glasses; LaPa labels what is seen through them, a part mask does not show it
    "l_eye": ((51, 51, 255), "right_eye"),
    "r_eye": ((204, 0, 204), "left_eye"),
    "l_brow": ((0, 255, 255), "right_eyebrow"),
    "r_brow": ((255, 204, 204), "left_eyebrow"),
    "l_ear": ((102, 51, 0), "skin"),
    "r_ear": ((255, 0, 0), "skin"),
    "mouth": ((102, 204, 0), "inner_mouth"),  # what is seen between the lips
    "u_lip": ((255, 255, 0), "upper_lip"),
    "l_lip": ((0, 0, 153), "lower_lip"),
    "hair": ((0, 0, 204), "hair"),
    "hat": ((255, 51, 153), "background"),
    "ear_r": ((0, 204, 204), "background"),  # ear-rings
    "neck_l": ((0, 51, 0), "background"),  # necklace
    "neck": ((255, 153, 51), "background"),
    "cloth": ((0, 204, 0), "background"),
}
"""Colour and LaPa's class of each class. They are named as the parts' files are. ``l_`` and ``r_`` are the person's own
left and right: ``l_eye`` lies on the right of an upright image, opposite to LaPa. (``l_lip`` and ``u_lip`` are the
lower and the upper one.)"""

LAPA_OF_CELEBAMASK_HQ = {name: lapa for name, (_, lapa) in CELEBAMASK_HQ_CLASSES.items()}

CELEBAMASK_HQ = LabelSet(
    name="celebamask_hq",
    classes=tuple(CELEBAMASK_HQ_CLASSES),
    palette=tuple(colour for colour, _ in CELEBAMASK_HQ_CLASSES.values()),
    mirrored=((4, 5), (6, 7), (8, 9)),
    own_sides=True,
    mappings={LAPA.name: LAPA_OF_CELEBAMASK_HQ},
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
"""Classes to report separately, by data set: small ones, which suffer most from few labels, and a few large ones."""

# fmt: off
PAINTING_ORDERS: dict[str, tuple[str, ...]] = {
    # The data set's own script (g_mask.py): neck and cloth cover most of a necklace.
    "official": CELEBAMASK_HQ.classes[1:],
    # BiSeNet of zllrunning and its forks: nose to hat cover ear-rings, cloth the necklace.
    "zllrunning": (
        "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose", "mouth", "u_lip",
        "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ),
    # FaRL and SegFace: glasses, hat, ear-rings and necklace come last and stay complete.
    "farl": (
        "neck", "skin", "cloth", "l_ear", "r_ear", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "l_lip",
        "u_lip", "hair", "eye_g", "hat", "ear_r", "neck_l",
    ),
}
# fmt: on
"""Orders in which CelebAMask-HQ's overlapping parts are painted into one label map: later parts cover earlier ones."""

CLASS_SETS: dict[str, LabelSet] = {labels.name: labels for labels in (LAPA, CELEBAMASK_HQ)}
"""Published sets of face parts, by name: the possible targets of a mapping."""


def recorded_classes(recorded: Mapping[str, Any]) -> LabelSet | None:
    """The class set that a checkpoint, a status or an exported file was trained with.

    Args:
        recorded: holds ``dataset``, and ``class_set`` (:meth:`LabelSet.as_plain`) for a set that is not published.

    Returns:
        None if neither is known.
    """
    published = CLASS_SETS.get(recorded.get("dataset", ""))
    plain = recorded.get("class_set")
    return published if published is not None or plain is None else LabelSet.from_plain(plain)


def shared_classes(trained: LabelSet, data: LabelSet) -> LabelSet:
    """The class set in which a network and ground truth are compared: that of the data, of the network, or a third one.

    Raises:
        ConfigError: if they differ and no mapping is declared between them.
    """
    if trained.is_same_as(data):
        return data
    for target in (data, trained, *CLASS_SETS.values()):
        if trained.maps_to(target) and data.maps_to(target):
            return target
    own = next((name for name in (trained.name, data.name) if name not in CLASS_SETS), trained.name)
    other = data.name if own == trained.name else trained.name
    target_name = other if other in CLASS_SETS else LAPA.name
    raise ConfigError(
        f"The network parses {len(trained)} classes of {trained.name}, the data has {len(data)} classes of "
        f"{data.name}, and no mapping between the two is declared.\n"
        f"Expected: the same classes, or maps_to: {{{target_name}: {{<class of {own}>: <class of {target_name}>}}}} in "
        f"classes.yaml next to the images, or in the file that classes=<classes.yaml> names for the network."
    )
