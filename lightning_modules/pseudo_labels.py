"""Watches pseudo-labels for the known failures of self-training: classes that vanish, scores that collapse late."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.losses import IGNORE

COLLAPSE = 0.05
"""A fall of validation's mean IoU below its maximum that counts as a collapse."""


class PseudoLabelWatch:
    """Shares of each class in the labels and in the pseudo-labels of an epoch.

    Args:
        classes: class names by id.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.best = 0.0
        self.warned: set[str] = set()
        self.start_epoch()

    def start_epoch(self) -> None:
        self.labelled = torch.zeros(len(self.classes), dtype=torch.long)
        self.pseudo = torch.zeros(len(self.classes), dtype=torch.long)

    def count(self, label: Tensor, pseudo: Tensor | None) -> None:
        """Count the pixels of a batch; both (N, H, W) with 255 to ignore; None: no pseudo-labels yet."""
        self.labelled = self.labelled.to(label.device) + self._count(label)
        if pseudo is not None:
            self.pseudo = self.pseudo.to(label.device) + self._count(pseudo)

    def _count(self, label: Tensor) -> Tensor:
        return torch.bincount(label[label != IGNORE], minlength=len(self.classes))

    def end_epoch(self, trusted: bool) -> dict[str, float]:
        """``labelled/<class>`` and ``pseudo/<class>``: shares of the epoch's pixels, 0..1; {} without pseudo-labels.

        Warns once of each class without a labelled pixel, or with labels but without a pseudo-label.

        Args:
            trusted: whether pseudo-labels had their full weight; before, small classes may be absent.
        """
        absent = [name for name, count in zip(self.classes, self.labelled.tolist(), strict=True) if count == 0]
        self._warn(absent, "No labelled face of this epoch has a pixel of {}: not learnt from it.")
        if not self.pseudo.any():
            return {}
        counts = {"labelled": self.labelled.double(), "pseudo": self.pseudo.double()}
        shares = {kind: (value / value.sum()).tolist() for kind, value in counts.items()}
        pairs = zip(self.classes, shares["labelled"], shares["pseudo"], strict=True)
        vanished = [name for name, labelled, pseudo in pairs if trusted and labelled > 0 and pseudo == 0]
        self._warn(
            vanished,
            "No pseudo-label of this epoch is {}, though labelled faces have pixels of it.\n"
            "Do one of: semi.threshold=0; a loss with a Dice term; semi.start_from=<a parser>.",
        )
        return {
            f"{kind}/{name}": share
            for kind, values in shares.items()
            for name, share in zip(self.classes, values, strict=True)
        }

    def validated(self, miou: float) -> None:
        """Warns once if validation's mean IoU has fallen by more than :data:`COLLAPSE` since its maximum."""
        if miou < self.best - COLLAPSE:
            self._warn(
                ["val/miou"],
                f"{{}} has fallen from {self.best:.3f} to {miou:.3f}: the pseudo-labels may confirm their errors.\n"
                f"Do one of: fewer epochs; a smaller semi.optimizer.lr or semi.weight; semi.threshold=0.8.",
            )
        self.best = max(self.best, miou)

    def _warn(self, names: Sequence[str], message: str) -> None:
        """One warning of the names of which none was given before."""
        new = [name for name in names if name not in self.warned]
        if new:
            self.warned.update(new)
            warnings.warn(message.format(", ".join(new)), stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "warned": sorted(self.warned)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.warned = state["best"], {*state["warned"]}
