"""Progress of a stage: a bar on a terminal, otherwise one line per epoch."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

from foundation.shown_text import PARALLEL_JOBS, duration

SHOWN = ("train/loss", "val/loss", "val/miou", "val/psnr")


class EpochProgressBar(RichProgressBar):
    """Lightning's rich progress bar; without a terminal, one plain line per validated epoch, with the time left.

    Nothing where jobs of a sweep share the terminal: :mod:`engine.sweep_progress` shows when each of them ends.
    """

    def __init__(self) -> None:
        super().__init__(leave=False)
        self._start, self._first = time.perf_counter(), 0
        self._shared = PARALLEL_JOBS in os.environ
        if not sys.stdout.isatty() or self._shared:
            self.disable()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start, self._first = time.perf_counter(), trainer.current_epoch  # a resumed run starts late

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self.is_enabled or self._shared or not trainer.is_global_zero:
            return
        values = trainer.callback_metrics
        shown = "  ".join(f"{name} {float(values[name]):.4f}" for name in SHOWN if name in values)
        seconds, epoch, last = time.perf_counter() - self._start, trainer.current_epoch + 1, trainer.max_epochs or 0
        left = duration(seconds / (epoch - self._first) * (last - epoch)) if epoch < last else ""
        print(f"  epoch {epoch}/{last}  {shown}  {seconds:.0f} s{left and f', {left} left'}", flush=True)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in shown.items() if name in SHOWN}
