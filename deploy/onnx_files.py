"""Writes ONNX files: a graph, its quantisation to int8, its metadata."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_modules.exported import METADATA
from models.deployed import Deployed

OPSET = 20
IN_FLOAT = ("query", "key", "value")
"""Convolutions (parts of their names) that int8 keeps in float: the softmax over their products amplifies rounding."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters log their progress at warning level; show errors only."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", None)]  # None: the root
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@_quiet()
def write_onnx(graph: Deployed, path: Path) -> None:
    """Write a graph as ONNX, with any number of images of any height and width."""
    example = torch.zeros(2, graph.size, graph.size, 3, dtype=torch.uint8)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about the exporter's internals
        torch.onnx.export(
            graph,
            (example,),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: batch, 1: height, 2: width},),
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Quantisation writes copies of the network; in the folder of the draft they are removed with it after a kill."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@_quiet()
def quantize(path: Path, images: Iterator[np.ndarray]) -> None:
    """Quantise convolutions to int8 (weights per channel, activations uint8), calibrated on images (N, S, S, 3) uint8.

    Everything else, such as normalisation and attention, stays in float: rounding it costs more than it saves.
    """
    from onnx import load_model
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class CalibrationImages(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"image": batch} for batch in images), None)

    merged = path.with_suffix(".merged.onnx")
    with _temporary_files_in(path.parent):
        quant_pre_process(str(path), str(merged), skip_symbolic_shape=True)  # folds batch normalisation
        convolutions = [node for node in load_model(merged).graph.node if node.op_type == "Conv"]
        kept = [node.name for node in convolutions if any(part in node.input[1] for part in IN_FLOAT)]
        quantize_static(
            str(merged),
            str(path),
            CalibrationImages(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def describe(path: Path, about: Mapping[str, Any]) -> None:
    """Write the metadata into an ONNX file, and remove the source lines that the exporter records for each node.

    They name every file of the stack, in the home folder of whoever exported.
    """
    import onnx

    model = onnx.load_model(path)
    _remove_sources(model)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    model.producer_name = METADATA
    onnx.save_model(model, path)


def _remove_sources(message: Any) -> None:
    """Clear the documentation and metadata of a message of ONNX and of all messages in it."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                _remove_sources(part)
