"""Denoising pre-training (Brempong et al. 2022, "Denoising Pretraining for Semantic Segmentation")."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.optimization import Optimization
from models.parser import FaceParser


class Denoising(LightningModule):
    """Predicts the Gaussian noise that was added to an image: section 3.2, noise prediction with scaled images.

    Args:
        model: the parser with three output channels; fine-tuning starts from its trunk.
        optimization: optimiser and schedule of ``pretrain.*``.
        gamma: share of the image in the noisy one: sqrt(gamma) x + sqrt(1 - gamma) noise.

    Logs ``train/loss`` and ``val/loss``, the mean squared error of the noise.
    """

    def __init__(self, model: FaceParser, optimization: Optimization, gamma: float = 0.95) -> None:
        super().__init__()
        self.save_hyperparameters("gamma", logger=False)
        self.model = model
        self.optimization = optimization
        self.gamma = gamma

    def loss(self, image: Tensor, noise: Tensor) -> Tensor:
        noisy = self.gamma**0.5 * image + (1 - self.gamma) ** 0.5 * noise  # [N, 3, H, W]
        return F.mse_loss(self.model(noisy), noise)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        loss = self.loss(batch["image"], torch.randn_like(batch["image"]))  # seeded by epoch and step
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        generator = torch.Generator().manual_seed(0)  # the same noise in every epoch
        noise = torch.randn(batch["image"].shape, generator=generator).to(batch["image"])
        self.log("val/loss", self.loss(batch["image"], noise), batch_size=len(batch["id"]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        return self.optimization(self.parameters())
