"""Checks left and right of a face's labels by the positions of its parts.

In an image that was mirrored without its labels, left eye, brow and ear are on the wrong side. One pair is weak
evidence: in a profile its parts lie one behind the other, and annotators confuse ears. So each pair that is clearly
apart has one vote, and a face counts as mirrored only if several votes agree. A pair of which one part is visible, by
its position relative to the nose, has half a vote: in a profile, annotators confuse the eyes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datamodules.labels import LabelSet

SKIN, NOSE, GLASSES = "skin", "nose", "eye_g"
MOUTH = ("mouth", "inner_mouth", "u_lip", "upper_lip", "l_lip", "lower_lip")
CLEAR = 0.1
"""Distance from which two parts lie clearly side by side, in face sizes (the root of the skin's area); in frontal faces
eyes are some 0.45 apart."""
SCATTERED = 40
"""Spread above which a part is scattered: in real faces eyes, brows and lips stay below 30."""
ENOUGH = 1.5
"""Votes that make a face mirrored: a full pair and half of another, or half of all three."""


@dataclass(frozen=True)
class Sides:
    """Distances between left and right parts of a face.

    Args:
        gaps: pair (eye, brow, ear) -> distance across the face, in face sizes: positive as published, negative if left
            and right are exchanged.
        votes: pair -> 1 if both parts are visible, 0.5 for one.
    """

    gaps: dict[str, float]
    votes: dict[str, float]

    @property
    def verdict(self) -> str | None:
        """``mirrored``; ``unclear`` if pairs contradict each other or the votes are too few; or None."""
        wrong = sum(self.votes[pair] for pair, gap in self.gaps.items() if gap < -CLEAR)
        if not wrong:
            return None
        agree = all(gap < CLEAR for gap in self.gaps.values())
        return "mirrored" if agree and wrong >= ENOUGH else "unclear"

    def __str__(self) -> str:
        words = {True: "exchanged", False: "as published"}
        return ", ".join(f"{pair} {words[gap < 0]}" for pair, gap in self.gaps.items() if abs(gap) > CLEAR)


def side_names(labels: LabelSet) -> dict[str, tuple[str, str]]:
    """Pair (eye, brow, ear) -> classes that lie on the viewer's left and right in an upright image."""
    named = {}
    for pair in labels.mirrored:
        left, right = (labels.classes[index] for index in pair)
        name = "brow" if left.endswith("brow") else left.rpartition("_")[2]
        named[name] = (right, left) if labels.own_sides else (left, right)
    return named


def landmarks_of(labels: LabelSet) -> set[str]:
    """The classes whose positions :func:`sides` uses."""
    pairs = {name for pair in side_names(labels).values() for name in pair}
    return pairs | ({NOSE, GLASSES, *MOUTH} & set(labels.classes))


@dataclass(frozen=True)
class Place:
    """Position of a part.

    Args:
        centre: mean (x, y) of its pixels.
        spread: variance of their positions over that of a disc of the same area: 1 for a disc, about 10 for a thin brow
            or lip, hundreds for pixels all over the image.
    """

    centre: np.ndarray
    spread: float


def place(mask: np.ndarray) -> Place | None:
    """Position of a mask (H, W) bool; None if it is empty."""
    sums = [np.count_nonzero(mask, axis=axis) for axis in (0, 1)]  # (W,), (H,)
    area = int(sums[0].sum())
    if not area:
        return None
    means = [float(total @ np.arange(len(total))) / area for total in sums]
    variances = [total @ (np.arange(len(total)) - mean) ** 2 / area for total, mean in zip(sums, means, strict=True)]
    return Place(np.array(means), float(2 * np.pi * sum(variances) / area))


def sides(places: Mapping[str, np.ndarray], skin: int, labels: LabelSet) -> Sides:
    """Distances between the left and right parts of a face.

    Distances are measured across the face, perpendicular to the line from its mouth to its eyes, so that a rolled head
    or an image upside down is no finding. If one part of a pair is visible, as the ear of a turned head, its distance
    from the nose counts.

    Args:
        places: class -> (x, y) of its centre, for the visible classes.
        skin: pixels of skin.
        labels: the classes.
    """
    pairs = side_names(labels)
    across = _across(places, pairs)
    if across is None or not skin:
        return Sides({}, {})
    nose = places.get(NOSE)
    gaps, votes = {}, {}
    for pair, (left, right) in pairs.items():
        ends = places.get(left, nose), places.get(right, nose)
        visible = sum(part in places for part in (left, right))
        if visible and ends[0] is not None and ends[1] is not None:
            gaps[pair] = float((ends[1] - ends[0]) @ across) / math.sqrt(skin)
            votes[pair] = visible / 2
    return Sides(gaps, votes)


def _across(places: Mapping[str, np.ndarray], pairs: Mapping[str, tuple[str, str]]) -> np.ndarray | None:
    """Unit vector (x, y) from the viewer's left to right across the face; None without a mouth."""
    mouth = [places[name] for name in MOUTH if name in places]
    if not mouth:
        return None
    # A single eye lies off the line and would turn it.
    for tops in (*(pairs[pair] for pair in ("eye", "brow") if pair in pairs), (GLASSES,), (NOSE,)):
        if all(name in places for name in tops):
            up = np.mean([places[name] for name in tops], axis=0) - np.mean(mouth, axis=0)
            length = float(np.hypot(*up))
            return np.array([-up[1], up[0]]) / length if length else None
    return None
