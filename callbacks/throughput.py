"""How fast a run trains and how much memory it takes, across interruptions."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Measures training images per second, training time and peak memory.

    ``seconds`` is the time of all epochs, including validation; ``images_per_second`` excludes validation.
    ``peak_memory_mb`` is the first GPU's during this run; without a GPU, this process's so far.
    """

    def __init__(self) -> None:
        self.images = 0
        self.training_seconds = self.seconds = self.peak_memory_mb = 0.0
        self._epoch_start = self._validation_start = self._validation_seconds = 0.0

    @property
    def summary(self) -> dict[str, float]:
        """The measurements that enter the status."""
        return {
            "seconds": round(self.seconds, 2),
            "images_per_second": round(self.images / self.training_seconds if self.training_seconds else 0.0, 2),
            "peak_memory_mb": round(self.peak_memory_mb, 1),
        }

    def on_fit_start(self, trainer: Trainer, _: LightningModule) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def on_train_epoch_start(self, *_: Any) -> None:
        self._epoch_start = time.perf_counter()
        self._validation_seconds = 0.0

    def on_train_batch_end(self, trainer: Trainer, _: Any, __: Any, batch: dict[str, Any], ___: int) -> None:
        self.images += len(batch["id"]) * trainer.world_size

    def on_validation_start(self, *_: Any) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        self._validation_seconds += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        elapsed = time.perf_counter() - self._epoch_start
        self.seconds += elapsed
        self.training_seconds += elapsed - self._validation_seconds
        self.peak_memory_mb = max(self.peak_memory_mb, peak_memory_mb(trainer.strategy.root_device))

    def state_dict(self) -> dict[str, Any]:
        counts = ("images", "training_seconds", "seconds", "peak_memory_mb")
        return {name: getattr(self, name) for name in counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MiB: of a GPU since its last reset, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():  # Linux
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux it includes the parent process
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
