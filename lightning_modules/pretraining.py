"""Stage 1: reconstruct the masked centre of unlabelled faces (Proposed MTL pre-training stage, Equation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.reconstruction import Reconstruction
from models.losses import contrastive_loss, mean_over_images, reconstruction_loss
from models.masking import box_region, loss_region, random_masking, update_hardness
from models.parser import FaceParser


class MaskedPretraining(Reconstruction):
    """Masked pre-training of the trunk through the R decoder.

    Args:
        encoder: encoder name.
        features: channels of the trunk's full-resolution map.
        loss: pixel loss L of Equation 1, ``mse`` or ``l1``.
        reduction: ``mean`` over the region or the paper's ``sum``.
        loss_over: region of the loss: the central ``box`` (Equation 1), all of the ``image``, or ``masked`` pixels.
        fill: value of masked pixels, see :func:`models.masking.fill_masked`.
        masking: ``adaptive`` keeps those of an image's patches where reconstruction has been worst so far; other
            values decide where the loader samples patches and have no effect here.
        patches: patches per image.
        image_size: side of the images, in pixels.
        contrastive: weight of a contrastive term between two maskings of each image, next to Equation 1.
        temperature: of that term, see :func:`models.losses.contrastive_loss`.
        optimizer: see :class:`lightning_modules.optimization.Optimization`, as are the next two.
        schedule: likewise.
        steps: likewise.
        std: the three standard deviations of the normalisation, for values in 0..1.
        encoder_state: initial weights of the encoder.

    Logs ``train/loss``, ``val/loss`` and ``val/psnr``: dB on masked pixels (on the central box with
    ``masking=none``), for images with values 0..1. In validation adaptive masking keeps the first patches.
    """

    hardness: Tensor

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
        masking: str = "central",
        patches: int = 128,
        image_size: int = 480,
        contrastive: float = 0.0,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(std)
        self.save_hyperparameters(ignore=["encoder_state"], logger=False)
        self.model = FaceParser(3, encoder, features, encoder_state)
        if masking == "adaptive":
            self.register_buffer("hardness", torch.ones(image_size, image_size))
        if contrastive > 0:
            width = self.model.trunk.encoder.out_channels[-1]
            self.projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128))

    def forward(self, image: Tensor) -> Tensor:
        """Masked image (N, 3, H, W) -> reconstruction (N, 3, H, W), both normalised."""
        return self.model(image)

    def mask(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The batch's mask (N, 1, H, W) and its masked images (N, 3, H, W)."""
        adaptive = self.hparams["masking"] == "adaptive"
        return random_masking(
            batch["image"],
            batch["patches"],
            batch["noise_seed"],
            self.hparams["fill"],
            keep=self.hparams["patches"] if adaptive else None,
            hardness=self.hardness if adaptive and self.training else None,
        )

    def loss(self, prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Equation 1 over the configured region."""
        region = loss_region(self.hparams["loss_over"], mask)
        return reconstruction_loss(prediction, image, region, self.hparams["loss"], self.hparams["reduction"])

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        mask, masked = self.mask(batch)
        if self.hparams["contrastive"] == 0:
            prediction = self(masked)
            loss = self.loss(prediction, batch["image"], mask)
        else:
            pyramid = self.model.trunk.encoder(masked)
            prediction = self.model.head(self.model.trunk.decoder(pyramid))
            contrast = self._contrast(pyramid[-1], batch)
            self.log("train/contrastive", contrast, batch_size=len(batch["id"]))
            loss = self.loss(prediction, batch["image"], mask) + self.hparams["contrastive"] * contrast
        if self.hparams["masking"] == "adaptive":
            update_hardness(self.hardness, prediction.detach(), batch["image"], mask)
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def _contrast(self, deepest: Tensor, batch: dict[str, Any]) -> Tensor:
        """Contrastive term between two maskings of each image; ``deepest``: the encoder's features of the first one."""
        other = batch | {"patches": batch["patches"].roll(1, dims=0)}  # the patches of the image next to it
        features = (deepest, self.model.trunk.encoder(self.mask(other)[1])[-1])
        first, second = (self.projector(feature.mean(dim=(2, 3))) for feature in features)
        return contrastive_loss(first, second, self.hparams["temperature"])

    def score(self, batch: dict[str, Any]) -> None:
        mask, masked = self.mask(batch)
        prediction = self(masked)
        loss = mean_over_images(self.loss, prediction, batch["image"], mask)
        if self.hparams["masking"] == "none":
            mask = box_region(mask.shape[-1], mask.device).expand_as(mask)
        self.count(loss, prediction, batch["image"], mask)

    def columns(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        masked = self.mask(batch)[1]
        return {"image": batch["image"], "masked": masked, "reconstruction": self(masked)}
