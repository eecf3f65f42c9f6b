"""Every setting of ``predict.py`` and ``export.py``; none enters an id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from datamodules.finding.names import CNN_MODEL, YUNET_MODEL, FinderName
from engine.settings import PathText, Settings, setting
from engine.validation import validated
from foundation.errors import ConfigError

CHECKPOINT = "parser, segmenter, name of a run (finetune-0123456789ab), its folder, a best.ckpt, or an exported .onnx"
SHIPPED = {"parsing": "parser", "occlusion": "segmenter"}
"""Task -> the weights of ``pretrained/`` that do it."""


class Device(Settings):
    """The device."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting("auto", "kind of device")


class CPU(Settings):
    """The device."""

    accelerator: Literal["cpu"] = setting("cpu", "kind of device")


class PredictionSettings(Settings):
    """Every setting of ``predict.py``."""

    task: Literal["parsing", "occlusion"] = setting(
        "parsing", "classes of a face's parts, or what occludes it", only="checkpoint=null"
    )
    checkpoint: PathText | None = setting(None, f"{CHECKPOINT}; null: the parser or segmenter, by task")
    input: PathText | int = setting(..., "an image, a video, a folder, a pattern, or a camera's number")
    out: PathText = setting("outputs/predictions", "folder of the results")
    faces: Literal["auto", "box", "whole"] = setting(
        "auto", "auto: every face that is found, else the image; box: found faces only; whole: each image is a face"
    )
    finder: FinderName = setting("auto", "face detector; auto: libfacedetection, else yunet with a model, else dlib")
    finder_model: PathText | None = setting(None, f"{YUNET_MODEL} of yunet; {CNN_MODEL} of dlib_cnn, null: packaged")
    smallest_face: int | None = setting(
        None, "size of the smallest faces in pixels, more is faster; null: 24, in videos 64", ge=16
    )
    overlays: bool = setting(True, "write images with the masks over them")
    parts: bool = setting(False, "of a parser: write a mask for each class too")
    image_size: int | None = setting(None, "side of the network's input; null: as trained", ge=32, multiple_of=32)
    batch_size: int = setting(16, "faces in a batch", ge=1)
    trust: str | None = setting(None, "trusted package: the checkpoint may use a network or loss of it")
    trainer: Device = Field(default_factory=Device)
    landmark_model: PathText | None = setting(
        None, "dlib's shape_predictor_68_face_landmarks.dat; null: the packaged one"
    )
    output_dir: PathText = setting("outputs", "contains the checkpoint's run")


class ExportSettings(Settings):
    """Every setting of ``export.py``."""

    checkpoint: PathText = setting(..., CHECKPOINT)
    format: Literal["onnx", "torchscript"] = setting("onnx", "file format")
    precision: Literal["fp32", "fp16", "int8"] = setting("fp32", "int8: convolutions in 8 bits, calibrated")
    out: PathText | None = setting(None, "the file; null: <output_dir>/exports/<run>-<precision>.<format>")
    dataset: Literal[None, "lapa", "celebamask_hq", "folder", "augmented_celeba", "image_mask_folder"] = setting(
        None, "data set for the comparison with PyTorch; null: the one it was trained on"
    )
    root: PathText | None = setting(None, "its folder; null: its default folder in data/")
    split: Literal["test", "val", "all"] = setting("test", "split of the data set")
    faces: int = setting(70, "maximum number of faces", ge=1)
    calibration: int = setting(128, "maximum number of training faces for the calibration of int8", ge=1)
    image_size: int | None = setting(None, "side of the network's input; null: as trained", ge=32, multiple_of=32)
    rounds: int = setting(30, "timed forward passes for the latency table; 0: no table", ge=0)
    workers: int | None = setting(None, "loader processes; null: one per core, at most 8", ge=0)
    trust: str | None = setting(None, "trusted package: the checkpoint may use a network or loss of it")
    trainer: CPU = Field(default_factory=CPU)
    output_dir: PathText = setting("outputs", "contains the checkpoint's run")


def check_prediction(config: Mapping[str, Any]) -> PredictionSettings:
    """Validate the composed configuration of ``predict.py``.

    Raises:
        ConfigError: for an unknown, missing or invalid setting.
    """
    settings = validated(PredictionSettings, config)
    return settings.model_copy(update={"checkpoint": settings.checkpoint or SHIPPED[settings.task]})


def check_export(config: Mapping[str, Any]) -> ExportSettings:
    """Validate the composed configuration of ``export.py``.

    Raises:
        ConfigError: for an unknown, missing or invalid setting.
    """
    settings = validated(ExportSettings, config)
    if settings.precision == "int8" and settings.format != "onnx":
        raise ConfigError("precision=int8 does not go with format=torchscript.\nIt must be format=onnx.")
    return settings
