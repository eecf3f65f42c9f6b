"""Train one run: the Trainer around a module and its data, the status beside it, the test at its end."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from callbacks.confusion import Confusion
from callbacks.curves import Curves
from callbacks.quiet import Quiet, silence
from callbacks.step_seed import StepSeed
from callbacks.throughput import Throughput
from engine.building import build_datamodule, build_module
from engine.checkpoints import EpochCheckpoint, WholeCheckpointIO, load
from engine.circumstances import circumstances, require_precision
from engine.classification import classify, described_head
from engine.processes import by_torchrun, devices, end_followers, is_leader, leave_group, says_peer_is_gone, unwatch
from engine.settings import DETECTORS
from engine.stages import CLASSIFY, PRETRAIN, SEGMENT, UNETPP, Run, require_unchanged
from engine.wandb_runs import described, log_classes, wandb_run
from foundation.errors import ConfigError, RunError, UserError, causes, explained
from foundation.files import write_whole
from models.cost import flops, megabytes, milliseconds

LOSSES = {"map_module": "adversarial", **dict.fromkeys(DETECTORS, "detection")}
"""Of segmenters that are not trained pixel by pixel."""


def fit(run: Run, config: dict[str, Any]) -> None:
    """Train a run from its start or its last checkpoint, test it, and leave its status done.

    Args:
        run: what to train; its lock is held by the caller, or by the leader of this process.
        config: the composed configuration, kept as the run's ``config.yaml``.

    Raises:
        KeyboardInterrupt: on Ctrl-C and SIGTERM; the status says interrupted.
        UserError: for broken data or settings, or what the machine cannot do; any other error of the training itself.
            The status says failed, and why.
    """
    folder = run.folder
    if run.stage is CLASSIFY:  # a command's conv head has the settings of the head that it stands beside
        config = config | {"classify": config["classify"] | {"head": run.setting("head")}}
    attempt = 0
    hears_interrupts = signal.getsignal(signal.SIGINT)
    silence()
    try:
        if run.stage is CLASSIFY:
            leave_group()  # one process classifies alone: its scores are to ask no other, which may have ended
        if not is_leader():
            if run.stage is not CLASSIFY:
                _fit(run, config, [])
            return
        attempt = folder.attempts + 1
        folder.tidy()
        write_whole(folder.config, OmegaConf.to_yaml(config))
        folder.write_status(**_description(run, attempt), state="running", error=None)
        with _loggers(run, config, attempt) as loggers:
            result = (classify if run.stage is CLASSIFY else _fit)(run, config, loggers)
            _require_unchanged(run)
            folder.write_status(**result, state="done")
        folder.last.unlink(missing_ok=True)
    except BaseException as fault:
        unwatch()
        try:
            reason = _settle(run, fault, attempt)
        finally:
            end_followers(run.settings["trainer.strategy"] == "ddp_spawn")
        if reason is fault:
            raise
        raise reason from (fault if isinstance(reason, Exception) else None)
    finally:
        if threading.current_thread() is threading.main_thread():  # Lightning is deaf to Ctrl-C once it has met one
            signal.signal(signal.SIGINT, hears_interrupts)
        gc.collect()  # a trainer holds itself in a cycle, and with it a cache of pictures


def _require_unchanged(run: Run) -> None:
    try:
        require_unchanged(run)
    except RunError:  # with the data as they were, the same command shall not find it finished
        run.folder.last.unlink(missing_ok=True)
        run.folder.best.unlink(missing_ok=True)
        raise


def _settle(run: Run, fault: BaseException, attempt: int) -> BaseException:
    """Have the status say how a run ended; what this process is to end with.

    Of processes that train together the one that fails says why. The others see it gone, or are told to go.
    """
    # Lightning leaves by SystemExit on Ctrl-C, and a write cut short by it fails with an error of its own.
    interrupted = any(isinstance(cause, KeyboardInterrupt | SystemExit) for cause in causes(fault))
    lost = run.settings["trainer.devices"] > 1 and says_peer_is_gone(fault) and explained(fault) is fault
    folder = run.folder
    if lost and not is_leader():
        return SystemExit(1)
    patience = time.monotonic() + (5 if lost else 0)
    while is_leader() and (lost or interrupted):
        status = folder.status
        if status.get("state") == "failed" and status.get("attempts") == attempt:  # says another process
            return SystemExit(1)
        if time.monotonic() >= patience:
            break
        time.sleep(0.05)
    if interrupted:
        reason: BaseException = KeyboardInterrupt()
    elif lost:
        reason = RunError(
            f"Another process of this run is gone, as one is that is killed when memory runs out:\n"
            f"{str(fault).strip().splitlines()[-1]}\n"
            f"The same command goes on from the last checkpoint."
        )
    else:
        reason = explained(fault)
    error = str(reason) if isinstance(reason, UserError) else f"{type(reason).__name__}: {reason}"
    with contextlib.suppress(OSError):  # a full disk shall not hide what filled it
        if not interrupted:
            folder.write_status(state="failed", error=error)
        elif is_leader() and folder.status.get("state") == "running":
            folder.write_status(state="interrupted")
    return reason


def _fit(run: Run, config: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
    """What a run's status says at its end; only the leader has any use for it."""
    pl.seed_everything(run.setting("seed"), workers=True, verbose=False)
    module = build_module(run)
    datamodule = build_datamodule(run)
    if run.settings["trainer.channels_last"]:
        module = module.to(memory_format=torch.channels_last)
    if run.settings["trainer.compile"]:
        module.get_submodule("model").compile()  # in place, so that the names of the weights stay

    throughput = Throughput()
    monitor = "val/miou" if run.stage.labelled else None
    description = {
        "stage": run.stage.name,
        "id": run.id,
        "dataset": run.layout.name,
        **_class_set(run),
        "settings": dict(run.identity["settings"]),
    }
    checkpoint = EpochCheckpoint(run.folder, monitor, description, throughput)
    beside = [Quiet(), *_callbacks(config), Confusion(), StepSeed(run.setting("seed")), throughput, checkpoint]
    trainer = _trainer(run, loggers, beside)
    resume = run.folder.last if run.folder.last.is_file() else None
    if resume is None and is_leader():
        run.folder.curves.unlink(missing_ok=True)
    try:
        trainer.fit(module, datamodule, ckpt_path=resume, weights_only=True)
        best = load(run.folder.best)
        metrics = best.get("metrics", {})
        if run.stage.labelled:
            module.load_state_dict(best["state_dict"])
            (scores,) = trainer.test(module, datamodule, verbose=False)
            metrics |= {name: float(value) for name, value in scores.items()}
            for logger in loggers:
                if is_leader() and isinstance(logger, WandbLogger):
                    log_classes(logger.experiment, metrics)
    except BaseException:
        unwatch()  # now: W&B may take its time to finish
        raise
    network = module.get_submodule("model").eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    result = {"metrics": metrics, "parameters": parameters, "epochs": run.setting("epochs")}
    if run.stage is SEGMENT and is_leader():
        size = run.settings["datamodule.image_size"]
        result |= {
            "flops": flops(network, size),
            "size_mb": round(megabytes(network), 2),
            "latency_ms": round(milliseconds(network, size), 2),
        }
    return result


def _leave_signals() -> None:
    """In place of Lightning's handlers; a function of the module, for processes that are spawned."""


def _description(run: Run, attempt: int) -> dict[str, Any]:
    """What a run is, in words and numbers that a report can group by."""
    settings = run.settings
    origin = circumstances(settings["trainer.accelerator"])
    architecture = settings["model.architecture"]
    labelled = run.manifest is not None
    return {
        "stage": run.stage.name,
        "id": run.id,
        "identity": dict(run.identity),
        "upstream": [] if run.upstream is None else [run.upstream.id],
        "experiment": settings["experiment"],
        "method": settings["method"],
        "ablation": settings["ablation"],
        "sweep": settings["sweep_name"],
        "masking": _masking(run),
        "loss": LOSSES.get(run.setting("network"), "bce")
        if run.stage is SEGMENT
        else run.settings.get(f"{run.stage.name}.loss"),
        "network": run.setting("network") if run.stage is SEGMENT else None if architecture == UNETPP else architecture,
        **(described_head(run) if run.stage is CLASSIFY else {}),
        "recipe": settings["recipe"],
        "scale": settings["scale"],
        "dataset": run.layout.name,
        "data_name": run.layout.data_name,
        **_class_set(run),
        "origin": run.layout.origin,
        "merging": settings["datamodule.merging"] if labelled else None,
        "data_digest": run.identity["data"],
        "label_fraction": settings["label_fraction"] if labelled else None,
        "labelled": 0 if run.manifest is None else len(run.manifest.ids),
        "manifest": None if run.manifest is None else str(run.manifest.path),
        "subset": settings["subset"] if labelled else None,
        "seed": run.setting("seed"),
        **origin,
        "attempts": attempt,
        "history": [*run.folder.status.get("history", []), {"attempt": attempt, **origin}],
        "epoch": run.folder.status.get("epoch", 0) if run.folder.last.is_file() else 0,
        "metrics": {},
        "wandb_ids": run.folder.status.get("wandb_ids", []),
    }


def _class_set(run: Run) -> dict[str, Any]:
    """The classes of a run that reads labels, for its checkpoint and status: the data may be elsewhere later."""
    return {"class_set": run.layout.labels.as_plain()} if run.stage.labelled else {}


def _masking(run: Run) -> str | None:
    """How the pre-training that a run is, or starts from, hid faces; None without one."""
    own = run.settings["pretrain.masking"]
    if run.upstream is not None and run.upstream.stage == PRETRAIN.name:  # with method=transfer that of another command
        return run.upstream.status.get("identity", {}).get("settings", {}).get("pretrain.masking", own)
    return own if run.stage in (PRETRAIN, CLASSIFY) else None


@contextlib.contextmanager
def _loggers(run: Run, config: dict[str, Any], attempt: int) -> Iterator[list[Logger]]:
    """``metrics.csv``, and a W&B run for this attempt: a hard exit leaves an offline file that cannot be continued."""
    curves = Curves(run.folder.curves)
    wandb = config["logger"].get("wandb")
    if wandb is None or wandb["mode"] == "disabled":
        yield [curves]
        return
    name = f"{run.folder.name}-{attempt}"
    with wandb_run(
        run.folder.path,
        config | {"run_id": run.id},
        id=name,
        **described(_description(run, attempt), wandb["group"], wandb["tags"]),
    ) as opened:
        run.folder.write_status(wandb_ids=[*run.folder.status.get("wandb_ids", []), name])
        yield [curves, WandbLogger(experiment=opened)]


def _callbacks(config: dict[str, Any]) -> list[Callback]:
    """The configured callbacks; one that is set to null is left out."""
    return [instantiate(settings) for settings in config["callbacks"].values() if settings is not None]


def _trainer(run: Run, loggers: list[Logger], callbacks: list[Callback]) -> pl.Trainer:
    """Lightning's Trainer, as the settings ask for it.

    Raises:
        ConfigError: if this machine is not what the settings ask for.
    """
    require_precision(run.settings["trainer.precision"], run.settings["trainer.accelerator"])
    same = ("accelerator", "strategy", "precision", "sync_batchnorm", "deterministic")
    # Lightning would take other launchers, as SLURM's srun, at their word about who trains with whom.
    environment = [] if by_torchrun() else [LightningEnvironment()]
    total = run.settings["trainer.devices"]
    try:
        trainer = pl.Trainer(
            **{name: run.settings[f"trainer.{name}"] for name in same},
            **devices(total),
            max_epochs=run.setting("epochs"),
            check_val_every_n_epoch=run.setting("validate_every") if run.stage.labelled else 1,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=False,  # the batches know of ranks themselves
            logger=loggers,
            callbacks=[*callbacks, LearningRateMonitor("step")] if loggers else callbacks,
            plugins=[WholeCheckpointIO(), *environment],
            enable_model_summary=False,
            default_root_dir=run.folder.path,
        )
    except MisconfigurationException as fault:
        raise ConfigError(
            f"trainer: {fault}\nExpected: what this machine has; trainer=auto takes it as it is."
        ) from fault
    # Ctrl-C and SIGTERM are the door's: Lightning's own would tell others in the midst of what they do together.
    trainer._signal_connector.register_signal_handlers = _leave_signals  # type: ignore[method-assign]
    if trainer.world_size != total:
        raise ConfigError(
            f"trainer.devices={total}, but Lightning would train with {trainer.world_size}.\n"
            f"Expected: as many; the number enters the run's id."
        )
    return trainer
