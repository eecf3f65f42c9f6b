"""The same random numbers inside a network after a resume."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer


class StepSeed(Callback):
    """Seeds torch at each step, so that networks that sample random numbers (such as the drop path of some encoders)
    sample the same ones after a resume.

    Args:
        seed: the stage's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        place = f"{self.seed}/{trainer.global_step}/{trainer.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:8]))
