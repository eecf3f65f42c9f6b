"""Shared by the training stages: data module, encoder weights, number of steps, hyperparameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.planning import LEFT_OUT, digest_cache
from engine.processes import is_leader
from engine.stage import Run, Stage
from foundation.digests import DigestCache, digest_of_files
from foundation.errors import ConfigError, DataError
from models.packaged_weights import PACKAGED, PackageError, packaged_file

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule
    from torch import Tensor, nn

    from datamodules.faces import FaceDataModule
    from datamodules.layouts import Layout
    from datamodules.merging import Merging
    from datamodules.transforms import Augmentation


PATCHES, ENCODER_ALONE = "masked_patches", "sparse_masking"
"""The paper's pretext task, and the one that leaves an encoder and no decoder."""
HANDED_OVER = "${handed_over:${pretrain.task}}"
"""In ``conf/``: what a stage after ``pretrain`` takes of it."""


class TrainingStage(Stage):
    """Base class of the stages of ``train.py``, whose runs belong to an experiment."""

    def description(self, run: Run) -> dict[str, Any]:
        settings = run.settings
        labelled = run.manifest is not None
        return {
            **{name: settings[name] for name in ("experiment", "ablation", "recipe", "scale")},
            "method": settings.method if settings.stages is None else "own",
            "sweep": settings.sweep_name,
            "masking": _masking(run),
            "loss": None,
            "network": None,
            "merging": settings.datamodule.merging if labelled else None,
            "label_fraction": settings.label_fraction if labelled else None,
            "labelled": 0 if run.manifest is None else len(run.manifest.ids),
            "manifest": None if run.manifest is None else str(run.manifest.path),
            "subset": settings.subset if labelled else None,
            "seed": run.own.seed,
        } | self.method_description(run)

    def data(self, run: Run) -> LightningDataModule:
        return open_datamodule(run)

    def steps(self, run: Run) -> int | None:
        steps: int = hyperparameters(run)["steps"]
        return steps

    def method_description(self, run: Run) -> dict[str, Any]:
        """Keys of the status that differ between runs of this stage: ``loss``, ``network`` and so on."""
        return {}


def _masking(run: Run) -> str | None:
    """The masking of a run's pre-training (the run itself or its upstream run); None without pre-training."""
    own = run.settings.pretrain
    if run.stage.name == "pretrain":
        return _named(own.task, own.masking)
    for folder in run.upstreams:
        if folder.stage == "pretrain":  # with method=transfer a run of another command
            its = folder.status.get("identity", {}).get("settings", {})
            return _named(its.get("pretrain.task", own.task), its.get("pretrain.masking", own.masking))
    return own.masking if run.stage.name == "classify" else None


def _named(task: str | Mapping[str, Any] | None, masking: str) -> str:
    """A pretext task in tables: its masking for the paper's, else its name."""
    if task in (None, PATCHES):
        return masking
    return task if isinstance(task, str) else task["_target_"]


def open_datamodule(
    run: Run, augmentation: Augmentation | None = None, kind: type[FaceDataModule] | None = None, **own: Any
) -> FaceDataModule:
    """The data module of a stage: all training images without labels, or those of the manifest with labels.

    Args:
        run: the run.
        augmentation: of training images; None: as its settings describe.
        kind: of data module; None: by the data set.
        own: arguments that only some stages pass.

    Raises:
        BrokenFileError: if part masks are merged into label maps and one of them cannot be read.
    """
    from datamodules.cache import Cache
    from datamodules.datasets import datamodule_type
    from datamodules.layouts import SPLITS
    from datamodules.transforms import Augmentation

    if augmentation is None:
        values = run.own.augmentation.flat()
        augmentation = Augmentation(**(values | {"scale": tuple(values["scale"])}))
        own = {"batch_size": run.own.batch_size, "steps_per_epoch": run.own.steps_per_epoch} | own
    settings, output_dir = run.settings.datamodule, run.folder.output_dir
    digest = functools.partial(digest_of_files, digest_cache(output_dir))
    data = (kind or datamodule_type(run.layout))(
        layout=run.layout,
        image_size=settings.image_size,
        seed=run.own.seed,
        augmentation=augmentation,
        train_ids=None if run.manifest is None else run.manifest.ids,
        eval_batch_size=settings.eval_batch_size,
        full_labels=run.stage.labelled and run.own.score_at == "label",
        workers=settings.workers,
        cache=None if settings.cache == "none" else Cache(settings.cache, output_dir / "cache" / "decoded", digest),
        merging=merging_of(run, run.layout, settings.merging if run.stage.labelled else None),
        **own,
    )
    if data.merging is not None:
        for split in SPLITS:  # now: a broken test mask must not fail the run after hours of training
            data.labelled(split)
    if run.stage.labelled:
        data.require_scored_faces()
    return data


def merging_of(run: Run, layout: Layout, order: str | None) -> Merging | None:
    """How a data set's part masks are merged into label maps, in the painting order ``order``; None without one."""
    from datamodules.merging import Merging

    output_dir = run.folder.output_dir
    merged = output_dir / "cache" / "merged"
    return None if order is None else Merging(order, layout.labels, merged, digest_cache(output_dir))


def encoder_weights(run: Run, key: str, encoder: str) -> dict[str, Tensor] | None:
    """The initial weights of an encoder, from the setting ``key``; None for random weights.

    Raises:
        ConfigError: if they cannot be loaded or downloaded, or do not fit.
    """
    from datamodules.transforms import MEAN, STD
    from models.encoders import EncoderError, encoder_state

    weights = run.settings[key]
    named = weights in (None, "imagenet", *PACKAGED)
    try:
        return encoder_state(encoder, weights if named else Path(weights), key, (MEAN, STD))
    except EncoderError as error:
        raise ConfigError(str(error)) from error


def identity_of_weights(run: Run, key: str, encoder: str | None, digests: DigestCache) -> dict[str, Any]:
    """The id's entry for the setting ``key``: a file enters by its content; with an upstream run it does not enter.

    Raises:
        ConfigError: if there is no such file, or its package is not installed.
    """
    if run.upstreams:
        return {key: LEFT_OUT}
    weights = run.settings[key]
    if weights in (None, "imagenet"):
        return {}
    if weights in PACKAGED:
        try:
            return {key: f"{weights} {digests.of_file(packaged_file(weights, encoder))}"}
        except PackageError as error:
            raise ConfigError(f"{key}={weights}: {error}") from error
    if not Path(weights).is_file():
        raise ConfigError(
            f"{key}={weights} is no file.\n"
            f"It must be imagenet, {', '.join(PACKAGED)}, null (random weights), or the path of a state dictionary of "
            f"{encoder}."
        )
    return {key: digests.of_file(Path(weights))}


def take_start(run: Run, network: nn.Module, part: Literal["trunk", "encoder", "all"]) -> None:
    """Copy a part of the weights of the run that a run starts from into its network.

    Raises:
        DataError: if they do not fit.
    """
    from callbacks.checkpoints import load
    from models.parser import transfer

    assert run.upstream is not None  # noqa: S101 (for the type checker)
    trained = load(run.upstream.best)["state_dict"]
    weights = {key.removeprefix("model."): value for key, value in trained.items() if key.startswith("model.")}
    try:
        report = transfer(network, weights, part)
    except ValueError as error:
        raise DataError(
            f"{run.upstream.best}: {error}.\nTrain its run again with force=true, or start from another run."
        ) from error
    if is_leader():
        print(f"From {run.upstream.name}: {report}")


def hyperparameters(run: Run, fold: tuple[int, int] | None = None) -> dict[str, Any]:
    """Optimiser, schedule and number of optimiser steps of the complete run, as the Lightning modules take them."""
    from datamodules.sampling import batches_in_epoch
    from datamodules.subsets import of_fold

    samples = run.layout.samples("train", labelled=False)
    if fold is not None:
        samples = of_fold(samples, "train", *fold)
    faces = len(samples if run.manifest is None else {sample.id for sample in samples} & set(run.manifest.ids))
    own, trainer = run.own, run.settings.trainer
    samples_per_epoch = None if own.steps_per_epoch is None else own.steps_per_epoch * own.batch_size
    batches = batches_in_epoch(faces, samples_per_epoch, own.batch_size, trainer.devices)
    steps = own.epochs * -(-batches // (trainer.model_extra or {}).get("accumulate_grad_batches", 1))
    return {"optimizer": own.optimizer.flat(), "schedule": own.schedule.flat(), "steps": steps}
