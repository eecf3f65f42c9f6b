"""How fast a run trains, across interruptions."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Counts training images and the seconds spent training on them, validation left out.

    ``seconds`` is the whole time in training epochs, validation included; ``images_per_second`` is of training alone.
    """

    def __init__(self) -> None:
        self.images = 0
        self.training_seconds = 0.0
        self.seconds = 0.0
        self._epoch_start = self._validation_start = 0.0
        self._validation_seconds = 0.0

    @property
    def images_per_second(self) -> float:
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self._epoch_start = time.perf_counter()
        self._validation_seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, _: LightningModule, __: Any, batch: dict[str, Any], ___: int
    ) -> None:
        self.images += len(batch["id"]) * trainer.world_size

    def on_validation_start(self, *_: Any) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        self._validation_seconds += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, *_: Any) -> None:
        elapsed = time.perf_counter() - self._epoch_start
        self.seconds += elapsed
        self.training_seconds += elapsed - self._validation_seconds

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "training_seconds": self.training_seconds, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images = state_dict["images"]
        self.training_seconds = state_dict["training_seconds"]
        self.seconds = state_dict["seconds"]
