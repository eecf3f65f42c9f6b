"""Suppresses log output of Lightning and W&B and warnings that do not apply here."""

from __future__ import annotations

import logging
import multiprocessing
import os
import warnings
from typing import Any

from pytorch_lightning import Callback


def silence() -> None:
    """Silence this process."""
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*persistent_workers.*",
        ".*sync_dist=True.*",
        ".*Checkpoint directory.*exists.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*GPU available but not used.*",
        ".*srun. command is available.*",  # a sweep's jobs go through its launcher
        ".*Total length of `list` across ranks is zero.*",  # no validation split
        ".*in eval mode at the start of training.*",  # intended by finetune.trained
    ):
        warnings.filterwarnings("ignore", message)


if multiprocessing.parent_process() is not None:
    silence()  # a spawned process imports this with its trainer, before that warns


class Quiet(Callback):
    """Silences processes that Lightning spawns."""

    def setup(self, *_: Any, **__: Any) -> None:
        silence()
