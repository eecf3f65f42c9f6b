"""Train one run: the Trainer around a module and its data, the status beside it, the test at its end."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import platform
import signal
import threading
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from callbacks.curves import Curves
from callbacks.throughput import Throughput
from callbacks.wandb_run import wandb_run
from engine.building import build_datamodule, build_module
from engine.checkpoints import AtomicCheckpointIO, EpochCheckpoint, StepSeed, load, require_whole
from engine.errors import ConfigError, UserError, causes, explained
from engine.files import write_atomically
from engine.processes import devices, is_leader, report, reported
from engine.runs import git_state
from engine.stages import FINETUNE, PRETRAIN, Run

LIBRARIES = ("torch", "pytorch-lightning", "segmentation-models-pytorch", "albumentations", "numpy")
"""Those whose versions a result may depend on."""


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
    if not is_leader():
        try:
            with _quiet():
                _fit(run, config, [])
        except Exception as fault:
            report(fault, folder.fault)
            raise
        return
    hears_interrupts = signal.getsignal(signal.SIGINT)
    try:
        folder.tidy()
        attempt = folder.status.get("attempts", 0) + 1
        write_atomically(folder.config, OmegaConf.to_yaml(config))
        folder.write_status(**_description(run), state="running", error=None, attempts=attempt)
        with _quiet(), _loggers(run, config, attempt) as loggers:
            result = _fit(run, config, loggers)
        folder.write_status(**result, state="done")
    except BaseException as fault:
        interrupted = any(isinstance(cause, KeyboardInterrupt | SystemExit) for cause in causes(fault))
        cause = reported(fault, interrupted, folder.fault)
        interrupted = interrupted and cause is fault
        reason = explained(cause)
        error = str(reason) if isinstance(reason, UserError) else f"{type(reason).__name__}: {reason}"
        with contextlib.suppress(OSError):  # a full disk shall not hide what filled it
            folder.write_status(**({"state": "interrupted"} if interrupted else {"state": "failed", "error": error}))
        if interrupted:  # Lightning leaves by SystemExit, and a write cut short fails with an error of its own
            raise KeyboardInterrupt from None
        if reason is fault:
            raise
        raise reason from fault
    finally:
        for child in multiprocessing.active_children():  # of ddp_spawn, which nobody else tells that it is over
            child.kill()
        if threading.current_thread() is threading.main_thread():  # Lightning is deaf to Ctrl-C once it has met one
            signal.signal(signal.SIGINT, hears_interrupts)
        gc.collect()  # a trainer holds itself in a cycle, and with it a cache of pictures
    folder.last.unlink(missing_ok=True)


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
    monitor = "val/miou" if run.stage is FINETUNE else None
    description = {"stage": run.stage.name, "id": run.id, "dataset": run.layout.name}
    checkpoint = EpochCheckpoint(run.folder, monitor, description, throughput)
    trainer = _trainer(
        run, loggers, [_QuietChildren(), *_callbacks(config), StepSeed(run.setting("seed")), throughput, checkpoint]
    )
    resume = run.folder.last if run.folder.last.is_file() else None
    if resume is not None:
        require_whole(resume)
    elif is_leader():
        run.folder.curves.unlink(missing_ok=True)
    trainer.fit(module, datamodule, ckpt_path=resume, weights_only=True)
    states = load(run.folder.last)["callbacks"]  # from disk: with ddp_spawn the callbacks ran in another process
    for callback in (checkpoint, throughput):
        callback.load_state_dict(states[callback.state_key])
    metrics = dict(checkpoint.metrics)
    if run.stage is FINETUNE:
        module.load_state_dict(load(run.folder.best)["state_dict"])
        metrics |= {name: float(value) for name, value in trainer.test(module, datamodule, verbose=False)[0].items()}
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return {"metrics": metrics, "parameters": parameters, "epochs": run.setting("epochs"), **throughput.summary}


def _description(run: Run) -> dict[str, Any]:
    """What a run is, in words and numbers that a report can group by."""
    settings = run.settings
    labelled = run.manifest is not None
    pretrained = run.stage is PRETRAIN or run.upstream is not None
    return {
        "stage": run.stage.name,
        "id": run.id,
        "identity": dict(run.identity),
        "upstream": [] if run.upstream is None else [run.upstream.id],
        "experiment": settings["experiment"],
        "method": settings["method"],
        "ablation": settings["ablation"],
        "masking": settings["pretrain.masking"] if pretrained else None,
        "loss": run.setting("loss"),
        "recipe": settings["recipe"],
        "scale": settings["scale"],
        "dataset": run.layout.name,
        "origin": run.layout.origin,
        "data_digest": run.identity["data"],
        "label_fraction": settings["label_fraction"] if labelled else None,
        "labelled": 0 if run.manifest is None else len(run.manifest.ids),
        "manifest": None if run.manifest is None else str(run.manifest.path),
        "subset": settings["subset"] if labelled else None,
        "seed": run.setting("seed"),
        "git_sha": git_state(),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES},
        "metrics": {},
        "wandb_ids": run.folder.status.get("wandb_ids", []),
    }


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
        name=f"{config['experiment']} {run.stage.name}",
        group=wandb["group"] or config["experiment"],
        job_type=run.stage.name,
        tags=[*wandb["tags"], run.settings["method"], run.layout.name, f"scale:{run.settings['scale']}"],
    ) as logger:
        run.folder.write_status(wandb_ids=[*run.folder.status.get("wandb_ids", []), name])
        yield [curves, logger]


def _callbacks(config: dict[str, Any]) -> list[Callback]:
    """The configured callbacks; one that is set to null is left out."""
    return [instantiate(settings) for settings in config["callbacks"].values() if settings is not None]


def _trainer(run: Run, loggers: list[Logger], callbacks: list[Callback]) -> pl.Trainer:
    """Lightning's Trainer, as the settings ask for it.

    Raises:
        ConfigError: if this machine is not what the settings ask for.
    """
    same = ("accelerator", "strategy", "precision", "sync_batchnorm", "deterministic")
    try:
        return pl.Trainer(
            **{name: run.settings[f"trainer.{name}"] for name in same},
            **devices(run.settings["trainer.devices"]),
            max_epochs=run.setting("epochs"),
            check_val_every_n_epoch=run.setting("validate_every") if run.stage is FINETUNE else 1,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=False,  # the batches know of ranks themselves
            logger=loggers,
            callbacks=[*callbacks, LearningRateMonitor("step")] if loggers else callbacks,
            plugins=[AtomicCheckpointIO()],
            enable_model_summary=False,
            default_root_dir=run.folder.path,
        )
    except MisconfigurationException as fault:
        raise ConfigError(
            f"trainer: {fault}\nExpected: what this machine has; trainer=auto takes it as it is."
        ) from fault


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning and W&B say of themselves and advice that does not apply here."""
    with warnings.catch_warnings():
        _silence()
        yield


class _QuietChildren(Callback):
    """The same in the processes of ddp_spawn."""

    def setup(self, *_: Any, **__: Any) -> None:
        _silence()


def _silence() -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*persistent_workers.*",
        ".*sync_dist=True.*",
        ".*Checkpoint directory.*exists.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*GPU available but not used.*",
    ):
        warnings.filterwarnings("ignore", message)
