"""Example images of a stage: files in the run folder, and in W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from datamodules.labels import LabelSet
from datamodules.transforms import denormalize
from foundation.files import atomic_write
from foundation.names import file_name
from lightning_modules.metrics import SegmentationScores
from lightning_modules.occlusion import OCCLUDED, OcclusionSegmentation
from lightning_modules.reconstruction import Reconstruction

Tiles = dict[str, list[np.ndarray]]
"""Column name -> one RGB image per face."""
GAP = 2
"""White pixels between tiles."""


class Panels(Callback):
    """A grid of the first validation faces about ten times per training, and single tiles.

    Pre-training shows image, masked or noisy image and reconstruction; parsing image, ground truth and prediction;
    occlusion segmentation image, ground truth, prediction and the prediction after noise processing.
    ``panels/epoch_0010.png`` is such a grid; ``panels/{val,test}/<face>.<column>.png`` are single tiles, in
    pre-training of validation faces and the newest weights, otherwise of test faces and the best weights.

    Args:
        count: number of faces.
    """

    def __init__(self, count: int = 6) -> None:
        self.count = count
        self._tenth = 0

    def state_dict(self) -> dict[str, Any]:
        return {"tenth": self._tenth}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._tenth = state_dict["tenth"]

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        tenth = 10 * (trainer.current_epoch + 1) // (trainer.max_epochs or 1)
        if batch_idx or tenth <= self._tenth or not trainer.is_global_zero:
            return
        self._tenth = tenth
        tiles = self._tiles(trainer, pl_module, batch)
        if not tiles:
            return
        image, folder = grid(tiles), Path(trainer.default_root_dir) / "panels"
        save_image(image, folder / f"epoch_{trainer.current_epoch + 1:04d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("panels", [image], step=None, caption=[" | ".join(tiles)])
        if isinstance(pl_module, Reconstruction):
            _save_tiles(tiles, batch["id"], folder / "val")

    @torch.no_grad()
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / "panels" / "test"
            _save_tiles(self._tiles(trainer, pl_module, batch), batch["id"], folder)

    def _tiles(self, trainer: Trainer, module: LightningModule, batch: dict[str, Any]) -> Tiles:
        if isinstance(module, Reconstruction):
            return reconstruction_tiles(module, batch, self.count)
        if isinstance(module, OcclusionSegmentation):
            return occlusion_tiles(module, batch, self.count)
        if not _parses(module):
            return {}
        labels = trainer.datamodule.tested_labels  # type: ignore[attr-defined]
        return parsing_tiles(module, batch, self.count, labels)


def _parses(module: LightningModule) -> bool:
    """Whether a module, possibly an external one, is a parser: it has a parser's scores and a forward method."""
    own_forward = type(module).forward is not LightningModule.forward
    return own_forward and isinstance(getattr(module, "scores", None), SegmentationScores)


def reconstruction_tiles(module: Reconstruction, batch: dict[str, Any], count: int) -> Tiles:
    """Input, masked or noisy input and reconstruction of the first faces of a batch."""
    few = {name: value[:count] for name, value in batch.items()}
    return {name: photos(value) for name, value in module.columns(few).items()}


def photos(images: Tensor) -> list[np.ndarray]:
    """Normalised images (N, 3, H, W) -> RGB images (H, W, 3) uint8."""
    return [denormalize(image) for image in images.float().cpu().numpy()]


def parsing_tiles(module: LightningModule, batch: dict[str, Any], count: int, labels: LabelSet) -> Tiles:
    """Image, true and predicted label map of the first faces of a batch, in the data set's colours."""
    image = batch["image"][:count]
    maps = {"ground_truth": batch["label"][:count], "prediction": module(image).argmax(dim=1)}
    coloured = {name: [labels.colorize(label.cpu().numpy()) for label in value] for name, value in maps.items()}
    return {"image": photos(image), **coloured}


def occlusion_tiles(module: OcclusionSegmentation, batch: dict[str, Any], count: int) -> Tiles:
    """Image, true mask, prediction and cleaned prediction of the first faces of a batch; masks in white."""
    image = batch["image"][:count]
    occluded = (module(image) > 0).squeeze(1)
    masks = {"ground_truth": batch["label"][:count] == OCCLUDED} if "label" in batch else {}
    masks |= {"prediction": occluded, "cleaned": module.clean(occluded)}
    rgb = {name: 255 * mask.byte().unsqueeze(3).expand(-1, -1, -1, 3) for name, mask in masks.items()}
    return {"image": photos(image), **{name: list(value.cpu().numpy()) for name, value in rgb.items()}}


def grid(tiles: Tiles) -> np.ndarray:
    """One row per face, one column per kind of tile, on white: (H, W, 3) uint8."""
    margin = ((0, GAP), (0, GAP), (0, 0))
    padded = [[np.pad(tile, margin, constant_values=255) for tile in row] for row in zip(*tiles.values(), strict=True)]
    return np.concatenate([np.concatenate(row, axis=1) for row in padded])[:-GAP, :-GAP]


def flat(face: str) -> str:
    """A face's id as part of a file name, see :func:`foundation.names.file_name`."""
    return file_name(face)


def _save_tiles(tiles: Tiles, ids: list[str], folder: Path) -> None:
    for column, images in tiles.items():
        for face, image in zip(ids, images, strict=False):
            save_image(image, folder / f"{flat(face)}.{column}.png")


def save_image(image: np.ndarray | Image.Image, path: Path) -> None:
    """Write an image, RGB uint8, as PNG; see :func:`foundation.files.atomic_write`."""
    with atomic_write(path) as file:
        Image.fromarray(np.asarray(image)).save(file, format="PNG")
