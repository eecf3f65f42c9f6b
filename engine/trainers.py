"""Build Lightning's Trainer from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from callbacks.checkpoints import AtomicCheckpointIO
from callbacks.interruption import Interruption
from engine.environment import require_precision
from engine.processes import by_torchrun, devices
from engine.stage import Run
from foundation.errors import ConfigError


def training_trainer(run: Run, loggers: list[Logger], callbacks: list[Callback]) -> pl.Trainer:
    """A Trainer for a run's training and test.

    Raises:
        ConfigError: if this machine lacks the device, or Lightning refuses an argument.
    """
    settings = run.settings.trainer
    same = ("accelerator", "strategy", "precision", "sync_batchnorm", "deterministic")
    # Otherwise Lightning would take rank and world size from other launchers, such as SLURM's srun.
    environment = [] if by_torchrun() else [LightningEnvironment()]
    standard = {"log_every_n_steps": 1, "check_val_every_n_epoch": getattr(run.own, "validate_every", 1)}
    trainer = _trainer(
        "this machine and Lightning's Trainer; trainer=auto",
        **{name: settings[name] for name in same},
        **devices(settings.devices),
        **(standard | (settings.model_extra or {})),
        max_epochs=run.own.epochs,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the batch sampler handles ranks itself
        logger=loggers,
        callbacks=[*callbacks, LearningRateMonitor("step")] if loggers else callbacks,
        plugins=[AtomicCheckpointIO(), *environment],
        default_root_dir=run.folder.path,
    )
    if trainer.world_size != settings.devices:
        raise ConfigError(
            f"trainer.devices={settings.devices}, but Lightning would use {trainer.world_size}.\n"
            f"The numbers must be equal: the number enters the run's id."
        )
    return trainer


def scoring_trainer(
    accelerator: str, precision: Any, folder: Path, callbacks: list[Callback], loggers: Sequence[Logger] = ()
) -> pl.Trainer:
    """A Trainer that only scores, in one process.

    Raises:
        ConfigError: if this machine lacks the device.
    """
    return _trainer(
        "this machine; trainer.accelerator=auto",
        accelerator=accelerator,
        precision=precision,
        devices=1,
        deterministic="warn",
        logger=list(loggers) or False,
        callbacks=callbacks,
        plugins=[LightningEnvironment()],
        enable_checkpointing=False,
        default_root_dir=folder,
    )


def measuring_trainer(run: Run, callbacks: list[Callback]) -> pl.Trainer:
    """A Trainer for some steps of a run's training, in one process, that leaves nothing."""
    settings = run.settings.trainer
    return _trainer(
        "this machine; trainer=auto",
        accelerator=settings.accelerator,
        precision=settings.precision,
        devices=1,
        deterministic=settings.deterministic,
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        logger=False,
        callbacks=callbacks,
        plugins=[LightningEnvironment()],
    )


def _trainer(fitting: str, **arguments: Any) -> pl.Trainer:
    require_precision(arguments["precision"], arguments["accelerator"])
    arguments["callbacks"] = [*arguments["callbacks"], Interruption()]
    try:
        trainer = pl.Trainer(**arguments, enable_model_summary=False)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ConfigError(f"trainer: {error}\nIt must fit {fitting} always does.") from error
    # foundation/interruption.py handles Ctrl-C and SIGTERM: Lightning would broadcast within a collective operation.
    trainer._signal_connector.register_signal_handlers = _leave_signals  # type: ignore[method-assign]
    return trainer


def _leave_signals() -> None:
    """Replaces Lightning's signal handlers; a module-level function, so that it can be pickled for ddp_spawn."""
