"""Published encoder weights: downloaded, or read from a file."""

from __future__ import annotations

import difflib
import socket
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants as hub
from torch import Tensor

UNDILATED = ("densenet", "inception", "vgg", "xception")
"""Families of encoders that cannot be dilated."""
DILATED = ("deeplabv3", "deeplabv3plus", "pan")
"""Architectures that dilate their encoder."""


class EncoderError(Exception):
    """The architecture, the encoder, or the weights do not exist or do not fit."""


def require_encoder(name: str, architecture: str = "unetplusplus") -> None:
    """Check that an architecture of segmentation-models-pytorch supports an encoder.

    Raises:
        EncoderError: with the nearest name that exists.
    """
    known = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in known:
        raise EncoderError(
            f"model.architecture={architecture} does not exist.\nIt must be one of {', '.join(known)}."
            + _suggestion(architecture, known)
        )
    example, fitting = _fitting(architecture)
    of_timm = name.startswith("tu-") and timm.is_model(name.removeprefix("tu-")) and architecture != "segformer"
    if name not in fitting and not of_timm:
        raise EncoderError(
            f"model.encoder={name} does not exist or does not fit {architecture}.\n"
            f"It must be an encoder of segmentation-models-pytorch, such as {example}."
            + _suggestion(name, sorted(fitting))
        )


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def _fitting(architecture: str) -> tuple[str, list[str]]:
    """An example and the names of all encoders that fit an architecture, without timm's (``tu-...``)."""
    if architecture == "dpt":
        return "tu-vit_base_patch16_224.augreg_in21k", []
    transformer = architecture == "segformer"
    fitting = [encoder for encoder in smp.encoders.encoders if encoder.startswith("mit_b") == transformer]
    if architecture in DILATED:
        fitting = [encoder for encoder in fitting if not encoder.startswith(UNDILATED)]
    return ("mit_b2" if transformer else "resnet50"), fitting


def encoder_state(
    encoder: str, weights: str | Path | None, key: str = "model.encoder_weights"
) -> dict[str, Tensor] | None:
    """State dictionary of an encoder.

    Args:
        encoder: encoder name of segmentation-models-pytorch.
        weights: ``imagenet`` (downloaded once by segmentation-models-pytorch, then cached), the path of a state
            dictionary saved by ``torch.save`` (torchvision's own files fit), or None for random weights.
        key: name of the setting, for messages.

    Raises:
        EncoderError: with the reason and possible fixes.
    """
    if weights is None:
        return None
    if isinstance(weights, Path):
        return _from_file(encoder, weights)
    was_offline = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = was_offline or not _resolves("huggingface.co")  # else the hub retries for half a minute
    try:
        return smp.encoders.get_encoder(encoder, weights=weights).state_dict()
    except KeyError as error:
        raise EncoderError(str(error.args[0])) from error
    except Exception as error:  # the hub raises many types: no route, no file, a proxy's response
        raise EncoderError(
            f"The {weights} weights of {encoder} could not be downloaded ({type(error).__name__}) and are not cached.\n"
            f"Do one of:\n"
            f"  - start from random weights: {key}=null\n"
            f"  - give a file: {key}=/path/to/{encoder}.pth (a state dictionary, such as torchvision's)"
        ) from error
    finally:
        hub.HF_HUB_OFFLINE = was_offline


def _from_file(encoder: str, path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle of code, a truncated file, another format
        raise EncoderError(
            f"{path} cannot be read as encoder weights: {type(error).__name__}.\n"
            f"It must be a state dictionary of {encoder}, written by torch.save and free of code."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}  # ImageNet's classifier
    expected = smp.encoders.get_encoder(encoder, weights=None).state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise EncoderError(
            f"{path} does not fit {encoder}: {len(missing)} tensors missing"
            + (f" (such as {missing[0]})" if missing else "")
            + f", {len(unexpected)} unexpected"
            + (f" (such as {unexpected[0]})" if unexpected else "")
            + f".\nIt must be a state dictionary of {encoder}."
        )
    return state


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
