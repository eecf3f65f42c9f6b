"""Optimisers and learning-rate schedules, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class Optimization:
    """How a network is trained, for your own Lightning modules: ``return self.optimization(self.parameters())``.

    Args:
        optimizer: ``name`` (``sgd``, ``adam`` or ``adamw``), ``lr``, ``weight_decay``; for SGD ``momentum``; for
            the others ``beta1``, by default 0.9.
        schedule: ``name`` (``constant`` or ``cosine``, down to zero) and ``warmup``, the fraction of the steps over
            which the learning rate rises to ``lr``.
        steps: total number of optimiser steps. (Lightning's own estimate would start the loader, and its workers
            with the first epoch's samples, before a resumed run knows its epoch.)
    """

    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    steps: int

    def __call__(self, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The return value of ``LightningModule.configure_optimizers``.

        Args:
            parameters: the trained parameters, or groups: ``params`` and the values that differ from ``optimizer``.
        """
        own = self.optimizer
        common = {"lr": own["lr"], "weight_decay": own["weight_decay"], "fused": True}
        chosen: torch.optim.Optimizer
        if own["name"] == "sgd":
            chosen = torch.optim.SGD(parameters, momentum=own["momentum"], **common)
        else:
            adam = torch.optim.Adam if own["name"] == "adam" else torch.optim.AdamW
            chosen = adam(parameters, betas=(own.get("beta1", 0.9), 0.999), **common)
        warmup = round(self.schedule["warmup"] * self.steps)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            if self.schedule["name"] == "constant":
                return 1.0
            progress = min(1.0, (step - warmup) / max(1, self.steps - warmup))
            return 0.5 * (1 + math.cos(math.pi * progress))

        scheduler = {"scheduler": LambdaLR(chosen, factor), "interval": "step", "name": "train/lr"}
        return {"optimizer": chosen, "lr_scheduler": scheduler}
