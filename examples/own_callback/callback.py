"""A callback of one's own: the norm of the gradient at every step."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class GradientNorm(Callback):
    """Logs ``train/gradient_norm``, before any clipping.

    Args:
        order: of the norm, 2 is the Euclidean one.
    """

    def __init__(self, order: float = 2.0) -> None:
        self.order = order

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        del trainer, optimizer
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        pl_module.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients, self.order))
