"""Face masks drawn on photographs, with exact binary masks (section 4.1 of the occlusion paper)."""

from datamodules.synthesis.masks.choices import (
    DISTRACTORS,
    MASK_TYPES,
    MOSTLY_PROPER,
    STYLES,
    FaceMask,
    MaskChoices,
    choose_mask,
    tilt_of,
)
from datamodules.synthesis.masks.drawing import draw_mask
from datamodules.synthesis.masks.textures import TEXTURES

__all__ = [
    "DISTRACTORS",
    "MASK_TYPES",
    "MOSTLY_PROPER",
    "STYLES",
    "TEXTURES",
    "FaceMask",
    "MaskChoices",
    "choose_mask",
    "draw_mask",
    "tilt_of",
]
