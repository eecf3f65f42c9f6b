"""Stage 1 by sparse masked modelling (SparK, Tian et al., ICLR 2023), see :mod:`models.sparse_masking`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_modules.reconstruction import Reconstruction
from models.losses import mean_over_images
from models.sparse_masking import SparseAutoencoder, sample_units, unit_loss, unit_reconstruction


class SparseMasking(Reconstruction):
    """Pre-training of the encoder alone: it sees the visible units of an image, a light decoder predicts the others.

    Args:
        encoder: encoder name.
        mask_ratio: masked share of the units.
        mask_units: units along a side of the image.
        decoder_width: channels of the decoder at the coarsest map.
        optimizer: see :class:`lightning_modules.optimization.Optimization`, as are the next two.
        schedule: likewise.
        steps: likewise.
        std: see :class:`lightning_modules.reconstruction.Reconstruction`.
        encoder_state: initial weights of the encoder.

    Logs ``train/loss``, ``val/loss`` and ``val/psnr``: on masked pixels, each unit with its own true mean and
    deviation, so that it is higher than that of other pretext tasks.
    """

    model: SparseAutoencoder

    def __init__(
        self,
        encoder: str,
        mask_ratio: float,
        mask_units: int,
        decoder_width: int,
        optimizer: dict[str, Any],
        schedule: dict[str, Any],
        steps: int,
        std: Sequence[float],
        encoder_state: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(std)
        self.save_hyperparameters(ignore=["encoder_state"], logger=False)
        self.model = SparseAutoencoder(encoder, decoder_width, encoder_state)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Images (N, 3, S, S) and masks (N, 1, S, S) -> normalised pixels of each unit (N, 3, S, S)."""
        return self.model(image, mask)

    def mask(self, batch: dict[str, Any]) -> Tensor:
        """The batch's masks (N, 1, S, S), 1 where masked."""
        own = self.hparams
        return sample_units(batch["noise_seed"], own["mask_units"], own["mask_ratio"], batch["image"].shape[-1])

    def loss(self, prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        return unit_loss(prediction, image, mask, self.hparams["mask_units"])

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        mask = self.mask(batch)
        loss = self.loss(self(batch["image"], mask), batch["image"], mask)
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def score(self, batch: dict[str, Any]) -> None:
        image, mask = batch["image"], self.mask(batch)
        prediction = self(image, mask)
        loss = mean_over_images(self.loss, prediction, image, mask)
        self.count(loss, unit_reconstruction(prediction, image, mask, self.hparams["mask_units"]), image, mask)

    def columns(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        image, mask = batch["image"], self.mask(batch)
        restored = unit_reconstruction(self(image, mask), image, mask, self.hparams["mask_units"])
        return {"image": image, "masked": image * (1 - mask), "reconstruction": restored}
