"""Renders face masks on photographs, with exact binary masks (section 4.1 of the occlusion paper)."""

from synthesis.masks.choices import (
    DISTRACTORS,
    MASK_TYPES,
    MOSTLY_PROPER,
    STYLES,
    FaceMask,
    MaskChoices,
    choose_mask,
    tilt_of,
)
from synthesis.masks.rendering import render_mask
from synthesis.masks.textures import TEXTURES

__all__ = [
    "DISTRACTORS",
    "MASK_TYPES",
    "MOSTLY_PROPER",
    "STYLES",
    "TEXTURES",
    "FaceMask",
    "MaskChoices",
    "choose_mask",
    "render_mask",
    "tilt_of",
]
