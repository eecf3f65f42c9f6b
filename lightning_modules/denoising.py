"""Stage 1 by denoising (Brempong et al. 2022, "Denoising Pretraining for Semantic Segmentation")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.reconstruction import Reconstruction
from models.losses import mean_over_images
from models.parser import FaceParser


class Denoising(Reconstruction):
    """Pre-training of the trunk, encoder and decoder: predict the Gaussian noise that was added to an image.

    Args:
        encoder: encoder name.
        features: channels of the trunk's full-resolution map.
        noise: standard deviation of the noise, for images with values -1..1 as in the paper.
        optimizer: see :class:`lightning_modules.optimization.Optimization`, as are the next two.
        schedule: likewise.
        steps: likewise.
        std: see :class:`lightning_modules.reconstruction.Reconstruction`.
        encoder_state: initial weights of the encoder.

    Logs ``train/loss`` and ``val/loss``, the mean squared error of the noise, and ``val/psnr`` of the denoised image.
    """

    scale: Tensor

    def __init__(
        self,
        encoder: str,
        features: int,
        noise: float,
        optimizer: dict[str, Any],
        schedule: dict[str, Any],
        steps: int,
        std: Sequence[float],
        encoder_state: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(std)
        self.save_hyperparameters(ignore=["encoder_state"], logger=False)
        self.model = FaceParser(3, encoder, features, encoder_state)
        self.register_buffer("scale", noise / (2 * self.std), persistent=False)  # for normalised images

    def forward(self, image: Tensor) -> Tensor:
        """Noisy images (N, 3, H, W) -> their noise (N, 3, H, W)."""
        return self.model(image)

    def noise(self, batch: dict[str, Any]) -> Tensor:
        """Standard normal noise (N, 3, H, W), of each sample's own seed, so that a resumed run repeats it."""
        image = batch["image"]
        made = [
            torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(int(seed)))
            for seed in batch["noise_seed"]
        ]
        return torch.stack(made).to(image)

    def add(self, noise: Tensor, image: Tensor) -> Tensor:
        """x' = (x + s e) / sqrt(1 + s^2): the sum is scaled to the variance of an image (section 3.2)."""
        return (image + self.scale * noise) / (1 + self.scale.square()).sqrt()

    def remove(self, noise: Tensor, noisy: Tensor) -> Tensor:
        """The inverse of :meth:`add`."""
        return noisy * (1 + self.scale.square()).sqrt() - self.scale * noise

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        noise = self.noise(batch)
        loss = F.mse_loss(self(self.add(noise, batch["image"])), noise)
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def score(self, batch: dict[str, Any]) -> None:
        image, noise = batch["image"], self.noise(batch)
        noisy = self.add(noise, image)
        prediction = self(noisy)
        loss = mean_over_images(F.mse_loss, prediction, noise)
        self.count(loss, self.remove(prediction, noisy), image, torch.ones_like(image[:, :1]))

    def columns(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        noisy = self.add(self.noise(batch), batch["image"])
        return {"image": batch["image"], "noisy": noisy, "reconstruction": self.remove(self(noisy), noisy)}
