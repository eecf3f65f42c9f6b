"""Train one run: the Trainer around a module and its data, the status beside it, the test at its end."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from callbacks.throughput import Throughput
from engine.building import build_datamodule, build_module
from engine.checkpoints import AtomicCheckpointIO, EpochCheckpoint, StepSeed, load, require_whole
from engine.curves import Curves
from engine.errors import ConfigError, UserError, describe, from_worker
from engine.files import write_atomically
from engine.runs import git_state, is_leader
from engine.stages import FINETUNE, PRETRAIN, Run


def fit(run: Run, config: dict[str, Any]) -> None:
    """Train a run from its start or its last checkpoint, test it, and leave its status done.

    Args:
        run: what to train; its lock is held by the caller.
        config: the composed configuration, kept as the run's ``config.yaml``.

    Raises:
        UserError: for broken data or settings; any other error of the training itself. The status says so first.
    """
    folder = run.folder
    if not is_leader():  # beside the process that keeps the run folder
        with _quiet(), _interruptible():
            _fit(run, config, attempt=0)
        return
    attempt = folder.status.get("attempts", 0) + 1
    write_atomically(folder.config, OmegaConf.to_yaml(config))
    folder.write_status(**_description(run), state="running", error=None, attempts=attempt)
    try:
        with _quiet(), _interruptible():
            result = _fit(run, config, attempt)
    except BaseException as fault:
        if _is_interrupt(fault):
            folder.write_status(state="interrupted")
            raise KeyboardInterrupt from None
        if isinstance(fault, UserError):
            fault = from_worker(fault)
        folder.write_status(state="failed", error=describe(fault))
        raise fault
    folder.write_status(**result, state="done")
    folder.last.unlink(missing_ok=True)


def _fit(run: Run, config: dict[str, Any], attempt: int) -> dict[str, Any]:
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
    checkpoint = EpochCheckpoint(run.folder.best, run.folder.last, monitor, description)
    loggers = _loggers(run, config, attempt)
    with _wandb_finished(loggers):
        trainer = _trainer(
            accelerator=run.settings["trainer.accelerator"],
            devices=run.settings["trainer.devices"],
            strategy=run.settings["trainer.strategy"],
            precision=run.settings["trainer.precision"],
            sync_batchnorm=run.settings["trainer.sync_batchnorm"],
            deterministic=run.settings["trainer.deterministic"],
            max_epochs=run.setting("epochs"),
            check_val_every_n_epoch=run.setting("validate_every") if run.stage is FINETUNE else 1,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=False,  # the sampler knows of ranks itself
            logger=loggers,
            callbacks=[
                *_callbacks(config),
                StepSeed(run.setting("seed")),
                throughput,
                LearningRateMonitor("step"),
                checkpoint,
            ],
            plugins=[AtomicCheckpointIO()],
            enable_model_summary=False,
            default_root_dir=run.folder.path,
        )
        resume = run.folder.last if run.folder.last.is_file() else None
        if resume is None and is_leader():
            run.folder.curves.unlink(missing_ok=True)
        elif resume is not None:
            require_whole(resume)
        if trainer.accelerator.name() == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trainer.fit(module, datamodule, ckpt_path=resume, weights_only=True)
        metrics = dict(checkpoint.metrics)
        if run.stage is FINETUNE:
            module.load_state_dict(load(run.folder.best)["state_dict"])
            metrics |= _plain(trainer.test(module, datamodule, verbose=False)[0])
    return {
        "metrics": metrics,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "seconds": round(throughput.seconds, 2),
        "images_per_second": round(throughput.images_per_second, 2),
        "peak_memory_mb": round(_peak_memory_mb(trainer), 1),
        "epochs": run.setting("epochs"),
    }


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
        "metrics": {},
        "wandb_ids": run.folder.status.get("wandb_ids", []),
    }


def _loggers(run: Run, config: dict[str, Any], attempt: int) -> list[Logger]:
    """``metrics.csv``, and a W&B run for this attempt: a hard exit leaves an offline file that cannot be continued."""
    loggers: list[Logger] = [Curves(run.folder.curves)]
    wandb = config["logger"].get("wandb")
    if wandb is None or wandb["mode"] == "disabled" or not is_leader():
        return loggers
    import wandb as client

    wandb_id = f"{run.folder.name}-{attempt}"
    try:
        experiment = client.init(
            project=wandb["project"],
            id=wandb_id,
            name=f"{config['experiment']} {run.stage.name}",
            dir=run.folder.path,
            mode=wandb["mode"],
            group=wandb["group"] or config["experiment"],
            job_type=run.stage.name,
            tags=[*wandb["tags"], run.settings["method"], run.layout.name, f"scale:{run.settings['scale']}"],
            config=config | {"run_id": run.id},
            settings=client.Settings(console="off", silent=True),
        )
    except client.errors.Error as fault:
        raise ConfigError(
            f"Weights & Biases: {fault}\nDo one of: wandb login; logger.wandb.mode=offline; logger=none."
        ) from fault
    experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    for name, summary in (("val/miou", "max"), ("val/mean_f1", "max"), ("val/psnr", "max"), ("val/loss", "min")):
        experiment.define_metric(name, step_metric="trainer/global_step", summary=summary)
    run.folder.write_status(wandb_ids=[*run.folder.status.get("wandb_ids", []), wandb_id])
    return [*loggers, WandbLogger(experiment=experiment)]


def _callbacks(config: dict[str, Any]) -> list[Callback]:
    """The configured callbacks; one that is set to null is left out."""
    return [instantiate(settings) for settings in config["callbacks"].values() if settings is not None]


def _trainer(**arguments: Any) -> pl.Trainer:
    """Lightning's Trainer.

    Raises:
        ConfigError: if this machine is not what the settings ask for.
    """
    try:
        return pl.Trainer(**arguments)
    except MisconfigurationException as fault:
        raise ConfigError(
            f"trainer: {fault}\nExpected: what this machine has; trainer=auto takes it as it is."
        ) from fault


def _is_interrupt(fault: BaseException) -> bool:
    """Whether Ctrl-C or SIGTERM ended the run.

    Lightning leaves by SystemExit then, and an interrupt in the middle of a write surfaces as the writer's own error.
    """
    seen: BaseException | None = fault
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt | SystemExit):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def _wandb_finished(loggers: list[Logger]) -> Iterator[None]:
    """End the W&B run with the stage: the next one of this process would continue it otherwise."""
    try:
        yield
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Take SIGTERM (a cluster that wants its machine back) as Ctrl-C, and leave both as they were.

    Lightning ignores Ctrl-C for the rest of the process once it has met one; the next run must hear it again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning and W&B say of themselves and advice that does not apply here."""
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*persistent_workers.*",
            ".*sync_dist=True.*",
            ".*Checkpoint directory.*exists.*",
            ".*isinstance.treespec, LeafSpec.*",
            ".*GPU available but not used.*",
        ):
            warnings.filterwarnings("ignore", message)
        yield


def _plain(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _peak_memory_mb(trainer: pl.Trainer) -> float:
    """Of the GPU while this run trained; without one, of this process so far."""
    if trainer.accelerator.name() == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
