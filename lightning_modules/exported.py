"""Networks that left this framework as ONNX or TorchScript files, taken back in the place of the trained ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.transforms import MEAN, STD
from foundation.errors import ConfigError, DataError

SUFFIXES = (".onnx", ".torchscript")
METADATA = "halfmask"
"""Key of the metadata in an ONNX file, and name of the file in a TorchScript archive: JSON."""


class ExportedNetwork(nn.Module):
    """An exported file as a network: takes what a trained one takes, and gives what it gives.

    Args:
        answer: images (N, S, S, 3) uint8 -> logits (N, C, S, S) float32.
        size: S.
        name: of the file, for messages.

    Shape: normalised images (N, 3, S, S) float -> logits (N, C, S, S) float32.

    Raises:
        ConfigError: for images of another size: the graph would bring them to its own, and the answer with them.
    """

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray], size: int, name: str) -> None:
        super().__init__()
        self.answer, self.size, self.name = answer, size, name
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] != self.size:
            raise ConfigError(
                f"image_size={image.shape[-1]}: {self.name} was exported for {self.size} px.\n"
                f"Expected: image_size={self.size}, or another export."
            )
        # The graph normalises by itself. Normalised images are whole numbers in disguise: nothing is lost.
        images = (image.float() * self.deviation + self.mean).round().clamp(0, 255).to(torch.uint8)  # type: ignore[operator]
        answered = self.answer(np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy()))
        return torch.from_numpy(answered).to(image.device)


def load_exported(path: Path) -> dict[str, Any]:
    """What an exported file holds, as a checkpoint's content with ``network`` in place of ``state_dict``.

    Raises:
        DataError: if it cannot be read, or is no export of this project.
    """
    read = _read_onnx if path.suffix == ".onnx" else _read_torchscript
    try:
        answer, text = read(path)
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as {path.suffix[1:]} ({type(error).__name__}): {str(error).splitlines()[0]}\n"
            f"Expected: a file that export.py has written."
        ) from error
    try:
        metadata = json.loads(text)
        size = int(metadata["settings"]["datamodule.image_size"])
        about = {key: metadata[key] for key in ("stage", "id", "dataset", "settings", "hyper_parameters")}
        about |= {"class_set": metadata.get("class_set")}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} does not say what it is: it is no export of this project.\nExpected: a file of export.py."
        ) from error
    return {**about, "network": ExportedNetwork(answer, size, path.name), "precision": metadata.get("precision")}


Answer = Callable[[np.ndarray], np.ndarray]


def onnx_session(path: Path, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the GPU where the runtime has one, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    here = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in here]
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _read_onnx(path: Path) -> tuple[Answer, str]:
    session = onnx_session(path)

    # On a CPU one at a time, a sixth faster: the maps of one image stay in its cache.
    at_once = 1 if session.get_providers()[0] == "CPUExecutionProvider" else None

    def answer(images: np.ndarray) -> np.ndarray:
        step = at_once or len(images)
        parts = (images[start : start + step] for start in range(0, len(images), step))
        return np.concatenate([session.run(["logits"], {"image": part})[0] for part in parts])

    return answer, session.get_modelmeta().custom_metadata_map.get(METADATA, "")


def _read_torchscript(path: Path) -> tuple[Answer, str]:
    extra = {f"{METADATA}.json": ""}
    graph = torch.jit.load(path, map_location="cpu", _extra_files=extra).eval()

    def answer(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(graph(torch.from_numpy(images)).numpy())

    said = extra[f"{METADATA}.json"]
    return answer, said.decode() if isinstance(said, bytes) else said


def metadata_of(content: Mapping[str, Any], settings: Mapping[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    """What an exported file says of itself, as plain data.

    Args:
        content: of the checkpoint.
        settings: ``precision``, ``opset`` and whatever else is stated.
        classes: names of the classes; the logits of a segmenter are one channel, which says "occluded".
    """
    return {
        **{key: content[key] for key in ("stage", "id", "dataset", "settings", "hyper_parameters")},
        "class_set": content.get("class_set"),
        **settings,
        "classes": list(classes),
        "input": "image: uint8 RGB (batch, height, width, 3), any height and width",
        "output": "logits: float32 (batch, channels, size, size); argmax over channels, or > 0 where there is one",
        "mean": list(MEAN),
        "std": list(STD),
    }
