"""From settings to the objects that a stage trains with."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor

from datamodules.cache import Cache
from datamodules.datasets import datamodule_type
from datamodules.faces import FaceDataModule
from datamodules.layouts import SPLITS
from datamodules.merging import Merging
from datamodules.patches import Masking
from datamodules.sampling import batches_in_epoch
from datamodules.subsets import of_fold
from datamodules.transforms import STD, Augmentation
from engine.checkpoints import load
from engine.processes import is_leader
from engine.stages import CLASSIFY, PRETRAIN, SEGMENT, Run, digest_cache
from foundation.digests import digest_of_files
from foundation.errors import ConfigError
from lightning_modules.occlusion import OcclusionSegmentation
from lightning_modules.occlusion_comparators import segmentation
from lightning_modules.parsing import FaceParsing
from lightning_modules.pretraining import MaskedPretraining
from models.comparators import published_encoder
from models.encoders import EncoderError, encoder_state, require_encoder
from models.masking import central_box, patch_sides
from models.parser import transfer

CANDIDATES = {"none": 0, "adaptive": 4}
"""Patches that come with a picture for each that hides a part of it: what is chosen among comes as a multiple."""


def build_datamodule(run: Run) -> FaceDataModule:
    """The batches of a stage: all training faces unlabelled, or those of the manifest with their labels.

    Raises:
        BrokenFileError: if label maps are to be merged and a part cannot be.
    """
    size = run.settings["datamodule.image_size"]
    own: dict[str, Any] = {"on_the_fly": True} if run.stage is SEGMENT and run.setting("on_the_fly") else {}
    if run.stage is PRETRAIN:
        own["masking"] = Masking(
            count=run.setting("patches") * CANDIDATES.get(run.setting("masking"), 1),
            sides=patch_sides(size, run.setting("patch_size")),
            region=(0, size) if run.setting("masking") == "random" else central_box(size),
        )
    if run.stage is CLASSIFY:  # its faces stay as they are, and are seen once
        own |= {"batch_size": run.settings["datamodule.eval_batch_size"], "augmentation": Augmentation(0, (1, 1), 0, 0)}
    else:
        move = run.group("augmentation")
        own |= {
            "batch_size": run.setting("batch_size"),
            "augmentation": Augmentation(**(move | {"scale": tuple(move["scale"])})),
            "steps_per_epoch": run.setting("steps_per_epoch"),
        }
    data = datamodule_type(run.layout)(
        layout=run.layout,
        image_size=size,
        seed=run.setting("seed"),
        train_ids=None if run.manifest is None else run.manifest.ids,
        fold=_fold(run),
        eval_batch_size=run.settings["datamodule.eval_batch_size"],
        full_labels=run.stage.labelled and run.setting("score_at") == "label",
        workers=run.settings["datamodule.workers"],
        cache=_cache(run),
        merging=_merging(run),
        **own,
    )
    if data.merging is not None:
        for split in SPLITS:  # now, so that a broken mask of a test face is not met after hours of training
            data.labelled(split)
    if run.stage.labelled:
        data.require_scored_faces()
    return data


def _fold(run: Run) -> tuple[int, int] | None:
    return (run.setting("fold"), run.setting("folds")) if run.stage is SEGMENT and run.setting("folds") else None


def _merging(run: Run) -> Merging | None:
    order = run.settings["datamodule.merging"]
    if order is None or not run.stage.labelled:
        return None
    output_dir = run.folder.output_dir
    return Merging(order, run.layout.labels, output_dir / "cache" / "merged", digest_cache(output_dir))


def _cache(run: Run) -> Cache | None:
    kind = run.settings["datamodule.cache"]
    folder = run.folder.output_dir / "cache"
    digest = functools.partial(digest_of_files, digest_cache(run.folder.output_dir))
    return None if kind == "none" else Cache(kind, folder / "decoded", digest)


def build_module(run: Run) -> LightningModule:
    """The Lightning module of a stage, at its start: encoder weights loaded, or the pre-trained part handed over.

    Raises:
        ConfigError: if the encoder or its weights are not to be had, or do not fit.
    """
    if run.stage is SEGMENT:
        return _build_segmenter(run)
    encoder, architecture = run.settings["model.encoder"], run.settings["model.architecture"]
    try:
        require_encoder(encoder, architecture)
    except EncoderError as fault:
        raise ConfigError(str(fault)) from fault
    state = None if run.upstream else _encoder_state(run, "model.encoder_weights", encoder)
    common: dict[str, Any] = {
        "encoder": encoder,
        "features": run.settings["model.features"],
        "optimizer": run.group("optimizer"),
        "schedule": run.group("schedule"),
        "steps": _steps(run),
        "encoder_state": state,
    }
    if run.stage is PRETRAIN:
        names = ("loss", "reduction", "loss_over", "fill", "masking", "patches", "contrastive", "temperature")
        size = run.settings["datamodule.image_size"]
        chosen = {name: run.setting(name) for name in names}
        return MaskedPretraining(**chosen, **common, std=list(STD), image_size=size)
    trunk = ("trained", "trunk_lr", "frozen_epochs", "statistics")
    loss = ("loss", "lambda_ce", "lambda_dice", "alpha", "gamma")
    chosen = {name: run.setting(name) for name in (*loss, "background", *trunk)}
    module = FaceParsing(run.layout.labels.classes, **chosen, **common, architecture=architecture)
    if run.upstream is not None:
        trained = load(run.upstream.best)["state_dict"]
        weights = {name.removeprefix("model."): value for name, value in trained.items() if name.startswith("model.")}
        report = transfer(module.model, weights, run.setting("transfer"))
        if is_leader():
            print(f"From {run.upstream.name}: {report}")
    return module


def _build_segmenter(run: Run) -> OcclusionSegmentation:
    names = (
        *("network", "width", "bottleneck_convs", "kernel", "decoder_kernel", "count", "initialization"),
        *("lambda_dice", "noise_kernel", "rho_lr"),
    )
    groups = sorted({group for sample in run.layout.samples("test") for group in sample.groups})
    network, width, weights = run.setting("network"), run.setting("width"), run.setting("encoder_weights")
    encoder = published_encoder(network, width)
    if weights is not None and encoder is None:
        raise ConfigError(
            f"segment.encoder_weights={weights} fits no {network} of segment.width={width}.\n"
            f"Expected: segment.width=null, or segment.encoder_weights=null (random weights)."
        )
    return segmentation(
        **{name: run.setting(name) for name in names},
        optimizer=run.group("optimizer"),
        schedule=run.group("schedule"),
        steps=_steps(run),
        groups=groups,
        encoder_state=None if encoder is None else _encoder_state(run, "segment.encoder_weights", encoder),
    )


def _encoder_state(run: Run, key: str, encoder: str) -> dict[str, Tensor] | None:
    weights = run.settings[key]
    try:
        return encoder_state(encoder, weights if weights in (None, "imagenet") else Path(weights), key)
    except EncoderError as fault:
        raise ConfigError(str(fault)) from fault


def _steps(run: Run) -> int:
    """Optimiser steps of the whole run."""
    samples, fold = run.layout.samples("train", labelled=False), _fold(run)
    if fold is not None:
        samples = of_fold(samples, "train", *fold)
    faces = len(samples if run.manifest is None else {sample.id for sample in samples} & set(run.manifest.ids))
    steps, batch_size = run.setting("steps_per_epoch"), run.setting("batch_size")
    draws = None if steps is None else steps * batch_size
    return run.setting("epochs") * batches_in_epoch(faces, draws, batch_size, run.settings["trainer.devices"])
