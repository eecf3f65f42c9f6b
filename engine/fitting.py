"""Execute one run: train with Lightning, test the best epoch, record the status."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from callbacks.checkpoints import EpochCheckpoint, damaged, load, load_resumed, require_fit
from callbacks.confusion import Confusion
from callbacks.curves import Curves
from callbacks.quiet import Quiet, silence
from callbacks.step_seed import StepSeed
from callbacks.throughput import Throughput
from engine.environment import environment_info
from engine.guarded_loggers import guarded
from engine.planning import require_unchanged
from engine.plugins import build
from engine.processes import end_followers, is_leader, is_lost_peer, leave_group, unwatch
from engine.settings import flatten, nest
from engine.stage import Run
from engine.trainers import training_trainer
from engine.wandb_runs import described, is_disabled, log_classes, wandb_run
from foundation.errors import ConfigError, RunError, UserError, causes, explained, in_one_line
from foundation.files import remove_drafts, write_text_atomically
from foundation.interruption import check, requested, settle
from models.single_values import allow_single_values

UNLOGGED = "conditioned on metric"
"""In Lightning's message about a callback whose metric the stage does not log, as early stopping in pre-training."""


def fit(run: Run, config: dict[str, Any], last: bool = True) -> None:
    """Execute a run from its start or its last checkpoint; its status is then done.

    Args:
        run: the run; the caller, or the leader of this process, holds its lock.
        config: the composed configuration, kept as the run's ``config.yaml``.
        last: whether it is the last run of its command, the one with its result.

    Raises:
        KeyboardInterrupt: on Ctrl-C and SIGTERM; the status is interrupted.
        UserError: for broken data, invalid settings, or lack of memory or disk space. Any other error of the training
            is raised as it is. The status is failed, with the error.
    """
    folder, stage = run.folder, run.stage
    if stage.name in config:  # a run that others are compared with has settings of its own
        config = config | {stage.name: nest(flatten(config[stage.name]) | run.own.flat())}
    attempt = 0
    sigint_handler = signal.getsignal(signal.SIGINT)
    silence()
    try:
        if stage.one_process:
            leave_group()  # the other processes may have ended, so scoring must not synchronise with them
        if not is_leader():
            if not stage.one_process:
                stage.fit(run, config, [])
            return
        attempt = folder.attempts + 1
        remove_drafts(folder.path, recursive=True)
        if not folder.last.is_file():
            folder.curves.unlink(missing_ok=True)  # of an attempt without a checkpoint
        write_text_atomically(folder.config, OmegaConf.to_yaml(config))
        folder.write_status(**_status(run, attempt), state="running", error=None)
        with _loggers(run, config, attempt, last) as loggers:
            result = stage.fit(run, config, loggers)
            require_unchanged(run)
            folder.write_status(**result, state="done")
        folder.last.unlink(missing_ok=True)
    except BaseException as error:
        unwatch()
        settle()
        try:
            reason = _record_end(run, error, attempt)
        finally:
            end_followers(getattr(run.settings.trainer, "strategy", "auto") == "ddp_spawn")
        if reason is error:
            raise
        raise reason from (error if isinstance(reason, Exception) else None)
    finally:
        if threading.current_thread() is threading.main_thread():  # Lightning ignores Ctrl-C after the first one
            signal.signal(signal.SIGINT, sigint_handler)
        gc.collect()  # a Trainer is part of a reference cycle that also holds a cache of images


def _record_end(run: Run, error: BaseException, attempt: int) -> BaseException:
    """Record in the status how a run ended; returns the exception that this process raises.

    Of several processes, the one that fails records its error; the others only see a lost connection, or are killed.
    """
    # Lightning raises SystemExit on Ctrl-C, and an interrupted write raises an error of its own; so does a loader's
    # process that got the signal too.
    interrupted = requested() or any(isinstance(cause, KeyboardInterrupt | SystemExit) for cause in causes(error))
    together = getattr(run.settings.trainer, "devices", 1) > 1
    lost = together and is_lost_peer(error) and explained(error) is error
    folder = run.folder
    if lost and not is_leader():
        return SystemExit(1)
    deadline = time.monotonic() + (5 if lost else 0)
    while is_leader() and (lost or interrupted):
        status = folder.status
        if status.get("state") == "failed" and status.get("attempts") == attempt:  # recorded by another process
            return SystemExit(1)
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    if interrupted:
        reason: BaseException = KeyboardInterrupt()
    elif lost:
        reason = RunError(
            f"Another process of this run has ended; it may have been killed for lack of memory:\n"
            f"{str(error).strip().splitlines()[-1]}\n"
            f"The same command resumes from the last checkpoint."
        )
    else:
        reason = explained(error)
    message = str(reason) if isinstance(reason, UserError) else f"{type(reason).__name__}: {reason}"
    with contextlib.suppress(OSError):  # on a full disk the original error is still raised
        if not interrupted:
            folder.write_status(state="failed", error=message)
        elif is_leader() and folder.status.get("state") == "running":
            folder.write_status(state="interrupted")
    return reason


def train_and_test(run: Run, config: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
    """Train the stage's module and test the best epoch; returns the result part of the status."""
    pl.seed_everything(run.own.seed, workers=True, verbose=False)
    module = run.stage.module(run)
    _require_resumable(run, module)
    allow_single_values(module)
    datamodule = run.stage.data(run)
    if run.settings.trainer.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if run.settings.trainer.compile:
        module.get_submodule("model").compile()  # in place: the names of the weights do not change

    throughput = Throughput()
    checkpoint = EpochCheckpoint(run.folder, run.stage.monitored(run), checkpoint_description(run, module), throughput)
    own = _objects(config.get("callbacks") or {}, "callbacks", Callback)
    callbacks = [Quiet(), *own, Confusion(), StepSeed(run.own.seed), throughput, checkpoint]
    trainer = training_trainer(run, loggers, callbacks)
    resume = run.folder.last if run.folder.last.is_file() else None
    if resume is not None:
        parts = dict(module.named_children())  # others, as averaged weights, are made when training starts
        weights = load_resumed(resume)["state_dict"]
        require_fit({key: value for key, value in weights.items() if key.partition(".")[0] in parts}, module, resume)
    try:
        trainer.fit(module, datamodule, ckpt_path=resume, weights_only=True)
        if not run.folder.best.is_file():
            raise RunError(
                f"{run.folder.name} ended after epoch {trainer.current_epoch} of {trainer.max_epochs} without a "
                f"best.ckpt: a callback stopped it.\n"
                f"With {run.stage.name} the last epoch's weights are kept; it must reach it."
            )
        check()
        best = load(run.folder.best)
        metrics = best.get("metrics", {})
        if run.stage.is_tested(run):
            module.load_state_dict(best["state_dict"])
            (scores,) = trainer.test(module, datamodule, verbose=False)
            metrics |= {name: float(value) for name, value in scores.items()}
            for logger in loggers:
                if is_leader() and isinstance(logger, WandbLogger):
                    log_classes(logger.experiment, metrics)
    except BaseException as error:
        unwatch()  # at once: W&B may take long to finish
        if resume is not None and isinstance(error, Exception) and _is_of_restoring(error):
            raise damaged(resume, in_one_line(error)) from error
        if isinstance(error, MisconfigurationException) or UNLOGGED in str(error):
            reason = " ".join(str(error).split())
            raise ConfigError(f"Lightning refuses a callback or setting in stage {run.stage.name}: {reason}") from error
        raise
    network = module.get_submodule("model").eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    result = {"metrics": metrics, "parameters": parameters, "epochs": run.own.epochs, "module": _name_of(module)}
    return result | (run.stage.results(run, network) if is_leader() else {})


def checkpoint_description(run: Run, module: pl.LightningModule) -> dict[str, Any]:
    """What a checkpoint records next to the weights, as plain data."""
    return {
        "stage": run.stage.name,
        "module": _name_of(module),
        "id": run.id,
        "dataset": run.layout.name,
        **_class_set(run),
        "settings": dict(run.identity["settings"]),
    }


def _is_of_restoring(error: Exception) -> bool:
    """Whether Lightning raised an error while it took over a checkpoint; what the machine lacks is another matter."""
    restoring = any("checkpoint_connector" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
    return restoring and explained(error) is error and not isinstance(error, UserError | MisconfigurationException)


def _require_resumable(run: Run, module: pl.LightningModule) -> None:
    """See that a module, which may be from outside, has what a run keeps of it.

    Raises:
        ConfigError: if not, with what to write.
    """
    name = _name_of(module)
    if not isinstance(getattr(module, "model", None), torch.nn.Module):
        raise ConfigError(f"{run.stage.name}: {name} has no network.\nIt must hold self.model, a torch.nn.Module.")
    if objects := [key for key, value in module.hparams.items() if not _is_plain(value)]:
        raise ConfigError(
            f"{run.stage.name}: {name} keeps {', '.join(objects)} among its hyper-parameters, and a checkpoint holds "
            f"plain values.\nIt must be self.save_hyperparameters(ignore={objects})."
        )


def _name_of(module: pl.LightningModule) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in (*value.keys(), *value.values()))
    if isinstance(value, list | tuple | set):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, str | int | float | bool | torch.Tensor)


def _status(run: Run, attempt: int) -> dict[str, Any]:
    """The description of a run in its status; reports group runs by it."""
    origin = environment_info(run.settings.trainer.accelerator)
    earlier = run.folder.status
    return {
        "stage": run.stage.name,
        "id": run.id,
        "identity": dict(run.identity),
        "upstream": [folder.id for folder in run.upstreams],
        "dataset": run.layout.name,
        "data_name": run.layout.data_name,
        **_class_set(run),
        "origin": run.layout.origin,
        "data_digest": run.identity["data"],
        **run.stage.description(run),
        **origin,
        "attempts": attempt,
        "history": [*earlier.get("history", []), {"attempt": attempt, **origin}],
        "epoch": earlier.get("epoch", 0) if run.folder.last.is_file() else 0,
        "metrics": {},
        "wandb_ids": earlier.get("wandb_ids", []),
    }


def _class_set(run: Run) -> dict[str, Any]:
    """The classes of a run that reads labels, for its checkpoint and status; they are then known without the data."""
    return {"class_set": run.layout.labels.as_plain()} if run.stage.labelled else {}


@contextlib.contextmanager
def _loggers(run: Run, config: dict[str, Any], attempt: int, last: bool) -> Iterator[list[Logger]]:
    """``metrics.csv``, the user's loggers, and a W&B run for this attempt: an offline W&B run cannot be resumed after a
    kill."""
    entries = config.get("logger") or {}
    own: list[Logger] = [Curves(run.folder.curves), *map(guarded, _objects(entries, "logger", Logger))]
    wandb = entries.get("wandb")
    if wandb is None or is_disabled(wandb["mode"]):
        yield own
        return
    name = f"{run.folder.name}-{attempt}"
    with wandb_run(
        run.folder.path,
        config | {"run_id": run.id},
        by_agent=last,
        id=name,
        **described(_status(run, attempt), wandb["group"], wandb["tags"]),
    ) as opened:
        if opened is None:
            yield own
            return
        run.folder.write_status(wandb_ids=[*run.folder.status.get("wandb_ids", []), opened.id])
        yield [*own, guarded(WandbLogger(experiment=opened), opened)]


def _objects(entries: Mapping[str, Any], group: str, kind: type) -> list[Any]:
    """The objects of the group ``logger`` or ``callbacks``, without those set to null.

    Raises:
        ConfigError: if building one fails, or it is of another type.
    """
    given = {f"{group}.{name}": entry for name, entry in entries.items() if entry is not None}
    return [build(entry, key, kind=kind) for key, entry in given.items() if key != "logger.wandb"]
