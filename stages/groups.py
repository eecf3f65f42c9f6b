"""Groups of settings shared by several stages: data, parser, Trainer, augmentation, optimiser, schedule."""

from __future__ import annotations

from typing import Literal

from omegaconf import OmegaConf
from pydantic import ConfigDict, Field, model_validator

from datamodules.labels import PAINTING_ORDERS
from datamodules.mask_rules import MaskRules
from engine.settings import MaskColour, MaskValue, PathText, Plugin, ScaleRange, Seed, Settings, setting
from foundation.errors import ConfigError, did_you_mean
from foundation.processor import multiplies_bfloat16

OmegaConf.register_new_resolver(
    "if_bfloat16", lambda then, otherwise: then if multiplies_bfloat16() else otherwise, replace=True
)
"""One of two values for ``conf/``: whether the processor has instructions for bfloat16. The chosen one enters ids."""

SPEED_ONLY = "same samples and scores; changes speed only"
ROUNDING_ONLY = "same arithmetic on another device; equal up to rounding"
LOCATION_ONLY = "location only; file contents enter as the data digest"

SET_ELSEWHERE = {
    "max_epochs": "<stage>.epochs",
    "check_val_every_n_epoch": "<stage>.validate_every",
    "logger": "the group logger",
    "callbacks": "the group callbacks",
    "num_nodes": "torchrun",
    **dict.fromkeys(
        (
            *("max_steps", "min_steps", "min_epochs", "max_time", "num_sanity_val_steps", "use_distributed_sampler"),
            *("enable_checkpointing", "plugins", "default_root_dir", "fast_dev_run", "model_registry", "barebones"),
            *("reload_dataloaders_every_n_epochs", "overfit_batches", "enable_model_summary", "inference_mode"),
        ),
        "the engine, so that runs can be resumed and compared",
    ),
}
"""Trainer arguments that something else sets."""
TRAINER_ARGUMENTS = (
    *SET_ELSEWHERE,
    *("accelerator", "strategy", "devices", "precision", "limit_train_batches", "limit_val_batches"),
    *("limit_test_batches", "limit_predict_batches", "val_check_interval", "log_every_n_steps"),
    *("enable_progress_bar", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("deterministic", "benchmark", "profiler", "detect_anomaly", "sync_batchnorm", "enable_autolog_hparams"),
)
"""Arguments of Lightning's Trainer, listed to detect a mistyped one without importing Lightning."""


class MaskSettings(Settings):
    """What the values of binary masks mean, where they do not say so themselves; enters the id if it is set."""

    occluded: list[MaskValue | MaskColour] | None = setting(
        None,
        "values of occluded pixels: greys, palette indices or [r, g, b]; null: by the values found",
        only="occluded!=null",
    )
    void: MaskValue | MaskColour | None = setting(
        None, "value of pixels that are neither trained on nor scored; null: 255 next to ids", only="void!=null"
    )
    invert: bool = setting(False, "masks mark the visible face", only="invert!=false")

    @property
    def rules(self) -> MaskRules:
        occluded = None if self.occluded is None else tuple(_plain(value) for value in self.occluded)
        return MaskRules(occluded, None if self.void is None else _plain(self.void), self.invert)


def _plain(value: int | list[int]) -> int | tuple[int, int, int]:
    if isinstance(value, int):
        return value
    red, green, blue = value
    return red, green, blue


class DataSettings(Settings):
    """The data set."""

    dataset: str = setting("lapa", "layout of the data set")
    root: PathText = setting("data/LaPa", "folder of the data set", harmless=LOCATION_ONLY)
    layout: Plugin | None = setting(None, "your own layout, by _target_; called with root")
    merging: Literal[None, "official", "zllrunning", "farl"] = setting(
        None, "painting order for labels with one mask per class"
    )
    mask: MaskSettings = Field(default_factory=MaskSettings)
    random_split: bool = setting(
        True,
        "of folder: split at random where it has no split of its own; false: all its images are for training",
        later=True,
    )
    image_size: int = setting(480, "side of the network's input in pixels", ge=32, multiple_of=32)
    eval_batch_size: int = setting(16, "images in a validation or test batch", ge=1, harmless=SPEED_ONLY)
    workers: int | None = setting(None, "loader processes; null: one per core, at most 8", ge=0, harmless=SPEED_ONLY)
    cache: Literal["none", "ram", "disk"] = setting(
        "none", "where decoded images and labels are cached", harmless=SPEED_ONLY
    )


assert set(PAINTING_ORDERS) == {"official", "zllrunning", "farl"}  # noqa: S101 (the Literal above)


class ModelSettings(Settings):
    """The parser."""

    architecture: str | None = setting(
        "unetplusplus", "unetplusplus, or any architecture of segmentation-models-pytorch; null: none"
    )
    network: Plugin | None = setting(None, "your own parser, by _target_; called with classes=<number of classes>")
    encoder: str = setting("resnet50", "any encoder of segmentation-models-pytorch that fits the architecture")
    encoder_weights: PathText | None = setting(
        "imagenet", "imagenet (downloaded once), null (random), imagenet_lite0 (of a package), or a file"
    )
    features: int = setting(16, "channels of UNet++'s full-resolution features", ge=1, only="architecture=unetplusplus")


class TrainerSettings(Settings):
    """Lightning's Trainer. Any of its arguments may be set; undeclared ones enter the id."""

    model_config = ConfigDict(extra="allow")

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting("auto", "kind of device", harmless=ROUNDING_ONLY)
    devices: int = setting(1, "number of devices, and of processes", ge=1)
    strategy: Literal["auto", "ddp", "ddp_spawn"] = setting("auto", "how processes are started", harmless=ROUNDING_ONLY)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = setting(
        "32-true",
        "number format; bf16-mixed on processors with its instructions",
        written="${if_bfloat16:bf16-mixed,32-true}",
    )
    sync_batchnorm: bool = setting(False, "batch statistics over all devices", only="trainer.devices!=1")
    channels_last: bool = setting(
        False, "memory format of convolutions, faster with bf16-mixed", written="${if_bfloat16:true,false}"
    )
    compile: bool = setting(False, "torch.compile of the network")
    deterministic: Literal[True, False, "warn"] = setting("warn", "warn where an operation has no deterministic form")

    @model_validator(mode="after")
    def _extras_are_lightnings(self) -> TrainerSettings:
        for name in self.model_extra or {}:
            if name in SET_ELSEWHERE:
                raise ConfigError(f"trainer.{name} is set by {SET_ELSEWHERE[name]}.\nLeave trainer.{name} out.")
            if name not in TRAINER_ARGUMENTS:
                raise ConfigError(
                    f"There is no setting trainer.{name}.\nIt must be an argument of Lightning's Trainer."
                    + did_you_mean(name, [*TRAINER_ARGUMENTS, *type(self).model_fields], "trainer.")
                )
        return self


class Augmentation(Settings):
    """Augmentation of training images."""

    rotation: float = setting(0.0, "degrees to either side", ge=0, le=180)
    scale: ScaleRange = setting([1.0, 1.0], "smallest and largest zoom")
    flip: float = setting(0.0, "probability of horizontal flipping", ge=0, le=1)
    color: float = setting(0.0, "strength of brightness, contrast, saturation and hue changes", ge=0, le=1)


class Optimizer(Settings):
    """The optimiser."""

    name: Literal["sgd", "adam", "adamw"] = setting("sgd", "update rule")
    lr: float = setting(1e-4, "peak learning rate", gt=0)
    momentum: float = setting(0.9, "momentum, not in the paper", ge=0, le=1, only="name=sgd")
    weight_decay: float = setting(0.0, "weight decay", ge=0)


class Schedule(Settings):
    """The learning rate schedule."""

    name: Literal["constant", "cosine"] = setting("constant", "shape after warm-up")
    warmup: float = setting(0.0, "fraction of the steps with a linear increase from 0", ge=0, le=1)


class TrainingSettings(Settings):
    """Settings of every stage that trains a network."""

    seed: Seed = setting(0, "seed of sample order, augmentation, masks and initial weights", written="${seed}")
    batch_size: int = setting(16, "images in a batch, over all devices", ge=1)
    epochs: int = setting(500, "number of epochs", ge=1)
    steps_per_epoch: int | None = setting(None, "batches per epoch; null: every image once", ge=1)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
