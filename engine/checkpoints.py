"""Checkpoints that are whole or absent, at epoch boundaries."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, Checkpoint

from callbacks.curves import Curves
from callbacks.throughput import Throughput
from engine.errors import DataError
from engine.runs import RunFolder


def save_atomically(content: dict[str, Any], path: Path) -> None:
    """``torch.save`` so that a reader, or a crash, finds the old file or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with draft.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint of ours, without unpickling code.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:
        raise DataError(
            f"The checkpoint {path} cannot be read ({type(fault).__name__}).\n"
            f"Train its run again with force=true, or move the folder {path.parent.parent} away."
        ) from fault


def require_whole(path: Path) -> None:
    """Refuse a checkpoint that was damaged after it was written.

    Raises:
        DataError: saying how to go on.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"The checkpoint {path} is damaged.\nDelete it to train this run from its start.")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own checkpoints, written atomically and read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        save_atomically(checkpoint, Path(path))


class EpochCheckpoint(Checkpoint):
    """Keeps ``last`` (to resume) after every epoch, ``best`` (weights alone) where validation improves, and says in
    the status how far the run is.

    Args:
        folder: the run folder.
        monitor: the validation score to maximise, or None to keep the newest weights: fine-tuning starts from where
            pre-training ended, as no score of a reconstruction says which epoch parses best.
        description: plain values kept with the weights.
        throughput: what measures the run.
    """

    def __init__(
        self, folder: RunFolder, monitor: str | None, description: dict[str, Any], throughput: Throughput
    ) -> None:
        self.folder = folder
        self.monitor = monitor
        self.description = description
        self.throughput = throughput
        self.score = float("-inf")
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.metrics = state_dict["score"], state_dict["metrics"]

    def on_load_checkpoint(self, trainer: Trainer, _: LightningModule, checkpoint: dict[str, Any]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, Curves):
                logger.cut(checkpoint["global_step"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        validated = trainer.fit_loop.epoch_loop._should_check_val_epoch()  # the validation of this very epoch
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if validated and (self.monitor is None or values[self.monitor] > self.score):
            self.score = float("-inf") if self.monitor is None else values[self.monitor]
            self.metrics = {name: value for name, value in values.items() if name.startswith("val/")}
            if trainer.is_global_zero:
                content = {
                    "state_dict": {name: value.cpu() for name, value in pl_module.state_dict().items()},
                    "hyper_parameters": dict(pl_module.hparams),
                    "epoch": trainer.current_epoch + 1,
                    "global_step": trainer.global_step,
                    **self.description,
                }
                save_atomically(content, self.folder.best)
        for logger in trainer.loggers:
            if isinstance(logger, Curves):
                logger.flush()
        trainer.save_checkpoint(self.folder.last, weights_only=False)  # with the optimiser
        if trainer.is_global_zero:
            self.folder.write_status(epoch=trainer.current_epoch + 1, **self.throughput.summary)


class StepSeed(Callback):
    """Seeds torch anew at each step, so that a network that draws numbers of its own (dropped paths of some encoders)
    draws the same ones after a resume.

    Args:
        seed: the stage's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        place = f"{self.seed}/{trainer.global_step}/{trainer.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:8]))
