"""Score one evaluation: a trained parser, its data in the classes that both have, and the status beside it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from callbacks.confusion import Confusion
from callbacks.group_panels import GroupPanels
from callbacks.panels import Panels
from callbacks.progress import EpochProgressBar
from callbacks.quiet import Quiet, silence
from callbacks.throughput import peak_memory_mb
from datamodules.datasets import datamodule_type
from datamodules.faces import FaceDataModule
from datamodules.labels import LabelSet
from datamodules.merging import Merging
from datamodules.transforms import Augmentation
from engine.checkpoints import load
from engine.circumstances import circumstances, require_precision
from engine.evaluation import Evaluation, require_same
from engine.stages import CLASSIFY, SEGMENT, digest_cache
from foundation.errors import ConfigError, DataError, UserError, causes, explained
from foundation.files import write_whole
from foundation.run_folder import EVALUATE
from lightning_modules.classification import PixelClassification
from lightning_modules.metrics import SegmentationScores
from lightning_modules.occlusion import OcclusionSegmentation
from lightning_modules.occlusion_comparators import segmentation
from lightning_modules.parsing import FaceParsing
from models.merged_classes import MergedClasses

COPIED = (
    "experiment",
    "method",
    "ablation",
    "masking",
    "loss",
    "network",
    "after",
    "head",
    "machine",
    "features",
    "recipe",
    "scale",
    "label_fraction",
    "labelled",
    "subset",
)
"""What a status says of the run that trained the parser."""


def score(evaluation: Evaluation, config: dict[str, Any]) -> None:
    """Score a parser and leave the status done; the folder's lock is held by the caller.

    Args:
        evaluation: what to score.
        config: the composed configuration, kept as ``config.yaml``.

    Raises:
        KeyboardInterrupt: on Ctrl-C and SIGTERM; the status says interrupted.
        UserError: for broken data or settings, or what the machine cannot do. The status says failed, and why.
    """
    folder = evaluation.folder
    hears_interrupts = signal.getsignal(signal.SIGINT)
    silence()
    try:
        folder.tidy()
        write_whole(folder.config, OmegaConf.to_yaml(config))
        folder.write_status(**_description(evaluation), state="running", error=None)
        result = _score(evaluation)
        require_same(evaluation)
        folder.write_status(**result, state="done")
    except BaseException as fault:
        # Lightning leaves by SystemExit on Ctrl-C.
        interrupted = any(isinstance(cause, KeyboardInterrupt | SystemExit) for cause in causes(fault))
        reason = KeyboardInterrupt() if interrupted else explained(fault)
        error = str(reason) if isinstance(reason, UserError) else f"{type(reason).__name__}: {reason}"
        with contextlib.suppress(OSError):  # a full disk shall not hide what filled it
            folder.write_status(**({"state": "interrupted"} if interrupted else {"state": "failed", "error": error}))
        if reason is fault:
            raise
        raise reason from (fault if isinstance(reason, Exception) else None)
    finally:
        if threading.current_thread() is threading.main_thread():  # Lightning is deaf to Ctrl-C once it has met one
            signal.signal(signal.SIGINT, hears_interrupts)


def scored_module(
    content: dict[str, Any],
    background: str,
    mapped: tuple[LabelSet, LabelSet] | None = None,
    groups: Sequence[str] = (),
    path: Path | None = None,
) -> FaceParsing | PixelClassification | OcclusionSegmentation:
    """The parser of a checkpoint, with logits of its own classes or of those that they are mapped to; or its segmenter.

    Args:
        content: what ``best.ckpt`` holds.
        background: see :class:`lightning_modules.metrics.SegmentationScores`.
        mapped: the parser's classes and those that its logits are brought to; None leaves them as they are.
        groups: of the faces that a segmenter is scored on.
        path: of the checkpoint, for messages.

    Raises:
        DataError: if it is none of this project.
    """
    try:
        return _built(content, background, mapped, groups)
    except (KeyError, RuntimeError, TypeError) as fault:
        raise DataError(f"The checkpoint {path or ''} does not hold a parser or segmenter of this project.") from fault


def _built(
    content: dict[str, Any], background: str, mapped: tuple[LabelSet, LabelSet] | None, groups: Sequence[str]
) -> FaceParsing | PixelClassification | OcclusionSegmentation:
    if content["stage"] == SEGMENT.name:
        segmenter = segmentation(**(content["hyper_parameters"] | {"groups": list(groups)}))
        _fill(segmenter, content)
        return segmenter
    kind = PixelClassification if content["stage"] == CLASSIFY.name else FaceParsing
    module = kind(**(content["hyper_parameters"] | {"background": background}))
    _fill(module, content)
    if mapped is not None:
        own, target = mapped
        merged = own.table_to(target)[: len(own)].tolist()
        module.model = MergedClasses(module.model, merged, kind is FaceParsing, len(target))  # type: ignore[assignment]
        module.scores = SegmentationScores(target.classes, background=background)
    return module


def _fill(module: FaceParsing | PixelClassification | OcclusionSegmentation, content: dict[str, Any]) -> None:
    """Bring in what was trained: its weights, or the network of an exported file."""
    if "network" in content:
        module.model = content["network"]
    else:
        module.load_state_dict(content["state_dict"])


def scored_faces(evaluation: Evaluation) -> FaceDataModule:
    """The batches of an evaluation.

    Raises:
        BrokenFileError: if label maps are to be merged and a part cannot be.
    """
    settings, layout, output_dir = evaluation.settings, evaluation.layout, evaluation.folder.output_dir
    order = settings["merging"]
    merged = output_dir / "cache" / "merged"
    own: dict[str, Any] = {}
    if layout.kind == "parsing" and not layout.labels.is_same_as(evaluation.scored_in):
        own["tested_in"] = evaluation.scored_in
    return datamodule_type(layout)(
        layout=layout,
        image_size=settings["image_size"],
        batch_size=1,
        seed=0,
        augmentation=Augmentation(0, (1, 1), 0, 0),
        eval_batch_size=settings["batch_size"],
        full_labels=settings["score_at"] == "label",
        workers=settings["workers"],
        merging=None if order is None else Merging(order, layout.labels, merged, digest_cache(output_dir)),
        tested=evaluation.settings["split"],
        **own,
    )


def _score(evaluation: Evaluation) -> dict[str, Any]:
    """What the status says at the end."""
    settings = evaluation.settings
    pl.seed_everything(0, workers=True, verbose=False)
    content = load(evaluation.trained.best)
    faces_scored = evaluation.layout.samples(settings["split"])
    groups = sorted({group for sample in faces_scored for group in sample.groups})
    module = scored_module(content, settings["background"], evaluation.mapped, groups, evaluation.trained.best)
    if evaluation.trained.settings.get("trainer.channels_last"):  # to round as its own test did
        module = module.to(memory_format=torch.channels_last)
    datamodule = scored_faces(evaluation)
    faces = len(datamodule.labelled("test"))
    shown = [Panels(settings["panels"]), GroupPanels()] if settings["panels"] else []
    trainer = scoring_trainer(
        settings["trainer.accelerator"],
        settings["trainer.precision"],
        evaluation.folder.path,
        [Quiet(), *shown, Confusion(), EpochProgressBar()],
    )
    started = time.perf_counter()
    (scores,) = trainer.test(module, datamodule, verbose=False)
    seconds = time.perf_counter() - started
    return {
        "metrics": {name: float(value) for name, value in scores.items()},
        "parameters": sum(parameter.numel() for parameter in module.get_submodule("model").parameters()) or None,
        "faces": faces,
        "seconds": round(seconds, 2),
        "images_per_second": round(faces / seconds, 2),
        "peak_memory_mb": round(peak_memory_mb(trainer.strategy.root_device), 1),
    }


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
    except MisconfigurationException as fault:
        raise ConfigError(f"trainer: {fault}\nExpected: what this machine has; auto takes it as it is.") from fault
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign] # the door's are
    return trainer


def _description(evaluation: Evaluation) -> dict[str, Any]:
    """What an evaluation is, in words and numbers that a report can group by."""
    status = evaluation.trained.status
    return {
        "stage": EVALUATE,
        "id": evaluation.folder.id,
        "identity": dict(evaluation.identity),
        "upstream": [evaluation.trained.id],
        **{name: status.get(name) for name in COPIED},
        "seed": status.get("seed"),
        "checkpoint": str(evaluation.trained.best),
        "trained_dataset": evaluation.trained.dataset,
        "trained_origin": status.get("origin"),
        "trained_merging": evaluation.trained.settings.get("datamodule.merging"),
        "dataset": evaluation.layout.name,
        "origin": evaluation.layout.origin,
        "merging": evaluation.settings["merging"],
        "split": evaluation.settings["split"],
        "classes": evaluation.classes,
        "class_set": evaluation.scored_in.as_plain(),
        "data_name": evaluation.layout.data_name,
        "trained_data_name": status.get("data_name"),
        "data_digest": evaluation.identity["data"],
        **circumstances(evaluation.settings["trainer.accelerator"]),
        "metrics": {},
    }
