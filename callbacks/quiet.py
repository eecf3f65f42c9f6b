"""What Lightning and W&B say of themselves, and advice that does not apply here, left out."""

from __future__ import annotations

import logging
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
        ".*in eval mode at the start of training.*",  # finetune.trained asks for it
    ):
        warnings.filterwarnings("ignore", message)


class Quiet(Callback):
    """Silences the processes that Lightning spawns too."""

    def setup(self, *_: Any, **__: Any) -> None:
        silence()
