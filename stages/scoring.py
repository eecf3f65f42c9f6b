"""Score a trained network: load its module, map its classes to those of the data, test it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden

from callbacks.checkpoints import load
from callbacks.confusion import Confusion
from callbacks.group_panels import GroupPanels
from callbacks.panels import Panels
from callbacks.progress import EpochProgressBar
from callbacks.quiet import Quiet
from callbacks.throughput import peak_memory_mb
from datamodules.datasets import datamodule_type
from datamodules.faces import FaceDataModule
from datamodules.labels import LabelSet
from datamodules.transforms import Augmentation
from engine.plugins import locate, require_trusted
from engine.stage import Run
from engine.trainers import scoring_trainer
from foundation.errors import ConfigError, DataError
from lightning_modules.classification import PixelClassification
from lightning_modules.metrics import SegmentationScores
from lightning_modules.occlusion import OcclusionSegmentation
from lightning_modules.occlusion_comparators import segmentation
from lightning_modules.parsing import FaceParsing
from lightning_modules.self_training import SelfTraining
from models.merged_classes import MergedClasses
from stages.building import merging_of
from stages.evaluation import Evaluation

KINDS: dict[Any, Any] = {
    "segment": OcclusionSegmentation,
    "classify": PixelClassification,
    "finetune": FaceParsing,
    "semi": SelfTraining,
    "lightning_modules.parsing.FaceParsing": FaceParsing,
}
"""Modules of the stages here, and the one that a stage of the user's own may train."""


def scored_module(
    content: dict[str, Any],
    background: str,
    mapped: tuple[LabelSet, LabelSet] | None = None,
    groups: Sequence[str] = (),
    path: Path | None = None,
    trust: str | None = None,
) -> FaceParsing | PixelClassification | OcclusionSegmentation:
    """The parser or segmenter of a checkpoint; a parser's logits may be mapped to other classes.

    Args:
        content: the content of ``best.ckpt``.
        background: see :class:`lightning_modules.metrics.SegmentationScores`.
        mapped: the parser's classes and those that its logits are mapped to; None: no mapping.
        groups: groups of faces that a segmenter is scored on.
        path: the path of the checkpoint, for messages.
        trust: the package whose network or loss it may use.

    Raises:
        ConfigError: if it uses code of another package.
        DataError: if it is not a checkpoint of this project.
    """
    source = path or "The checkpoint"
    require_trusted(content.get("hyper_parameters"), trust, source)
    kind = KINDS.get(content.get("stage")) or KINDS.get(content.get("module"))
    if kind is None and content.get("module") is not None:
        require_trusted({"_target_": content["module"]}, trust, source)
    try:
        if kind is OcclusionSegmentation:
            module: Any = segmentation(**(content["hyper_parameters"] | {"groups": list(groups)}))
        elif kind is None:
            module = _own_module(content, background)
        else:
            module = kind(**(content["hyper_parameters"] | {"background": background}))
        if "network" in content:  # of an exported file
            module.model = content["network"]
        else:
            module.load_state_dict(content["state_dict"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise DataError(
            f"The checkpoint {path or ''} does not contain a parser or segmenter of this project."
        ) from error
    if mapped is not None:
        own, target = mapped
        merged = own.table_to(target)[: len(own)].tolist()
        probabilities = kind is not PixelClassification
        module.model = MergedClasses(module.model, merged, probabilities, len(target))
        module.scores = SegmentationScores(target.classes, background=background)
    return module


def _own_module(content: dict[str, Any], background: str) -> Any:
    """The module of a stage of the user's own, made from the hyper-parameters that its checkpoint keeps.

    Raises:
        ConfigError: if it cannot be made from them, or has no scores.
    """
    stage, target = content["stage"], content["module"]
    try:
        module = locate(target, stage)(**content["hyper_parameters"])
    except TypeError as error:
        raise ConfigError(
            f"{stage}: {target} cannot be made from its saved hyper-parameters: {error}.\n"
            f"Every argument must be among those of save_hyperparameters, or have a default."
        ) from error
    if not isinstance(getattr(module, "scores", None), SegmentationScores) or not is_overridden("test_step", module):
        raise ConfigError(
            f"{stage}: {target} does not score itself.\n"
            f"It must hold self.scores, a lightning_modules.metrics.SegmentationScores, and update it in test_step."
        )
    module.scores = SegmentationScores(module.scores.classes, background=background)
    return module


def scored_faces(run: Run) -> FaceDataModule:
    """The data module of an evaluation."""
    settings, layout = run.settings, run.layout
    assert isinstance(run.stage, Evaluation)  # noqa: S101 (for the type checker)
    own: dict[str, Any] = {}
    if layout.kind == "parsing" and not layout.labels.is_same_as(run.stage.scored_in):
        own["tested_in"] = run.stage.scored_in
    return datamodule_type(layout)(
        layout=layout,
        image_size=settings.image_size,
        batch_size=1,
        seed=0,
        augmentation=Augmentation(0, (1, 1), 0, 0),
        eval_batch_size=settings.batch_size,
        full_labels=settings.score_at == "label",
        workers=settings.workers,
        merging=merging_of(run, settings.merging),
        tested=settings.split,
        **own,
    )


def scored_network(run: Run) -> FaceParsing | PixelClassification | OcclusionSegmentation:
    """The trained module of an evaluation."""
    assert isinstance(run.stage, Evaluation)  # noqa: S101 (for the type checker)
    trained = run.stage.trained
    faces = run.layout.samples(run.settings.split)
    groups = sorted({group for sample in faces for group in sample.groups})
    background, mapped, best = run.settings.background, run.stage.mapped, trained.best
    module = scored_module(load(best), background, mapped, groups, best, run.settings.trust)
    if trained.settings.get("trainer.channels_last"):  # the same rounding as in its own test
        module = module.to(memory_format=torch.channels_last)
    return module


def score(run: Run) -> dict[str, Any]:
    """Score an evaluation; returns the result part of its status."""
    settings = run.settings
    pl.seed_everything(0, workers=True, verbose=False)
    module, datamodule = scored_network(run), scored_faces(run)
    faces = len(datamodule.labelled("test"))
    shown = [Panels(settings.panels), GroupPanels()] if settings.panels else []
    callbacks = [Quiet(), *shown, Confusion(), EpochProgressBar()]
    trainer = scoring_trainer(settings.trainer.accelerator, settings.trainer.precision, run.folder.path, callbacks)
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
