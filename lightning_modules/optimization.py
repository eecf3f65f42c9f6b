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
        optimizer: see :func:`configure_optimizer`.
        schedule: likewise.
        steps: total number of optimiser steps.
    """

    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    steps: int

    def __call__(self, parameters: Iterable[nn.Parameter]) -> dict[str, Any]:
        """The return value of ``LightningModule.configure_optimizers``."""
        return configure_optimizer(parameters, self.optimizer, self.schedule, self.steps)


def configure_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    optimizer: dict[str, Any],
    schedule: dict[str, Any],
    steps: int,
) -> dict[str, Any]:
    """The return value of ``LightningModule.configure_optimizers``.

    Args:
        parameters: the trained parameters, or groups: ``params`` and the values that differ from ``optimizer``.
        optimizer: ``name`` (``sgd``, ``adam`` or ``adamw``), ``lr``, ``weight_decay``; for SGD ``momentum``; for
            the others ``beta1``, by default 0.9.
        schedule: ``name`` (``constant`` or ``cosine``, down to zero) and ``warmup``, the fraction of the steps over
            which the learning rate rises to ``lr``.
        steps: total number of optimiser steps.
    """
    chosen: torch.optim.Optimizer
    if optimizer["name"] == "sgd":
        chosen = torch.optim.SGD(
            parameters,
            lr=optimizer["lr"],
            momentum=optimizer["momentum"],
            weight_decay=optimizer["weight_decay"],
            fused=True,
        )
    else:
        adam = torch.optim.Adam if optimizer["name"] == "adam" else torch.optim.AdamW
        betas = (optimizer.get("beta1", 0.9), 0.999)
        chosen = adam(parameters, lr=optimizer["lr"], betas=betas, weight_decay=optimizer["weight_decay"], fused=True)
    warmup = round(schedule["warmup"] * steps)
    cosine = schedule["name"] == "cosine"

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if not cosine:
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 0.5 * (1 + math.cos(math.pi * progress))

    return {
        "optimizer": chosen,
        "lr_scheduler": {"scheduler": LambdaLR(chosen, factor), "interval": "step", "name": "train/lr"},
    }
