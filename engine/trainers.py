"""Lightning's Trainer, as the settings ask for it."""

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
from engine.environment import require_precision
from engine.processes import by_torchrun, devices
from engine.stage import Run
from foundation.errors import ConfigError


def training_trainer(run: Run, loggers: list[Logger], callbacks: list[Callback]) -> pl.Trainer:
    """A Trainer for a run's training and test.

    Raises:
        ConfigError: if this machine is not what the settings ask for, or Lightning refuses an argument.
    """
    settings = run.settings.trainer
    require_precision(settings.precision, settings.accelerator)
    same = ("accelerator", "strategy", "precision", "sync_batchnorm", "deterministic")
    # Lightning would take other launchers, as SLURM's srun, at their word about who trains with whom.
    environment = [] if by_torchrun() else [LightningEnvironment()]
    standard = {"log_every_n_steps": 1, "check_val_every_n_epoch": getattr(run.own, "validate_every", 1)}
    try:
        trainer = pl.Trainer(
            **{name: settings[name] for name in same},
            **devices(settings.devices),
            **(standard | (settings.model_extra or {})),
            max_epochs=run.own.epochs,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the batches know of ranks themselves
            logger=loggers,
            callbacks=[*callbacks, LearningRateMonitor("step")] if loggers else callbacks,
            plugins=[AtomicCheckpointIO(), *environment],
            enable_model_summary=False,
            default_root_dir=run.folder.path,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ConfigError(
            f"trainer: {error}\nIt must fit this machine and Lightning's Trainer; trainer=auto always does."
        ) from error
    # Ctrl-C and SIGTERM are the entry point's: Lightning's own would tell others in the midst of what they do together.
    trainer._signal_connector.register_signal_handlers = _leave_signals  # type: ignore[method-assign]
    if trainer.world_size != settings.devices:
        raise ConfigError(
            f"trainer.devices={settings.devices}, but Lightning would train with {trainer.world_size}.\n"
            f"It must be as many: the number enters the run's id."
        )
    return trainer


def _leave_signals() -> None:
    """In place of Lightning's handlers; a function of the module, for processes that are spawned."""


def scoring_trainer(
    accelerator: str, precision: Any, folder: Path, callbacks: list[Callback], loggers: Sequence[Logger] = ()
) -> pl.Trainer:
    """A Trainer that only scores, in this process alone.

    Raises:
        ConfigError: if this machine is not what the settings ask for.
    """
    require_precision(precision, accelerator)
    try:
        trainer = pl.Trainer(
            accelerator=accelerator,
            precision=precision,
            devices=1,
            deterministic="warn",
            logger=list(loggers) or False,
            callbacks=callbacks,
            plugins=[LightningEnvironment()],
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}\nIt must fit this machine; auto takes it as it is.") from error
    trainer._signal_connector.register_signal_handlers = _leave_signals  # type: ignore[method-assign]
    return trainer
