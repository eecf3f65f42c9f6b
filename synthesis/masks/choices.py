"""What a face wears: types, textures and ways of wearing as plain data, and how they are drawn at random."""

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
"""Way of wearing -> the types that can be worn so."""

PLAIN_SHARE = {"surgical": 0.75, "n95": 0.75, "kn95": 0.75, "respirator": 0.75, "cloth": 0.35, "niqab": 0.5}
"""Type -> share of masks that take a plain cloth, if there is one among the textures; others take any."""

MOSTLY_PROPER = {"proper": 0.6, "below_nose": 0.12, "chin": 0.1, "one_ear": 0.06, "half_pulled": 0.12}


@dataclass(frozen=True)
class MaskChoices:
    """What may be drawn, and how often.

    Args:
        types: some of :data:`MASK_TYPES`, each as likely among those that a way of wearing allows; with templates, the
            names of their sections without ``_left`` and ``_right``, where nothing but ``proper`` is drawn.
        textures: some of :data:`~synthesis.masks.textures.TEXTURES`. Some types take a plain one more
            often than not, see :data:`PLAIN_SHARE`.
        styles: way of wearing -> share of the masks, of any sum.
        bare: share of faces without a mask.
        distractors: share of faces with something that is no mask. A hand or an object at the mouth takes the mask's
            place, spectacles are worn with it or without.
        occluders: whether a hand or an object at the mouth counts as hiding the face. Spectacles never do.
        templates: a folder of MaskTheFace (``masks.cfg`` and PNGs) that is drawn from instead of our types.

    Raises:
        ConfigError: for a name that does not exist or a share that cannot be.
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
                f"styles={dict(self.styles)} is invalid.\nIt must be shares of at least 0, of which one is above 0."
            )
        for style, share in self.styles.items():
            if share > 0 and self.templates is None and not set(TYPES_OF_STYLE[style]) & set(self.types):
                raise ConfigError(
                    f"styles: {style} cannot be worn with types {', '.join(self.types)}.\n"
                    f"Expected: another way of wearing, or one of the types {', '.join(TYPES_OF_STYLE[style])}."
                )


@dataclass(frozen=True)
class FaceMask:
    """What one face wears.

    Args:
        type: of the mask; None for a face without one.
        texture: of its cloth; None for no mask, and for templates, which have their own.
        style: way of wearing; None for no mask.
        tilt: where the face is turned to, of :data:`TILTS`, see :func:`tilt_of`.
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
    """Draw at random what a face wears.

    Args:
        rng: always advanced by as many draws, so that one choice does not change the next.
        landmarks: (68, 2), in pixels, in the order of iBUG and dlib.
        choices: what may be drawn.
    """
    bare, distracted, plain, style_lot, type_lot, texture_lot, distractor_lot = rng.random(7)
    seed = int(rng.integers(2**31))
    distractor = _pick(distractor_lot, DISTRACTORS) if distracted < choices.distractors else None
    tilt = tilt_of(landmarks)
    if bare < choices.bare or distractor in ("hand", "object"):
        return FaceMask(None, None, None, tilt, distractor, seed)
    if choices.templates is not None:
        return FaceMask(_pick(type_lot, choices.types), None, "proper", tilt, distractor, seed)
    style = _weighted(style_lot, choices.styles)
    kind = _pick(type_lot, tuple(name for name in choices.types if name in TYPES_OF_STYLE[style]))
    textures = tuple(name for name in choices.textures if name in PLAIN)
    if plain >= PLAIN_SHARE.get(kind, 0.0) or not textures:
        textures = choices.textures
    return FaceMask(kind, _pick(texture_lot, textures), style, tilt, distractor, seed)


def tilt_of(landmarks: np.ndarray) -> str:
    """Where in the image a face is turned to: MaskTheFace's angle between the nose's ridge and the way to the lips.

    Args:
        landmarks: (68, 2), in pixels.

    Returns:
        ``right`` below -13 degrees, ``left`` above 13, else ``front``.
    """
    nose = landmarks[30] - landmarks[27]
    lips = landmarks[48:60].mean(axis=0) - landmarks[27]
    angle = np.degrees(np.arctan2(nose[1], nose[0]) - np.arctan2(lips[1], lips[0]))
    angle = (angle + 180) % 360 - 180  # above 0 where the nose points to the left of the image
    return "right" if angle < -13 else "left" if angle > 13 else "front"


def _pick(lot: float, names: tuple[str, ...]) -> str:
    return names[int(lot * len(names))]


def _weighted(lot: float, shares: Mapping[str, float]) -> str:
    edges = np.cumsum([*shares.values()]) / sum(shares.values())
    return tuple(shares)[min(int(np.searchsorted(edges, lot, side="right")), len(shares) - 1)]
