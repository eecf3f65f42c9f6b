"""The network and the training of the linear probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.metrics import SegmentationScores
from lightning_modules.optimization import Optimization
from lightning_modules.parsing import score_batch
from models.losses import IGNORE
from models.parser import Trunk

PREFIX = "model.trunk.encoder."


class LinearParser(nn.Module):
    """A 1 x 1 convolution on the levels of a frozen encoder, all brought to the input's size.

    Shape: (N, 3, H, W) normalised image -> (N, classes, H, W) logits.
    """

    def __init__(self, classes: int, encoder: str, levels: int) -> None:
        super().__init__()
        self.encoder = Trunk(encoder).encoder.requires_grad_(False)
        self.levels = levels
        self.head = nn.Conv2d(sum(self.encoder.out_channels[1 : levels + 1]), classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            pyramid = self.encoder(image)[1 : self.levels + 1]  # [N, C1, H/2, W/2] ... [N, C5, H/32, W/32]
        full = [F.interpolate(level, size=image.shape[-2:], mode="bilinear") for level in pyramid]
        return self.head(torch.cat(full, dim=1))

    def train(self, mode: bool = True) -> LinearParser:
        super().train(mode)
        self.encoder.eval()  # its batch normalisation is frozen too
        return self


class Probe(LightningModule):
    """Trains the linear layer with cross-entropy; logs ``train/loss``, ``val/loss`` and the scores of a parser.

    Args:
        classes: class names by id.
        encoder: encoder name.
        levels: levels of the encoder that are read.
        pretrained: the weights of the pre-training; None where those of a checkpoint follow, as in evaluate.py.
        optimization: how it is trained; None where it is only scored.
    """

    def __init__(
        self,
        classes: Sequence[str],
        encoder: str,
        levels: int,
        pretrained: Mapping[str, Tensor] | None = None,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("classes", "encoder", "levels", logger=False)
        self.model = LinearParser(len(classes), encoder, levels)
        if pretrained is not None:
            parts = {name.removeprefix(PREFIX): value for name, value in pretrained.items() if name.startswith(PREFIX)}
            self.model.encoder.load_state_dict(parts)
        self.optimization = optimization
        self.scores = SegmentationScores(classes)

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 3, H, W), normalised -> logits (N, classes, H, W)."""
        return self.model(image)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        loss = F.cross_entropy(self(batch["image"]), batch["label"], ignore_index=IGNORE)
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        logits = self(batch["image"])
        loss = F.cross_entropy(logits, batch["label"], ignore_index=IGNORE)
        self.log("val/loss", loss, batch_size=len(batch["id"]), sync_dist=True)
        score_batch(self.scores, logits, batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        score_batch(self.scores, self(batch["image"]), batch)

    def on_validation_epoch_start(self) -> None:
        self.scores.reset()

    def on_test_epoch_start(self) -> None:
        self.scores.reset()

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self.scores.compute().items()})

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{name}": value for name, value in self.scores.compute().items()})

    def configure_optimizers(self) -> Any:
        assert self.optimization is not None  # noqa: S101 (for the type checker)
        return self.optimization(self.model.head.parameters())
