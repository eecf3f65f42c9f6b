"""Stage ``pretrain``: a pretext task on unlabelled faces, by default the paper's masked patches (Equation 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import OmegaConf
from pydantic import Field

from engine.planning import LEFT_OUT
from engine.plugins import build, require
from engine.settings import PathText, Plugin, ScaleRange, SizeRange, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError
from stages.building import (
    ENCODER_ALONE,
    HANDED_OVER,
    PATCHES,
    TrainingStage,
    encoder_weights,
    hyperparameters,
    identity_of_weights,
    open_datamodule,
    take_start,
)
from stages.groups import Augmentation, TrainingSettings

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from torch import Tensor

OmegaConf.register_new_resolver(
    "handed_over", lambda task: "encoder" if task == ENCODER_ALONE else "trunk", replace=True
)
"""For ``conf/``: the weights that a pretext task leaves for the next stage."""
OF_PATCHES = "task!=sparse_masking|denoising"
"""Settings of the masked patches; a pretext task from outside may read the patches of its batches."""


class PretrainAugmentation(Augmentation):
    """Augmentation of unlabelled images (Data augmentation)."""

    rotation: float = setting(30.0, "degrees to either side", ge=0, le=180)
    scale: ScaleRange = setting([0.75, 1.25], "smallest and largest zoom")


class PretrainSettings(TrainingSettings):
    """Masked pre-training."""

    augmentation: PretrainAugmentation = Field(default_factory=PretrainAugmentation)
    task: Literal["masked_patches", "sparse_masking", "denoising"] | Plugin = setting(
        PATCHES,
        "masked_patches: the paper's; sparse_masking: SparK, trains the encoder alone; denoising: predict the noise "
        "that was added; or your own by _target_",
    )
    start_from: PathText | None = setting(
        None,
        "name or folder of the pretrain, finetune or semi run to start from; null: model.encoder_weights",
        harmless="enters as the id of that run",
    )
    transfer: Literal["trunk", "encoder"] = setting(
        "trunk", "weights taken of that run: all of UNet++, or only its encoder", written=HANDED_OVER
    )
    mask_ratio: float = setting(0.6, "masked share of the units", gt=0, lt=1, only="task=sparse_masking")
    mask_units: int = setting(
        8, "units along a side of the image, each masked or visible as one", ge=2, only="task=sparse_masking"
    )
    decoder_width: int = setting(
        256,
        "channels of the decoder at the coarsest map, half as many at each finer",
        ge=32,
        only="task=sparse_masking",
    )
    noise: float = setting(
        0.22, "standard deviation of the added noise, for images with values -1..1", gt=0, only="task=denoising"
    )
    masking: Literal["central", "random", "adaptive", "none"] = setting(
        "central",
        "central: patches inside the box W/6..5W/6; random: anywhere (ablation B); adaptive: inside the box, more "
        "patches where the reconstruction error is largest; none: the image is copied",
        only=OF_PATCHES,
    )
    patches: int = setting(128, "patches per image", ge=1, only=f"masking!=none and {OF_PATCHES}")
    patch_size: SizeRange = setting(
        [32, 64],
        "smallest and largest side at 480 px; scales with the input",
        only=f"masking!=none and {OF_PATCHES}",
    )
    fill: Literal["zero", "mean", "noise"] = setting(
        "zero",
        "masked pixels: zero after normalisation, the image's mean colour, or noise",
        only=f"masking!=none and {OF_PATCHES}",
    )
    loss: Literal["mse", "l1"] = setting("mse", "pixel loss of Equation 1; not in the paper", only=OF_PATCHES)
    reduction: Literal["mean", "sum"] = setting(
        "mean", "over the pixels of the region; the paper prints a sum", only=OF_PATCHES
    )
    loss_over: Literal["box", "image", "masked"] = setting(
        "box", "all pixels of the central box (Equation 1), of the image, or only masked pixels", only=OF_PATCHES
    )
    contrastive: float = setting(
        0.0, "weight of a contrastive term between two maskings of an image; 0: none", ge=0, only=OF_PATCHES
    )
    temperature: float = setting(
        0.1, "temperature of the contrastive term", gt=0, only=f"contrastive!=0 and {OF_PATCHES}"
    )


class Pretraining(TrainingStage):
    """Pre-training of the parser's trunk, or its encoder, on unlabelled faces."""

    name = "pretrain"
    version = 4
    settings = PretrainSettings
    reads = ("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "model", "pretrain", "trainer")
    labelled = False
    splits = ("train", "val")
    monitor = None  # reconstruction scores do not predict which epoch parses best

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        own = settings.pretrain
        if own.task == ENCODER_ALONE:
            _check_sparse_masking(settings)
        elif own.task == PATCHES:
            _check_masked_patches(settings)
        elif not isinstance(own.task, str):
            require(own.task, "pretrain.task", model=None, optimization=None)

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        entering = identity_of_weights(run, "model.encoder_weights", run.settings.model.encoder, digests)
        if run.own.task == PATCHES:
            entering["pretrain.task"] = None  # as when there was no other
        if not run.upstreams:
            entering["pretrain.transfer"] = LEFT_OUT
        return entering

    def require_network(self, run: Run) -> None:
        from stages.finetuning import require_parser

        require_parser(run.settings.model, run.settings.datamodule.image_size)

    def data(self, run: Run) -> LightningDataModule:
        from models.masking import PatchSampling

        own = run.own
        size = run.settings.datamodule.image_size
        masking = "none" if own.task in ("sparse_masking", "denoising") else own.masking  # these read no patches
        return open_datamodule(run, masking=PatchSampling.of(masking, size, own.patches, own.patch_size))

    def module(self, run: Run) -> LightningModule:
        self.require_network(run)
        module = _module(run)
        if run.upstream is not None:
            take_start(run, module.get_submodule("model"), run.own.transfer)
        return module

    def method_description(self, run: Run) -> dict[str, Any]:
        return {"loss": run.own.loss if run.own.task == PATCHES else None}


def _module(run: Run) -> LightningModule:
    """The module of a run's pretext task, with the initial weights of ``model.encoder_weights``."""
    from datamodules.transforms import STD

    model, own = run.settings.model, run.own
    state = None if run.upstreams else encoder_weights(run, "model.encoder_weights", model.encoder)
    if not isinstance(own.task, str):
        return _outside_module(run, state)
    common = {**hyperparameters(run), "encoder": model.encoder, "encoder_state": state, "std": list(STD)}
    if own.task == ENCODER_ALONE:
        from lightning_modules.sparse_masking import SparseMasking

        return SparseMasking(**{name: own[name] for name in ("mask_ratio", "mask_units", "decoder_width")}, **common)
    if own.task == "denoising":
        from lightning_modules.denoising import Denoising

        return Denoising(noise=own.noise, features=model.features, **common)
    from lightning_modules.pretraining import MaskedPretraining

    names = ("loss", "reduction", "loss_over", "fill", "masking", "patches", "contrastive", "temperature")
    values = {name: own[name] for name in names} | {"image_size": run.settings.datamodule.image_size}
    return MaskedPretraining(features=model.features, **values, **common)


def _outside_module(run: Run, state: dict[str, Tensor] | None) -> LightningModule:
    import pytorch_lightning as pl

    from lightning_modules.optimization import Optimization
    from models.parser import FaceParser

    model, task = run.settings.model, run.own.task
    parser = FaceParser(3, model.encoder, model.features, state)
    optimization = Optimization(**hyperparameters(run))
    module = build(task, "pretrain.task", model=parser, optimization=optimization, kind=pl.LightningModule)
    if getattr(module, "model", None) is not parser:
        raise ConfigError(
            f"pretrain.task: {task['_target_']} does not keep the model that it is given, from which "
            f"fine-tuning starts.\nIt must hold self.model = model."
        )
    return module


def _check_sparse_masking(settings: Any) -> None:
    own, size = settings.pretrain, settings.datamodule.image_size
    if size % own.mask_units:
        fitting = [units for units in range(2, size) if size % units == 0]
        near = min(fitting, key=lambda units: abs(units - own.mask_units))
        raise ConfigError(
            f"pretrain.mask_units={own.mask_units} with datamodule.image_size={size}: a unit would not be whole pixels."
            f"\nIt must divide the size of the image, as {near} does."
        )
    if own.start_from is not None and own.transfer != "encoder":
        raise ConfigError(
            f"pretrain.transfer={own.transfer} with pretrain.task=sparse_masking, which trains the encoder alone.\n"
            f"It must be pretrain.transfer=encoder."
        )
    if settings.trainer.devices > 1 and settings.trainer.sync_batchnorm:
        raise ConfigError(
            "trainer.sync_batchnorm=true with pretrain.task=sparse_masking would count masked positions.\n"
            "It must be trainer.sync_batchnorm=false."
        )


def _check_masked_patches(settings: Any) -> None:
    own = settings.pretrain
    if own.masking == "none" and own.loss_over == "masked":
        raise ConfigError(
            "pretrain.loss_over=masked with pretrain.masking=none leaves no pixel to learn from.\n"
            "pretrain.loss_over must be box or image."
        )
    if own.contrastive > 0 and own.masking == "none":
        raise ConfigError(
            "pretrain.contrastive compares two maskings of an image, and pretrain.masking=none has none.\n"
            "pretrain.masking must be central, random or adaptive; or set pretrain.contrastive=0."
        )
    if own.contrastive > 0 and own.batch_size < 2 * settings.trainer.devices:
        raise ConfigError(
            f"pretrain.contrastive compares the images of a batch, but a device has fewer than two.\n"
            f"pretrain.batch_size must be at least {2 * settings.trainer.devices}; or set pretrain.contrastive=0."
        )
