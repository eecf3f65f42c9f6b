"""Faces of each group of a test set: by type, texture, tilt and wearing style, by pose (Figures 10-12 and 14-19)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.panels import Tiles, grid, occlusion_tiles, save_image
from foundation.names import file_name
from lightning_modules.occlusion import OcclusionSegmentation

NAME_WIDTH = 110
"""Width of the column of names, in pixels."""


class GroupPanels(Callback):
    """Images of the first faces of each group of a test set with groups.

    Files such as ``panels/groups/type/surgical_1.prediction.png`` are single tiles; ``panels/groups/type.png`` shows
    all groups of a kind, one per row, with their names.

    Args:
        count: number of faces of each group.
    """

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self._tiles: dict[str, list[Tiles]] = defaultdict(list)

    @torch.no_grad()
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, OcclusionSegmentation):
            return
        for place, groups in enumerate(batch.get("groups", ())):
            unfilled = [group for group in groups if len(self._tiles[group]) < self.count]
            if unfilled:
                face = {name: batch[name][place : place + 1] for name in ("image", "label") if name in batch}
                tiles = occlusion_tiles(pl_module, face, 1)
                for group in unfilled:
                    self._tiles[group].append(tiles)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = Path(trainer.default_root_dir) / "panels" / "groups"
        kinds: dict[str, dict[str, list[Tiles]]] = defaultdict(dict)
        for group in sorted(self._tiles):
            kind, name = (file_name(part) for part in group.partition("/")[::2])
            kinds[kind][name] = self._tiles[group]
        for kind, groups in kinds.items():
            save_image(_sheet(groups), folder / f"{kind}.png")
            for name, faces in groups.items():
                for number, tiles in enumerate(faces, start=1):
                    for column, (image,) in tiles.items():
                        save_image(image, folder / kind / f"{name}_{number}.{column}.png")
        self._tiles.clear()


def _sheet(groups: dict[str, list[Tiles]]) -> np.ndarray:
    """One row per group: its name, then each of its faces as in :func:`callbacks.panels.grid`."""
    rows = []
    most = max(map(len, groups.values()))
    for name, faces in groups.items():
        parts = [np.pad(grid(tiles), ((2, 2), (6, 6), (0, 0)), constant_values=255) for tiles in faces]
        parts += [np.full_like(parts[0], 255)] * (most - len(parts))
        rows.append(np.concatenate([_name_cell(name, len(parts[0])), *parts], axis=1))
    return np.concatenate(rows)


def _name_cell(name: str, height: int) -> np.ndarray:
    image = Image.new("RGB", (NAME_WIDTH, height), "white")
    text = name.replace("_", " ")
    ImageDraw.Draw(image).text((4, height // 2), text, fill="black", anchor="lm", font_size=14)
    return np.array(image)
