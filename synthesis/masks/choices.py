"""Mask types, textures and wearing styles as plain data, and their random choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from foundation.errors import ConfigError
from synthesis.dataset_build import require_flag
from synthesis.masks.templates import read_templates
from synthesis.masks.textures import PLAIN, TEXTURES

MASK_TYPES = ("surgical", "n95", "kn95", "cloth", "respirator", "handkerchief", "scarf", "niqab")
STYLES = ("proper", "below_nose", "chin", "one_ear", "half_pulled")
DISTRACTORS = ("spectacles", "hand", "object")
TILTS = ("left", "front", "right")

TYPES_OF_STYLE = {
    "proper": MASK_TYPES,
    "below_nose": ("surgical", "n95", "kn95", "cloth", "respirator", "handkerchief", "scarf"),
    "chin": ("surgical", "n95", "kn95", "cloth", "respirator", "handkerchief"),
    "one_ear": ("surgical", "kn95", "cloth"),
    "half_pulled": ("surgical", "n95", "kn95", "cloth", "handkerchief", "scarf"),
}
"""Wearing style -> the mask types that it goes with."""

PLAIN_SHARE = {"surgical": 0.75, "n95": 0.75, "kn95": 0.75, "respirator": 0.75, "cloth": 0.35, "niqab": 0.5}
"""Mask type -> share of masks with a plain texture, if there is one among the textures; the others have any."""

MOSTLY_PROPER = {"proper": 0.6, "below_nose": 0.12, "chin": 0.1, "one_ear": 0.06, "half_pulled": 0.12}


@dataclass(frozen=True)
class MaskChoices:
    """The masks to render, and how often.

    Args:
        types: some of :data:`MASK_TYPES`, equally likely among those that go with the wearing style; with templates,
            the names of their sections without ``_left`` and ``_right``, in the style ``proper`` only.
        textures: some of :data:`~synthesis.masks.textures.TEXTURES`. Some types prefer plain ones, see
            :data:`PLAIN_SHARE`.
        styles: wearing style -> share of the masks, of any sum.
        bare: share of faces without a mask.
        distractors: share of faces with a distractor. A hand or an object at the mouth replaces the mask, spectacles
            occur with and without one.
        occluders: whether a hand or an object at the mouth counts as occlusion. Spectacles never do.
        templates: a folder of MaskTheFace (``masks.cfg`` and PNGs), rendered instead of our mask types.

    Raises:
        ConfigError: for an unknown name or an invalid share.
    """

    types: tuple[str, ...] = MASK_TYPES
    textures: tuple[str, ...] = TEXTURES
    styles: Mapping[str, float] = field(default_factory=lambda: dict(MOSTLY_PROPER))
    bare: float = 0.0
    distractors: float = 0.0
    occluders: bool = False
    templates: Path | None = None

    def __post_init__(self) -> None:
        known = MASK_TYPES if self.templates is None else tuple(read_templates(self.templates))
        if self.templates is not None and tuple(self.types) == MASK_TYPES:
            object.__setattr__(self, "types", known)
        for name, values, allowed in (
            ("types", self.types, known),
            ("textures", self.textures, TEXTURES),
            ("styles", tuple(self.styles), STYLES),
        ):
            if not values:
                raise ConfigError(f"{name} is empty.\nExpected: some of {', '.join(allowed)}.")
            for value in values:
                if value not in allowed:
                    raise ConfigError(f"{name}: {value} does not exist.\nExpected: some of {', '.join(allowed)}.")
        require_flag("occluders", self.occluders)
        for name, share in (("bare", self.bare), ("distractors", self.distractors)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ConfigError(f"{name}={share} is invalid.\nIt must be a share of the faces, 0 to 1.")
        for style, share in self.styles.items():
            if isinstance(share, bool) or not isinstance(share, int | float):
                raise ConfigError(f"styles.{style}={share} is invalid.\nIt must be a number of at least 0.")
        if min(self.styles.values()) < 0 or sum(self.styles.values()) <= 0:
            raise ConfigError(
                f"styles={dict(self.styles)} is invalid.\nShares must be at least 0, and one of them above 0."
            )
        for style, share in self.styles.items():
            if share > 0 and self.templates is None and not set(TYPES_OF_STYLE[style]) & set(self.types):
                raise ConfigError(
                    f"styles: {style} does not go with types {', '.join(self.types)}.\n"
                    f"Expected: another style, or one of the types {', '.join(TYPES_OF_STYLE[style])}."
                )


@dataclass(frozen=True)
class FaceMask:
    """The face mask and distractor of one face.

    Args:
        type: mask type; None for a face without a mask.
        texture: its texture; None without a mask, and for templates, which have their own.
        style: wearing style; None without a mask.
        tilt: the side that the face is turned to, of :data:`TILTS`, see :func:`tilt_of`.
        distractor: of :data:`DISTRACTORS`, or None.
        seed: of everything else: size and folds of the mask, shades, which ear, which object.
    """

    type: str | None
    texture: str | None
    style: str | None
    tilt: str
    distractor: str | None
    seed: int


def choose_mask(rng: np.random.Generator, landmarks: np.ndarray, choices: MaskChoices) -> FaceMask:
    """Choose a random face mask.

    Args:
        rng: random numbers; always advanced by the same amount, so that one choice does not change the next.
        landmarks: (68, 2), in pixels, in the order of iBUG and dlib.
        choices: the masks to choose from.
    """
    bare, distracted, plain, style_number, type_number, texture_number, distractor_number = rng.random(7)
    seed = int(rng.integers(2**31))
    distractor = _pick(distractor_number, DISTRACTORS) if distracted < choices.distractors else None
    tilt = tilt_of(landmarks)
    if bare < choices.bare or distractor in ("hand", "object"):
        return FaceMask(None, None, None, tilt, distractor, seed)
    if choices.templates is not None:
        return FaceMask(_pick(type_number, choices.types), None, "proper", tilt, distractor, seed)
    style = _weighted(style_number, choices.styles)
    kind = _pick(type_number, tuple(name for name in choices.types if name in TYPES_OF_STYLE[style]))
    textures = tuple(name for name in choices.textures if name in PLAIN)
    if plain >= PLAIN_SHARE.get(kind, 0.0) or not textures:
        textures = choices.textures
    return FaceMask(kind, _pick(texture_number, textures), style, tilt, distractor, seed)


def tilt_of(landmarks: np.ndarray) -> str:
    """The image's side that a face with landmarks (68, 2) is turned to: MaskTheFace's angle between ridge and lips.

    Returns:
        ``right`` below -13 degrees, ``left`` above 13, else ``front``.
    """
    nose = landmarks[30] - landmarks[27]
    lips = landmarks[48:60].mean(axis=0) - landmarks[27]
    angle = np.degrees(np.arctan2(nose[1], nose[0]) - np.arctan2(lips[1], lips[0]))
    angle = (angle + 180) % 360 - 180  # above 0 where the nose points to the left of the image
    return "right" if angle < -13 else "left" if angle > 13 else "front"


def _pick(number: float, names: tuple[str, ...]) -> str:
    return names[int(number * len(names))]


def _weighted(number: float, shares: Mapping[str, float]) -> str:
    edges = np.cumsum([*shares.values()]) / sum(shares.values())
    return tuple(shares)[min(int(np.searchsorted(edges, number, side="right")), len(shares) - 1)]
