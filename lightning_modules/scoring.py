"""What all own Lightning modules share: they score batches in validation and test, and log the scores of an epoch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pytorch_lightning import LightningModule
from torchmetrics import Metric

from lightning_modules.optimization import Optimization


class ScoredModule(LightningModule):
    """Scores each batch of validation and test in the same way; its metrics are reset for every epoch."""

    @abstractmethod
    def score(self, batch: dict[str, Any]) -> None:
        """Update the metrics."""

    @abstractmethod
    def log_scores(self, split: str) -> None:
        """Log what the metrics say of ``val`` or ``test``."""

    @property
    def optimization(self) -> Optimization:
        return Optimization(*(self.hparams[name] for name in ("optimizer", "schedule", "steps")))

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        self.score(batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.score(batch)

    def on_validation_epoch_start(self) -> None:
        # At the start of the epoch: until then spawned processes share the metrics' memory.
        for module in self.children():
            if isinstance(module, Metric):
                module.reset()

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val")

    def on_test_epoch_end(self) -> None:
        self.log_scores("test")
