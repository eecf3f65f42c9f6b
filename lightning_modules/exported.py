"""Loads exported ONNX files as networks, in place of the trained ones.

TorchScript is written and never loaded: its file is a program with access to the file system
(``torch.from_file(path, shared=True)`` in its graph, or a ``__setstate__``), so that loading a foreign one can change
any file of the user. PyTorch has no mode that reads it as data.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.transforms import MEAN, STD
from foundation.errors import ConfigError, DataError, RunError, explained
from lightning_modules.records import require_hyperparameters, require_record

SUFFIX = ".onnx"
TORCHSCRIPT = ".torchscript"
METADATA = "halfmask"
"""Key of the metadata in an ONNX file, and name of the file in a TorchScript archive: JSON."""
Graph = Callable[[np.ndarray], np.ndarray]
"""Images (N, S, S, 3) uint8 -> logits (N, C, S, S) float32."""
MUST = "It must be a file written by export.py."
FROM_CHECKPOINT = ("stage", "id", "dataset", "settings", "hyper_parameters")


class ExportedNetwork(nn.Module):
    """An exported file as a network with the inputs and outputs of a trained one.

    Args:
        graph: runs the exported graph.
        size: S.
        name: of the file, for messages.
        channels: C; None if it is unknown.

    Shape: normalised images (N, 3, S, S) float -> logits (N, C, S, S) float32.

    Raises:
        ConfigError: for images of another size, which the graph would resize.
        DataError: if the graph fails or gives anything but finite logits of this shape.
    """

    def __init__(self, graph: Graph, size: int, name: str, channels: int | None = None) -> None:
        super().__init__()
        self.graph, self.size, self.name, self.channels = graph, size, name, channels
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] != self.size:
            raise ConfigError(
                f"image_size={image.shape[-1]}: {self.name} was exported for {self.size} px.\n"
                f"It must be image_size={self.size}, or another export."
            )
        # The graph normalises its input. Undoing our normalisation restores the integers exactly.
        images = (image.float() * self.deviation + self.mean).round().clamp(0, 255).to(torch.uint8)  # type: ignore[operator]
        logits = self._logits(np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy()))
        return torch.from_numpy(logits).to(image.device)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        try:
            logits = self.graph(images)
        except Exception as error:  # of any operator of a foreign graph
            if isinstance(explained(error), RunError):  # memory ran out, and the like
                raise
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{self.name} fails on an image: {reason}\n{MUST}") from error
        shape = (len(images), self.channels or (logits.shape[1] if logits.ndim == 4 else -1), self.size, self.size)
        if logits.dtype != np.float32 or logits.shape != shape:
            found = f"{logits.dtype} of shape {logits.shape}"
            raise DataError(f"{self.name} gives {found}, not logits float32 of shape {shape}.\n{MUST}")
        if not np.isfinite(logits).all():
            raise DataError(f"{self.name} gives logits that are NaN or infinite.\n{MUST}")
        return logits


def load_exported(path: Path) -> dict[str, Any]:
    """The content of an exported ONNX file, like that of a checkpoint, with ``network`` for ``state_dict``.

    Raises:
        DataError: if it cannot be read or is not an export of this project.
    """
    try:
        graph, text = _read_onnx(path)
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as onnx ({type(error).__name__}): {str(error).splitlines()[0]}\n"
            f"It must be a file written by export.py."
        ) from error
    try:
        metadata = json.loads(text)
        size = metadata["settings"]["datamodule.image_size"]
        about = {key: metadata[key] for key in FROM_CHECKPOINT}
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} has no metadata of this project.\nIt must be a file written by export.py.") from error
    about |= {key: metadata.get(key) for key in ("class_set", "module", "precision")}
    labels = require_record(about, path)
    require_hyperparameters(about, labels, path)
    if size is None:
        raise DataError(f"{path} does not record its image size.\nIt must be a file written by export.py.")
    channels = 1 if about["stage"] == "segment" else None if labels is None else len(labels)
    return {**about, "network": ExportedNetwork(graph, size, path.name, channels)}


def onnx_session(path: Path, threads: int | None = None) -> Any:
    """An ONNX Runtime session, on a GPU if the runtime supports it, with torch's number of threads by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _read_onnx(path: Path) -> tuple[Graph, str]:
    session = onnx_session(path)

    # One image at a time is a sixth faster on a CPU: its maps stay in the cache.
    at_once = 1 if session.get_providers()[0] == "CPUExecutionProvider" else None

    def graph(images: np.ndarray) -> np.ndarray:
        step = at_once or len(images)
        parts = (images[start : start + step] for start in range(0, len(images), step))
        return np.concatenate([session.run(["logits"], {"image": part})[0] for part in parts])

    text = session.get_modelmeta().custom_metadata_map.get(METADATA, "")
    if text:  # else it is from elsewhere, which the caller reports
        _require_images(session)
    return graph, text


def _require_images(session: Any) -> None:
    """See that a graph takes images and gives logits; its axes may have names in place of numbers.

    Raises:
        ValueError: with what it takes or gives.
    """
    expected = ([("image", "tensor(uint8)", 4)], [("logits", "tensor(float)", 4)])
    for ends, (end,) in zip((session.get_inputs(), session.get_outputs()), expected, strict=True):
        found = [(one.name, one.type, len(one.shape)) for one in ends]
        if found != [end]:
            raise ValueError(f"it has {found} in place of {end}, each a name, type and number of axes")


def refuse_torchscript(path: Path) -> None:
    """Refuse a TorchScript file, by its suffix or its content; it is not loaded, see the top of this file.

    Raises:
        ConfigError: if it is one.
    """
    if path.suffix != TORCHSCRIPT and not _is_torchscript(path):
        return
    raise ConfigError(
        f"checkpoint={path} is a TorchScript file: it contains a program, and loading it would run that.\n"
        f"It must be the run that it was exported from, by its name or folder, a best.ckpt, or an .onnx of export.py."
    )


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):  # names that are not UTF-8, versions
        return False


def metadata_of(content: Mapping[str, Any], settings: Mapping[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    """The metadata of an exported file, as plain data.

    Args:
        content: of the checkpoint.
        settings: further entries, such as ``precision`` and ``opset``.
        classes: names of the classes; a segmenter has one channel of logits, of "occluded".
    """
    return {
        **{key: content[key] for key in FROM_CHECKPOINT},
        **{key: content.get(key) for key in ("class_set", "module")},
        **settings,
        "classes": list(classes),
        "input": "image: uint8 RGB (batch, height, width, 3), any height and width",
        "output": "logits: float32 (batch, channels, size, size); argmax over channels, or > 0 where there is one",
        "mean": list(MEAN),
        "std": list(STD),
    }
