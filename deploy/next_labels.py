"""The images to label next, on one sheet: each next to the label map that was predicted for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from PIL.ImageFont import load_default

from datamodules.labels import LabelSet
from deploy.images import read
from deploy.prediction import legend
from foundation.names import shown

SIDE, GAP, TEXT, HEAD = 240, 8, 22, 34
"""Pixels: an image, between tiles, the line below it, the sheet's head."""
COLUMNS = 2
PAPER, INK = (255, 255, 255), (20, 20, 20)
OPACITY = 0.55
LETTERS = 60


def contact_sheet(faces: Sequence[tuple[str, Path, np.ndarray, str]], labels: LabelSet, title: str) -> Image.Image:
    """A sheet of images and overlays.

    Args:
        faces: name, image file, predicted ids (H, W) at any size, and a note for the line below it.
        labels: the classes.
        title: of the sheet.
    """
    columns = min(COLUMNS, len(faces))
    wide, high = 2 * SIDE + GAP, SIDE + TEXT + GAP
    width, height = columns * (wide + GAP) + GAP, HEAD + -(-len(faces) // columns) * high
    strip = legend(labels, range(len(labels)), width)
    sheet = Image.new("RGB", (width, height + len(strip)), PAPER)
    sheet.paste(Image.fromarray(strip), (0, height))
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 8), title, INK, load_default(16))
    for index, (name, file, ids, note) in enumerate(faces):
        left, top = GAP + index % columns * (wide + GAP), HEAD + index // columns * high
        for place, tile in enumerate(_tiles(file, ids, labels)):
            sheet.paste(tile, (left + place * (SIDE + GAP), top))
        name = shown(name)
        name = name if len(name) <= LETTERS else f"{name[: LETTERS - 4]} ..."
        draw.text((left, top + SIDE + 3), f"{index + 1}. {name}   {note}", INK, load_default(13))
    return sheet


def _tiles(file: Path, ids: np.ndarray, labels: LabelSet) -> tuple[Image.Image, Image.Image]:
    """An image, and the image under its label map, each scaled to fit (SIDE, SIDE)."""
    image = Image.fromarray(read(file).pixels)
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    colours = Image.fromarray(labels.colorize(ids)).resize(size, Image.Resampling.NEAREST)
    cover = Image.fromarray((ids > 0).astype(np.uint8) * round(255 * OPACITY)).resize(size)
    return small, Image.composite(colours, small, cover)
