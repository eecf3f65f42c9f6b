"""Atomic checkpoints at epoch boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from lightning_fabric.utilities.apply_func import convert_tensors_to_scalars
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor, nn

from callbacks.curves import Curves
from callbacks.throughput import Throughput
from foundation.errors import DataError, RunError
from foundation.files import atomic_write
from foundation.run_folder import RunFolder
from lightning_modules.exported import SUFFIX, load_exported, refuse_torchscript
from lightning_modules.records import require_hyperparameters, require_record
from models.weights import WeightsError, misfit, read_weights, unfit_weights

RESUMED = ("state_dict", "epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")
"""What Lightning resumes from."""


def save(content: dict[str, Any], path: Path) -> None:
    """``torch.save``, see :func:`foundation.files.atomic_write`."""
    with atomic_write(path) as file:
        torch.save(content, file)


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, without unpickling code, or of an exported file, with ``network`` for its weights.

    Raises:
        ConfigError: if it is a TorchScript file.
        DataError: if it cannot be read, or does not describe its network.
    """
    if path.suffix == SUFFIX:
        return load_exported(path)
    refuse_torchscript(path)
    content = _read(path)
    labels = require_record(content, path)
    require_hyperparameters(content, labels, path)
    if problem := unfit_weights(content.get("state_dict")):
        raise damaged(path, problem)
    return content


def load_resumed(path: Path) -> dict[str, Any]:
    """The content of ``last.ckpt``, as Lightning saves it.

    Raises:
        DataError: if it cannot be read, or lacks a part.
    """
    content = _read(path)
    absent = [key for key in RESUMED if not isinstance(content, dict) or key not in content]
    problem = f"it has no {', '.join(absent)}" if absent else unfit_weights(content["state_dict"])
    if problem:
        raise damaged(path, problem)
    return content


def _read(path: Path) -> Any:
    try:
        return read_weights(path)
    except WeightsError as error:
        raise damaged(path, str(error)) from error


def require_fit(state: Mapping[str, Tensor], module: nn.Module, path: Path) -> None:
    """Check the weights of a checkpoint against a network, which is left unchanged.

    Raises:
        DataError: if they do not fit.
    """
    if problem := misfit(state, module.state_dict()):
        raise damaged(path, problem)


def damaged(path: Path, reason: str) -> DataError:
    """The error of a checkpoint that cannot be used, with what to do."""
    run = RunFolder.at(path.parent.parent)
    return DataError(
        f"The checkpoint {path} cannot be read ({reason}).\n"
        + (
            "It must be a run's checkpoints/best.ckpt or a file written by export.py."
            if run is None
            else f"Train its run again with force=true, or move the folder {run.path} away."
        )
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's files with :func:`save`; reads no code from them. The engine has checked what it resumes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        return cast(dict[str, Any], _read(Path(path)))  # with ddp_spawn also the weights that a process hands back


class EpochCheckpoint(Checkpoint):
    """Writes after every epoch: ``best`` (weights and validation scores, if they are the best); the curves; the status;
    ``last``, from which the run resumes. In this order, files that a crash leaves are never older than ``last``.

    Args:
        folder: the run folder.
        monitor: the validation score to maximise; None keeps the last epoch's weights, as without validation labels,
            or in pre-training: no reconstruction score predicts which epoch parses best.
        description: plain values saved with the weights.
        throughput: measures the run.
    """

    def __init__(
        self, folder: RunFolder, monitor: str | None, description: dict[str, Any], throughput: Throughput
    ) -> None:
        self.folder = folder
        self.monitor = monitor
        self.description = description
        self.throughput = throughput
        self.score = float("-inf")

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score = state_dict["score"]

    def on_load_checkpoint(self, trainer: Trainer, _: LightningModule, checkpoint: dict[str, Any]) -> None:
        for curves in _curves(trainer):
            # Not global_step, which counts the steps of every optimiser.
            curves.cut(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        may_overflow = trainer.precision == "16-mixed"  # float16 skips steps whose loss overflows
        for name in ("val/loss",) if may_overflow else ("train/loss", "val/loss"):
            if not trainer.callback_metrics.get(name, torch.zeros(())).isfinite():
                raise RunError(
                    f"{name} is {float(trainer.callback_metrics[name])} after epoch {epoch}: the training diverged.\n"
                    f"Do one of: set a smaller {self.folder.stage}.optimizer.lr; set trainer.precision=32-true."
                )
        if self._is_best(trainer) and trainer.is_global_zero:
            scores = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
            content = {
                "state_dict": {name: value.cpu() for name, value in _tested_weights(pl_module).items()},
                "hyper_parameters": dict(pl_module.hparams),
                "metrics": {name: float(value) for name, value in scores.items()},
                "epoch": epoch,
                "global_step": trainer.global_step,
                **self.description,
            }
            save(content, self.folder.best)
        of_epoch = trainer._logger_connector.metrics["log"]  # Lightning logs them after this; on every process
        for curves in _curves(trainer):
            if of_epoch:
                place = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
                curves.log_metrics({"epoch": trainer.current_epoch, **convert_tensors_to_scalars(of_epoch)}, place)
            curves.flush()
        if trainer.is_global_zero:
            self.folder.write_status(epoch=epoch, **self.throughput.summary)
        trainer.save_checkpoint(self.folder.last, weights_only=False)  # with the optimiser; synchronises all processes

    def _is_best(self, trainer: Trainer) -> bool:
        if self.monitor is None:
            return trainer.current_epoch + 1 == trainer.max_epochs
        if not trainer.fit_loop.epoch_loop._should_check_val_epoch():  # this epoch is not validated
            return False
        score = float(trainer.callback_metrics[self.monitor])
        if score <= self.score:
            return False
        self.score = score
        return True


def _tested_weights(module: LightningModule) -> dict[str, torch.Tensor]:
    """The weights that are validated: a module that averages its weights in training names them."""
    return getattr(module, "tested_state_dict", module.state_dict)()


def _curves(trainer: Trainer) -> list[Curves]:
    return [logger for logger in trainer.loggers if isinstance(logger, Curves)]
