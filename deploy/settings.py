"""Every setting of ``predict.py`` and ``export.py``; nothing of them enters an id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from engine.settings import Settings, setting, validated
from foundation.errors import ConfigError

CHECKPOINT = "a run's name, as finetune-0123456789ab, its folder, a best.ckpt, or a file of export.py"


class Device(Settings):
    """The device."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting("auto", "kind of device")


class CPU(Settings):
    """The device."""

    accelerator: Literal["cpu"] = setting("cpu", "kind of device")


class PredictionSettings(Settings):
    """Every setting of ``predict.py``."""

    checkpoint: str = setting(..., CHECKPOINT)
    input: str | int = setting(..., "an image, a video, a folder, a pattern, or a camera's number")
    out: str = setting("outputs/predictions", "folder of the results")
    faces: Literal["auto", "box", "whole"] = setting(
        "auto", "auto: every face that dlib finds, else the image; box: found faces alone; whole: each image is a face"
    )
    overlays: bool = setting(True, "images with the masks over them")
    parts: bool = setting(False, "of a parser: a mask for each class too")
    image_size: int | None = setting(None, "side of the network's input; null: as trained", ge=32, multiple_of=32)
    batch_size: int = setting(16, "faces in a batch", ge=1)
    trust: str | None = setting(None, "package whose code the checkpoint may name: its own network or loss")
    trainer: Device = Field(default_factory=Device)
    landmark_model: str | None = setting(None, "dlib's shape_predictor_68_face_landmarks.dat; null: the packaged one")
    output_dir: str = setting("outputs", "holds the checkpoint's run")


class ExportSettings(Settings):
    """Every setting of ``export.py``."""

    checkpoint: str = setting(..., CHECKPOINT)
    format: Literal["onnx", "torchscript"] = setting("onnx", "of the file")
    precision: Literal["fp32", "fp16", "int8"] = setting("fp32", "int8: convolutions in 8 bits, calibrated")
    out: str | None = setting(None, "the file; null: <output_dir>/exports/<run>-<precision>.<format>")
    dataset: Literal[None, "lapa", "celebamask_hq", "folder", "augmented_celeba", "image_mask_folder"] = setting(
        None, "whose faces the file is checked on; null: what it was trained on"
    )
    root: str | None = setting(None, "folder of these faces; null: its place under data/")
    split: Literal["test", "val", "all"] = setting("test", "of these faces")
    faces: int = setting(70, "how many of them at most", ge=1)
    calibration: int = setting(128, "training faces that int8 takes its ranges from, at most", ge=1)
    image_size: int | None = setting(None, "side of the network's input; null: as trained", ge=32, multiple_of=32)
    rounds: int = setting(30, "of the latency table; 0: none", ge=0)
    workers: int | None = setting(None, "loader processes; null: one per core, at most 8", ge=0)
    trust: str | None = setting(None, "package whose code the checkpoint may name: its own network or loss")
    trainer: CPU = Field(default_factory=CPU)
    output_dir: str = setting("outputs", "holds the checkpoint's run")


def check_prediction(config: Mapping[str, Any]) -> PredictionSettings:
    """A composed prediction as settings.

    Raises:
        ConfigError: for a setting that is unknown, missing or invalid.
    """
    return validated(PredictionSettings, config)


def check_export(config: Mapping[str, Any]) -> ExportSettings:
    """A composed export as settings.

    Raises:
        ConfigError: for a setting that is unknown, missing or invalid.
    """
    settings = validated(ExportSettings, config)
    if settings.precision == "int8" and settings.format != "onnx":
        raise ConfigError("precision=int8 does not go with format=torchscript.\nIt must be format=onnx there.")
    return settings
