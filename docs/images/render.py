"""The image at the head of the README: synthetic faces, their parts, face masks rendered on them, and the binary masks.

    python -m docs.images.render

writes docs/images/faces.webp again, byte for byte. Everything on it is rendered by this project: no photograph.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datamodules.labels import LAPA
from synthesis.faces import SyntheticFace, render_random_face
from synthesis.masks.choices import FaceMask, MaskChoices, tilt_of
from synthesis.masks.rendering import render_mask

FOLDER = Path(__file__).parent
SIDE, GAP, RADIUS = 280, 10, 14
WHITE, BLACK = (255, 255, 255), (24, 28, 36)
FACES: tuple[tuple[int, str, str, str], ...] = (
    (46, "surgical", "light_blue", "proper"),
    (18, "cloth", "tartan_red", "proper"),
    (32, "kn95", "black", "proper"),
    (15, "n95", "white", "below_nose"),
    (49, "handkerchief", "floral_blue", "proper"),
    (2, "surgical", "white", "chin"),
)
"""Seed of each face; type, texture and wearing style of its mask."""


def rows(seed: int, kind: str, texture: str, style: str) -> list[np.ndarray]:
    """One column of the image: face, parts over the face, masked face, binary mask; each (side, side, 3) uint8."""
    face = render_random_face(np.random.default_rng(seed), SIDE * 2)
    mask = FaceMask(kind, texture, style, tilt_of(face.landmarks_68), None, seed)
    masked, occluded = render_mask(face.image, face.landmarks_68, mask, MaskChoices())
    binary = np.where(occluded[..., None] > 0, WHITE, BLACK).astype(np.uint8)
    return [
        cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in (face.image, parts(face), masked, binary)
    ]


def parts(face: SyntheticFace) -> np.ndarray:
    """The parts in the colours of their classes over a grey face."""
    grey = cv2.merge([cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)] * 3)
    colours = LAPA.colorize(face.label)
    over = cv2.addWeighted(grey, 0.35, colours, 0.65, 0)
    return np.where(face.label[..., None] > 0, over, grey // 2 + 90)


def sheet(columns: list[list[np.ndarray]]) -> Image.Image:
    """Columns of tiles with rounded corners on a transparent ground, which fits light and dark pages."""
    height, width = len(columns[0]), len(columns)
    canvas = np.zeros((height * (SIDE + GAP) - GAP, width * (SIDE + GAP) - GAP, 4), np.uint8)
    corner = cv2.resize(rounded(SIDE * 4, RADIUS * 4), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    for x, tiles in enumerate(columns):
        for y, tile in enumerate(tiles):
            top, left = y * (SIDE + GAP), x * (SIDE + GAP)
            canvas[top : top + SIDE, left : left + SIDE] = np.dstack([tile, corner])
    return Image.fromarray(canvas)


def rounded(side: int, radius: int) -> np.ndarray:
    """A filled square with rounded corners, (side, side) uint8."""
    square = np.zeros((side, side), np.uint8)
    square[radius:-radius] = square[:, radius:-radius] = 255
    for x in (radius, side - radius - 1):
        for y in (radius, side - radius - 1):
            cv2.circle(square, (x, y), radius, 255, -1)
    return square


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER / "faces.webp")
    out: Path = parser.parse_args().out
    sheet([rows(*face) for face in FACES]).save(out, quality=86, method=6)
    print(out)


if __name__ == "__main__":
    main()
