"""From files to arrays, with every fault named by its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.labels import IGNORE, LabelSet
from engine.errors import DataError


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        size: (H, W) stored in the file.
        extent: (height, width) of the file's whole picture in the decoded pixels: where it is shrunk by a factor that
            does not divide its size, the last row and column reach a fraction of a pixel beyond it.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    extent: tuple[float, float]


def read_image(path: Path, least: int | None = None) -> Picture:
    """A picture as RGB, decoded no larger than needed.

    Large photographs are shrunk by a whole factor as they are decoded (in the JPEG decoder where it can, by box
    averages otherwise), so that the one interpolation that follows never skips pixels.

    Args:
        path: the picture.
        least: both sides stay at least this many pixels where the file has them; None decodes in full.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
            factor = 1 if least is None else max(1, min(width, height) // least)
            # The JPEG decoder shrinks by 2, 4 or 8; other formats heed no draft.
            drafted = file.draft("RGB", (-(-width // factor), -(-height // factor))) if factor > 1 else None
            across, down = drafted[1][2:] if drafted else (width, height)
            image = file.convert("RGB")
            factor = 1 if least is None else max(1, min(image.size) // least)
            if factor > 1:
                image = image.reduce(factor)
            return Picture(np.asarray(image), (height, width), (down / factor, across / factor))
    except (OSError, SyntaxError, ValueError) as fault:
        raise DataError(f"Cannot read the picture {path}: {fault}.\nReplace the file or remove the face.") from fault


def read_label(path: Path, labels: LabelSet, size: tuple[int, int]) -> np.ndarray:
    """A label map as ids, (H, W) uint8.

    Args:
        path: single-channel PNG of class ids.
        labels: the classes that may occur.
        size: (H, W) of the picture it belongs to.

    Raises:
        DataError: if the file cannot be read, has colours, another size than its picture, or an unknown id.
    """
    try:
        with Image.open(path) as file:
            if file.mode not in ("L", "P", "1"):
                raise DataError(
                    f"The label map {path} is a {file.mode} picture.\n"
                    f"Expected a single-channel PNG of class ids 0..{len(labels) - 1}: a colour rendering will not do."
                )
            label = np.array(file, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError) as fault:
        raise DataError(f"Cannot read the label map {path}: {fault}.\nReplace the file or remove the face.") from fault
    if label.shape != size:
        raise DataError(
            f"The label map {path} is {label.shape[1]}x{label.shape[0]} pixels, its picture {size[1]}x{size[0]}.\n"
            f"Expected the same size; replace one of the two or remove the face."
        )
    highest = int(label[label != IGNORE].max(initial=0))
    if highest >= len(labels):
        raise DataError(
            f"The label map {path} holds class id {highest}.\n"
            f"Expected ids 0..{len(labels) - 1} ({labels.name}: {', '.join(labels.classes)})."
        )
    return label
