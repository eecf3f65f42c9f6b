"""Stage 1: reconstruct the masked centre of unlabelled faces (Proposed MTL pre-training stage, Equation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_modules.optimization import configure_optimizer
from models.losses import mean_over_pictures, reconstruction_loss
from models.masking import box_region, hide, rasterize
from models.parser import FaceParser


class MaskedPretraining(LightningModule):
    """Masked pre-training of the trunk through the R decoder.

    Args:
        encoder: encoder name.
        features: channels of the trunk's full-resolution map.
        loss: pixel loss L of Equation 1, ``mse`` or ``l1``.
        reduction: ``mean`` over the region or the paper's ``sum``.
        loss_over: region of the loss: the central ``box`` (Equation 1), the whole ``image``, or ``masked`` pixels.
        fill: what hides the patches, see :func:`models.masking.hide`.
        optimizer: see :func:`lightning_modules.optimization.configure_optimizer`.
        schedule: likewise.
        steps: total number of optimiser steps. (Lightning's own estimate would start the loader, and its workers
            with the first epoch's samples, before a resumed run knows its epoch.)
        std: the three standard deviations by which pictures were normalised, of values 0..1.
        encoder_state: weights the encoder starts from.

    Logs ``train/loss``, ``val/loss`` and ``val/psnr``: dB on masked pixels, of pictures with values 0..1.
    """

    def __init__(
        self,
        encoder: str,
        features: int,
        loss: str,
        reduction: str,
        loss_over: str,
        fill: str,
        optimizer: dict[str, Any],
        schedule: dict[str, Any],
        steps: int,
        std: Sequence[float],
        encoder_state: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["encoder_state"], logger=False)
        self.model = FaceParser(3, encoder, features, encoder_state)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.mean_loss = MeanMetric()  # Lightning's own mean over processes rounds their numbers of faces
        self.masked_error = MeanMetric()  # squared, over masked values

    def forward(self, image: Tensor) -> Tensor:
        """Masked picture (N, 3, H, W) -> reconstruction (N, 3, H, W), both normalised."""
        return self.model(image)

    def mask(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The batch's mask (N, 1, H, W) and its pictures with the mask's pixels hidden."""
        mask = rasterize(batch["patches"], batch["image"].shape[-1])
        return mask, hide(batch["image"], mask, self.hparams["fill"], batch["noise_seed"])

    def loss(self, prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Equation 1 over the configured region."""
        over = self.hparams["loss_over"]
        region = mask if over == "masked" else torch.ones_like(mask)
        if over == "box":
            region = box_region(image.shape[-1], image.device)
        return reconstruction_loss(prediction, image, region, self.hparams["loss"], self.hparams["reduction"])

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        mask, masked = self.mask(batch)
        loss = self.loss(self(masked), batch["image"], mask)
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        mask, masked = self.mask(batch)
        prediction = self(masked)
        loss = mean_over_pictures(self.loss, prediction, batch["image"], mask)
        self.mean_loss.update(loss, weight=len(batch["id"]))
        error = ((prediction - batch["image"]) * self.std).float().square() * mask  # of values 0..1
        values = 3 * mask.sum()
        self.masked_error.update(error.sum() / values, weight=values)

    def on_validation_epoch_start(self) -> None:
        # At the start: until then spawned processes share the memory of what they count in.
        self.mean_loss.reset()
        self.masked_error.reset()

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.mean_loss.compute())
        self.log("val/psnr", -10 * torch.log10(self.masked_error.compute()))

    def configure_optimizers(self) -> Any:
        names = ("optimizer", "schedule", "steps")
        return configure_optimizer(self.parameters(), *(self.hparams[name] for name in names))
