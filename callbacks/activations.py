"""Activation maps of the trunk and class probabilities of the parser (Figure 14)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.panels import flat, photos, save_image
from datamodules.labels import SMALL_AND_LARGE
from foundation.errors import ConfigError, nearest
from lightning_modules.parsing import FaceParsing
from lightning_modules.reconstruction import Reconstruction
from models.parser import FaceParser

MIN_SIDE = 128
"""Smaller maps are enlarged by an integer factor, to at least this side in pixels."""
CAPTION, GAP = 18, 4


class Activations(Callback):
    """The trunk's channels at full resolution, and the probability of chosen classes, of a few faces.

    ``panels/activations/<face>.png`` is the image next to a grid of all channels, at the end of pre-training for the
    first faces of the validation set and at the end of fine-tuning for those of the test set; both from unmasked
    images. ``<face>.classes.png``, for parsers only, is the image next to the softmax probability of each chosen
    class.

    Args:
        count: number of faces.
        classes: class names; None: the small classes of each data set and a few large ones.
    """

    def __init__(self, count: int = 4, classes: Sequence[str] | None = None) -> None:
        self.count = count
        self.classes = classes

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the class names before training.

        Raises:
            ConfigError: if a class does not exist.
        """
        labels = trainer.datamodule.layout.labels  # type: ignore[attr-defined]
        for name in self.classes or ():
            if name not in labels.classes:
                near = nearest(name, labels.classes)
                raise ConfigError(
                    f"callbacks.activations.classes: {labels.name} has no class {name}.\n"
                    f"They must be from {', '.join(labels.classes)}." + (f" Did you mean {near}?" if near else "")
                )

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        at_end = trainer.current_epoch + 1 == trainer.max_epochs
        if batch_idx or not at_end or not trainer.is_global_zero or not isinstance(pl_module, Reconstruction):
            return
        if isinstance(pl_module.model, FaceParser):  # an encoder alone has no such map
            self._save(trainer, pl_module, batch)

    @torch.no_grad()
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        if batch_idx or not trainer.is_global_zero or not isinstance(pl_module, FaceParsing):
            return
        if pl_module.hparams["architecture"] == "unetplusplus" and pl_module.hparams["network"] is None:
            self._save(trainer, pl_module, batch)  # other networks have no such map

    def _save(self, trainer: Trainer, module: FaceParsing | Reconstruction, batch: dict[str, Any]) -> None:
        folder = Path(trainer.default_root_dir) / "panels" / "activations"
        for index, face in enumerate(batch["id"][: self.count]):
            image = batch["image"][index : index + 1]
            channels = module.model.trunk(image)  # [1, n, H, W]
            (photo,) = photos(image)
            save_image(channel_maps(photo, channels[0].float().cpu().numpy()), folder / f"{flat(face)}.png")
            if isinstance(module, FaceParsing):
                probability = module.model.head(channels)[0].float().softmax(dim=0).cpu().numpy()  # [C, H, W]
                names = module.scores.classes
                default = SMALL_AND_LARGE.get(trainer.datamodule.layout.name, names[1:10])  # type: ignore[attr-defined]
                chosen = self.classes or default
                maps = {name: probability[names.index(name)] for name in chosen}
                save_image(class_maps(photo, maps), folder / f"{flat(face)}.classes.png")


def channel_maps(image: np.ndarray, channels: np.ndarray) -> Image.Image:
    """An image (H, W, 3) uint8 next to its channels (n, H, W), each scaled from its minimum (dark) to its maximum."""
    tiles = []
    for number, channel in enumerate(channels):
        low, high = float(channel.min()), float(channel.max())
        scaled = (channel - low) / (high - low) if high > low else np.zeros_like(channel)
        tiles.append((f"{number}: {low:.2g} to {high:.2g}", _coloured(scaled)))
    return _sheet(image, tiles)


def class_maps(image: np.ndarray, probabilities: dict[str, np.ndarray]) -> Image.Image:
    """An image (H, W, 3) uint8 next to the probability (H, W) of each class by its name, dark at 0 and bright at 1.

    The number in a caption is the map's maximum, which shows classes that the parser did not find.
    """
    found = {f"{name.replace('_', ' ')}: {map_.max():.2f}": _coloured(map_) for name, map_ in probabilities.items()}
    return _sheet(image, list(found.items()))


def _coloured(share: np.ndarray) -> np.ndarray:
    """Values 0..1 (H, W) -> RGB (H, W, 3) uint8 by a colour map."""
    return matplotlib.colormaps["inferno"](share, bytes=True)[..., :3]


def _sheet(image: np.ndarray, tiles: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """The image to the left of a roughly square grid of captioned tiles."""
    times = math.ceil(MIN_SIDE / image.shape[1])
    height, width = (times * side for side in image.shape[:2])
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    cell = (width + GAP, height + CAPTION + GAP)
    sheet = Image.new("RGB", ((columns + 1) * cell[0], rows * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    places = [(0, 0), *((1 + index % columns, index // columns) for index in range(len(tiles)))]
    for (column, row), (caption, pixels) in zip(places, [("image", image), *tiles], strict=True):
        left, top = column * cell[0], row * cell[1]
        draw.text((left + 2, top + 2), caption, fill="black", font=font)
        # Nearest neighbour by an integer factor: each pixel of the map stays visible.
        tile = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top + CAPTION))
    return sheet
