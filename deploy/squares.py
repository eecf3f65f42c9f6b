"""The square of a face, from an image to the network's input and from logits to a label map, in bounded memory.

A square may be far larger than its image (a panorama's is as high as it is wide) and than a network's input.
Neither its pixels nor its logits at full size are ever held together; the values are the same as if they were.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from datamodules.finding.finder import BoxFinder, FoundBox
from datamodules.landmarks import PADDING, FaceFinder, FoundFace, square
from datamodules.reading import DecodedImage

Box = tuple[int, int, int]
"""Left, top and side of a square, in pixels; it may extend beyond the image."""
Window = tuple[int, int, int, int]
"""Left, top, width and height of a part of an image, in pixels."""
SEARCHED = 70_000_000
"""Pixels of the largest copy of an image that is searched for faces: the detector needs 7 bytes for each."""
STRIP = 4_000_000
"""Pixels of a strip of a square."""
TILE = 16_000_000
"""Logits of a tile of a square; at most a quarter as many pixels."""


def find_faces(finder: FaceFinder | BoxFinder, image: np.ndarray) -> Sequence[FoundFace | FoundBox]:
    """The faces of an image (H, W, 3) uint8, the largest first.

    Fallbacks of dlib that would search more than :data:`SEARCHED` pixels are not tried: the border of a panorama, and
    the enlarged copy of an image above 17 megapixels.
    """
    if isinstance(finder, BoxFinder):
        return finder(image)
    height, width = image.shape[:2]
    border = 2 * round(PADDING * max(height, width))
    sizes = {"padded": (height + border) * (width + border), "upsampled": 4 * height * width}
    limited = copy.copy(finder)
    limited.fallbacks = tuple(name for name in finder.fallbacks if sizes.get(name, 0) <= SEARCHED)
    return limited(image)


def shrunk_square(image: np.ndarray, box: Box, least: int) -> DecodedImage:
    """A square of an image (H, W, 3) uint8, white outside, shrunk by averaging to at least ``least`` pixels a side.

    Equal to :func:`datamodules.reading.shrunk` of :func:`datamodules.landmarks.square`.
    """
    left, top, side = box
    factor = max(1, side // least)
    if factor == 1:
        return DecodedImage(square(image, left, top, side), (side, side), (side, side))
    small = np.full((-(-side // factor), -(-side // factor), 3), 255, np.uint8)
    rows = max(1, STRIP // (factor * side)) * factor
    for start in range(0, side, rows):
        height = min(rows, side - start)
        part = image[max(top + start, 0) : max(top + start + height, 0), max(left, 0) : max(left + side, 0)]
        if not part.size:  # outside the image
            continue
        strip = np.full((height, side, 3), 255, np.uint8)
        down, right = max(-top - start, 0), max(-left, 0)
        strip[down : down + part.shape[0], right : right + part.shape[1]] = part
        reduced = np.asarray(Image.fromarray(strip).reduce(factor))
        small[start // factor : start // factor + len(reduced)] = reduced
    return DecodedImage(small, (side, side), (side / factor, side / factor))


def within(box: Box, height: int, width: int) -> Window:
    """The part of a square that lies within an image; of one that lies outside, the nearest pixels."""
    left, top, side = box
    right, bottom = min(max(left + side, 1), width), min(max(top + side, 1), height)
    left, top = min(max(left, 0), right - 1), min(max(top, 0), bottom - 1)
    return left, top, right - left, bottom - top


def class_id_tiles(logits: Tensor, down: int, across: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Class ids of ``down`` x ``across`` pixels (None: a square), in tiles of all rows: first column, ids (down, w).

    Bilinear interpolation of logits (C, S, S), across first, then down: the operations of a single interpolation, in
    the same order. One channel is the logit of occlusion.
    """
    channels, height = logits.shape[:2]
    across = down if across is None else across
    wide = F.interpolate(logits[None], size=(height, across), mode="bilinear", align_corners=False)[0]  # [C, S, across]
    width = max(1, TILE // (max(channels, 4) * down))
    for start in range(0, across, width):
        tile = wide[None, :, :, start : start + width]
        full = F.interpolate(tile, size=(down, tile.shape[-1]), mode="bilinear", align_corners=False)[0]
        ids = (full[0] > 0) if channels == 1 else full.max(dim=0).indices  # argmax takes four times as long
        yield start, ids.to(torch.uint8).numpy()
