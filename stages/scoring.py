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
from foundation.errors import ConfigError, DataError, UserError, explained
from lightning_modules.classification import PixelClassification
from lightning_modules.metrics import SegmentationScores
from lightning_modules.occlusion import OcclusionSegmentation
from lightning_modules.occlusion_comparators import segmentation
from lightning_modules.parsing import FaceParsing
from lightning_modules.self_training import SelfTraining
from models.encoders import EncoderError, require_encoder, require_usable
from models.merged_classes import MergedClasses
from models.weights import misfit
from stages.building import merging_of
from stages.evaluation import Evaluation
from stages.segmentation import NETWORKS

MOST_VALUES = 2**30
"""Largest network that an exported file may describe, in weights: 4 GiB."""

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
    if _kind(content) is None and content.get("module") is not None:
        require_trusted({"_target_": content["module"]}, trust, source)
    try:
        _require_known_names(content)
        if trust is None:  # a network of the user's own may not be built without memory
            _require_fitting(content, background, groups)
        return _build(content, background, mapped, groups)
    except UserError:
        raise
    except Exception as error:  # values of any type, given to any layer
        if isinstance(reason := explained(error), UserError):  # memory ran out, a package is absent, and the like
            raise reason from error
        raise DataError(
            f"{source} does not contain a parser or segmenter of this project: {' '.join(str(error).split())[:500]}\n"
            f"It must be written by train.py or export.py."
        ) from error


def _require_known_names(content: dict[str, Any]) -> None:
    """See that a file names networks as settings do: nothing is looked up on a network, in a folder or on a hub.

    Raises:
        EncoderError, ValueError: if not.
    """
    values = content["hyper_parameters"]
    network = values.get("network")
    if isinstance(network, dict):  # see require_trusted
        return
    if content["stage"] == "segment":
        if network not in NETWORKS:
            raise ValueError(f"network={network} is none of {', '.join(NETWORKS)}")
    elif "encoder" in values:
        require_encoder(values["encoder"], values.get("architecture", "unetplusplus"))


def _require_fitting(content: dict[str, Any], background: str, groups: Sequence[str]) -> None:
    """See that the weights of a file fit its network, before the network takes memory.

    Raises:
        ValueError: if not.
    """
    try:
        with torch.device("meta"):
            planned = _module(content, background, groups)
    except RuntimeError as error:
        if "meta" not in str(error):
            raise
        return  # MiT reads values while it is built; it has fixed sizes
    if "network" not in content:
        if problem := misfit(content["state_dict"], planned.state_dict()):
            raise ValueError(problem)
    elif (values := sum(value.numel() for value in planned.state_dict().values())) > MOST_VALUES:
        raise ValueError(f"a network of {values:,} weights")


def require_size(module: Any, image_size: int, source: object) -> None:
    """See that a network takes images of this size; some of timm's take only one.

    Raises:
        ConfigError: if it does not.
    """
    values = module.hparams
    encoder = str(values.get("encoder"))
    if not encoder.startswith("tu-") or values.get("network") is not None:
        return
    try:
        require_usable(encoder, values.get("architecture", "unetplusplus"), image_size)
    except EncoderError as error:
        raise ConfigError(f"image_size={image_size} does not go with {source}: {error}") from error


def _build(
    content: dict[str, Any], background: str, mapped: tuple[LabelSet, LabelSet] | None, groups: Sequence[str]
) -> FaceParsing | PixelClassification | OcclusionSegmentation:
    module: Any = _module(content, background, groups)
    _load_weights(module, content)
    if mapped is not None:
        own, target = mapped
        merged = own.table_to(target)[: len(own)].tolist()
        probabilities = not isinstance(module, PixelClassification)
        module.model = MergedClasses(module.model, merged, probabilities, len(target))
        module.scores = SegmentationScores(target.classes, background=background)
    return module


def _kind(content: dict[str, Any]) -> Any:
    """The Lightning module of a stage here; None for one of the user's own."""
    return KINDS.get(content.get("stage")) or KINDS.get(content.get("module"))


def _module(
    content: dict[str, Any], background: str, groups: Sequence[str]
) -> FaceParsing | PixelClassification | OcclusionSegmentation:
    """The module of a file, without its weights."""
    kind = _kind(content)
    if kind is None:
        return _own_module(content, background)
    if kind is OcclusionSegmentation:
        return segmentation(**(content["hyper_parameters"] | {"groups": list(groups)}))
    return kind(**(content["hyper_parameters"] | {"background": background}))


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


def _load_weights(module: FaceParsing | PixelClassification | OcclusionSegmentation, content: dict[str, Any]) -> None:
    """Load the trained weights, or the network of an exported file."""
    if "network" in content:
        module.model = content["network"]
    else:
        module.load_state_dict(content["state_dict"])


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
        merging=merging_of(run, run.layout, settings.merging),
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
    require_size(module, run.settings.image_size, best)
    _require_loss(module, best)
    if trained.settings.get("trainer.channels_last"):  # the same rounding as in its own test
        module = module.to(memory_format=torch.channels_last)
    return module


def _require_loss(module: FaceParsing | PixelClassification | OcclusionSegmentation, source: Path) -> None:
    """See that the recorded loss and noise processing can be computed, before faces are scored.

    Raises:
        DataError: if not.
    """
    values, side = module.hparams, 32
    if not isinstance(module, FaceParsing | OcclusionSegmentation) or not all(
        isinstance(values[name], str) for name in ("loss", "network") if values.get(name) is not None
    ):  # no loss, or the user's own network or loss, which explain themselves
        return
    channels = 1 if isinstance(module, OcclusionSegmentation) else len(values["classes"])
    try:
        module.loss(torch.zeros(1, channels, side, side), torch.zeros(1, side, side, dtype=torch.long))
        if isinstance(module, OcclusionSegmentation):
            module.clean(torch.zeros(1, side, side, dtype=torch.bool))
    except Exception as error:
        raise DataError(
            f"{source} records a loss that cannot be computed: {' '.join(str(error).split())}\n"
            f"It must be written by train.py or export.py."
        ) from error


def score(run: Run) -> dict[str, Any]:
    """Score an evaluation; returns the result part of its status."""
    settings = run.settings
    pl.seed_everything(0, workers=True, verbose=False)
    module, datamodule = scored_network(run), scored_faces(run)
    faces = len(datamodule.labelled("test"))
    for note in run.layout.notes:
        print(note, flush=True)
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
        **({"left_out": list(run.layout.notes)} if run.layout.notes else {}),
        "seconds": round(seconds, 2),
        "images_per_second": round(faces / seconds, 2),
        "peak_memory_mb": round(peak_memory_mb(trainer.strategy.root_device), 1),
    }
