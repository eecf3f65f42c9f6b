"""Example images of a stage: files in the run folder, and in W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import WandbLogger

from datamodules.labels import LabelSet
from datamodules.transforms import denormalize
from lightning_modules.metrics import SegmentationScores
from lightning_modules.occlusion import OCCLUDED, OcclusionSegmentation
from lightning_modules.pretraining import MaskedPretraining

Tiles = dict[str, list[np.ndarray]]
"""Column name -> one RGB image per face."""


class Panels(Callback):
    """A grid of the first validation faces about ten times per training, and single tiles.

    Pre-training shows image, masked image and reconstruction; parsing image, ground truth and prediction; occlusion
    segmentation image, ground truth, prediction and the prediction after noise processing. ``panels/epoch_0010.png`` is
    such a grid; ``panels/{val,test}/<face>.<column>.png`` are single tiles, in pre-training of validation faces and the
    newest weights, otherwise of test faces and the best weights.

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
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        tenth = 10 * (trainer.current_epoch + 1) // (trainer.max_epochs or 1)
        if batch_idx or tenth <= self._tenth or not trainer.is_global_zero:
            return
        self._tenth = tenth
        tiles = self._tiles(trainer, pl_module, batch)
        if not tiles:
            return
        image = grid(tiles)
        _save(image, _folder(trainer) / f"epoch_{trainer.current_epoch + 1:04d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("panels", [image], step=None, caption=[" | ".join(tiles)])
        if isinstance(pl_module, MaskedPretraining):
            _save_tiles(tiles, batch["id"], _folder(trainer) / "val")

    @torch.no_grad()
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero:
            _save_tiles(self._tiles(trainer, pl_module, batch), batch["id"], _folder(trainer) / "test")

    def _tiles(self, trainer: Trainer, module: LightningModule, batch: dict[str, Any]) -> Tiles:
        if isinstance(module, MaskedPretraining):
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


def reconstruction_tiles(module: MaskedPretraining, batch: dict[str, Any], count: int) -> Tiles:
    """Input, masked input and reconstruction of the first faces of a batch."""
    few = {name: value[:count] for name, value in batch.items()}
    masked = module.mask(few)[1]
    columns = {"image": few["image"], "masked": masked, "reconstruction": module(masked)}
    return {name: [denormalize(image) for image in value.float().cpu().numpy()] for name, value in columns.items()}


def parsing_tiles(module: LightningModule, batch: dict[str, Any], count: int, labels: LabelSet) -> Tiles:
    """Image, true and predicted label map of the first faces of a batch, in the data set's colours."""
    image = batch["image"][:count]
    predicted = module(image).argmax(dim=1)
    return {
        "image": [denormalize(photo) for photo in image.float().cpu().numpy()],
        "ground_truth": [labels.colorize(label.cpu().numpy()) for label in batch["label"][:count]],
        "prediction": [labels.colorize(label.cpu().numpy()) for label in predicted],
    }


def occlusion_tiles(module: OcclusionSegmentation, batch: dict[str, Any], count: int) -> Tiles:
    """Image, true mask, prediction and cleaned prediction of the first faces of a batch; masks in white."""
    image = batch["image"][:count]
    occluded = (module(image) > 0).squeeze(1)
    masks = {"ground_truth": batch["label"][:count] == OCCLUDED} if "label" in batch else {}
    masks |= {"prediction": occluded, "cleaned": module.clean(occluded)}
    return {
        "image": [denormalize(photo) for photo in image.float().cpu().numpy()],
        **{
            name: [np.repeat(255 * mask.cpu().numpy().astype(np.uint8)[..., None], 3, axis=2) for mask in value]
            for name, value in masks.items()
        },
    }


def grid(tiles: Tiles, gap: int = 2) -> np.ndarray:
    """One row per face, one column per kind of tile, on white: (H, W, 3) uint8."""
    columns = list(tiles.values())
    rows = [_join(list(row), gap, axis=1) for row in zip(*columns, strict=True)]
    return _join(rows, gap, axis=0)


def _join(images: list[np.ndarray], gap: int, axis: int) -> np.ndarray:
    shape = list(images[0].shape)
    shape[axis] = gap
    white = np.full(shape, 255, dtype=np.uint8)
    parts = [part for image in images for part in (image, white)][:-1]
    return np.concatenate(parts, axis=axis)


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "panels"


def flat(face: str) -> str:
    """A face's id as part of a file name: ids from nested folders contain slashes."""
    return face.replace("/", "__")


def _save_tiles(tiles: Tiles, ids: list[str], folder: Path) -> None:
    for column, images in tiles.items():
        for face, image in zip(ids, images, strict=False):
            _save(image, folder / f"{flat(face)}.{column}.png")


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
