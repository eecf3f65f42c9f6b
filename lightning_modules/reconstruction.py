"""What the pretext tasks of this project share: they restore images, and are scored and shown alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_modules.scoring import ScoredModule


class Reconstruction(ScoredModule):
    """Base class of pretext tasks; a subclass sets ``self.model``, whose weights later stages start from.

    Args:
        std: the three standard deviations of the normalisation, for values in 0..1.

    Logs ``val/loss`` and ``val/psnr``: dB over the restored pixels, for images with values 0..1.
    """

    model: Any
    std: Tensor

    def __init__(self, std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.mean_loss = MeanMetric()  # Lightning's mean over processes rounds the mean number of faces
        self.squared_error = MeanMetric()

    @abstractmethod
    def columns(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What panels show of a batch: normalised images (N, 3, H, W) by the name of their column."""

    def count(self, loss: Tensor, prediction: Tensor, image: Tensor, region: Tensor) -> None:
        """Update the metrics.

        Args:
            loss: of the batch.
            prediction: restored images (N, 3, H, W), normalised.
            image: the originals.
            region: (N, 1, H, W), 1 where pixels were restored.
        """
        self.mean_loss.update(loss, weight=len(image))
        error = ((prediction - image) * self.std).float().square() * region  # for values in 0..1
        values = 3 * region.sum()
        self.squared_error.update(error.sum() / values, weight=values)

    def log_scores(self, split: str) -> None:
        self.log(f"{split}/loss", self.mean_loss.compute())
        self.log(f"{split}/psnr", -10 * torch.log10(self.squared_error.compute()))

    def configure_optimizers(self) -> Any:
        return self.optimization(self.parameters())
