"""Images of runs for the page: small WebP files within one budget, equal ones once."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

from PIL import Image

from foundation.interruption import checked
from foundation.recorded_runs import RecordedRun, as_text
from reports import panels
from reports.limits import IMAGES_SIZE
from reports.panels import KINDS, TILE_PIXELS, TILE_SIZE

TILE, GRID = 160, 480
"""Longest side of a face, and width of an epoch's grid of faces, in pixels."""
FACES = 6
"""Faces of a split."""
SPLITS = 12
"""Folders of panels of a run: its test or validation faces, and groups of them."""
LABEL_MAPS = ("ground_truth", "prediction", "cleaned")
EPOCH = "epoch_"


class EmbeddedImages:
    """Images that the page holds.

    Args:
        size: largest number of characters of all of them.
    """

    def __init__(self, size: int = IMAGES_SIZE) -> None:
        self.left = size
        self.images: list[list[Any]] = []
        self._places: dict[bytes, int] = {}
        self.full: set[str] = set()

    def add(self, run: RecordedRun, place: str, name: str, side: int, exact: bool) -> int | None:
        """Place of an image in :attr:`images`; None if it is no image, or does not fit any more.

        Args:
            run: the run.
            place: a key of its panels.
            name: the file's name.
            side: width to which a larger image is reduced.
            exact: whether every colour must stay, as in a label map.
        """
        content = run.panel(place, name, TILE_SIZE)
        if content is None:
            return None
        digest = hashlib.sha256(content).digest()
        if digest in self._places:
            return self._places[digest]
        if self.left <= 0 or (encoded := _encoded(digest, _Content(content), side, exact)) is None:
            if self.left <= 0:
                self.full.add(run.path.name)
            return None
        if len(encoded[2]) > self.left:
            self.left = 0
            self.full.add(run.path.name)
            return None
        self.left -= len(encoded[2])
        self._places[digest] = len(self.images)
        self.images.append(list(encoded))
        return self._places[digest]


class _Content:
    """Bytes that a cache knows by their digest alone, and does not keep."""

    def __init__(self, content: bytes) -> None:
        self.content: bytes | None = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content)

    def __hash__(self) -> int:
        return 0

    def taken(self) -> bytes:
        content, self.content = self.content, None
        assert content is not None  # noqa: S101 (for the type checker)
        return content


@functools.lru_cache(maxsize=20_000)
def _encoded(digest: bytes, content: _Content, side: int, exact: bool) -> tuple[int, int, str] | None:
    """Width, height and base64 of an image as WebP; None if it is broken or too large."""
    del digest  # the cache's key
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(content.taken()), formats=["PNG"])
            if max(opened.size) > TILE_PIXELS:
                return None
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    if image.width > side:
        size = side, max(1, round(image.height * side / image.width))
        image = image.resize(size, Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "webp", lossless=exact, quality=70, method=2 if exact else 3)
    return image.width, image.height, base64.b64encode(file.getvalue()).decode()


def embed(runs: Sequence[RecordedRun], images: EmbeddedImages) -> dict[str, dict[str, Any]]:
    """The images of runs, by the run's folder: faces of the newest runs first, then their grids of epochs.

    Args:
        runs: the runs, the most interesting first.
        images: what the page holds, which grows.

    Returns:
        ``{"epochs": [[5, place], ...], "splits": {"test": {"face": {"prediction": place}}}}`` for each run.
    """
    found: dict[str, dict[str, Any]] = {run.path.name: {} for run in runs}
    for run in checked(runs):
        splits = {}
        for split in [split for split in run.panels if split and split != "activations"][:SPLITS]:
            if faces := _faces(run, split, images):
                splits[as_text(split)] = faces
        if splits:
            found[run.path.name]["splits"] = splits
    for run in sorted(runs, key=lambda run: run.stage != "pretrain"):
        epochs = [(_epoch(name), name) for name in run.panels.get("", ()) if name.startswith(EPOCH)]
        grids = [(epoch, images.add(run, "", name, GRID, False)) for epoch, name in sorted(epochs) if epoch < math.inf]
        if kept := [[int(epoch), place] for epoch, place in grids if place is not None]:
            found[run.path.name]["epochs"] = kept
    return found


def _faces(run: RecordedRun, split: str, images: EmbeddedImages) -> dict[str, dict[str, int]]:
    kinds = [kind for kind in KINDS if panels.samples_of(run, split, kind)]
    names = panels.samples_of(run, split, kinds[-1])[:FACES] if kinds else []
    faces = {}
    for name in names:
        tiles = {
            kind: images.add(run, split, panels.file_of(run, split, name, kind), TILE, kind in LABEL_MAPS)
            for kind in kinds
        }
        if kept := {kind: place for kind, place in tiles.items() if place is not None}:
            faces[as_text(name)] = kept
    return faces


def _epoch(name: str) -> float:
    digits = name.removeprefix(EPOCH).removesuffix(".png")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 9 else math.inf
