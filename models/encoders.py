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

TITLES = {"unetplusplus": "UNet++", "deeplabv3plus": "DeepLabV3+", "segformer": "SegFormer", "linknet": "LinkNet"}
"""Architectures of the parser, in words."""
UNDILATED = ("densenet", "inception", "vgg", "xception")
"""Families of encoders that cannot be dilated, as DeepLabV3+ would have it."""


class EncoderError(Exception):
    """The encoder, or the weights asked for, cannot be had or do not fit."""


def require_encoder(name: str, architecture: str = "unetplusplus") -> None:
    """See that an architecture takes an encoder of segmentation-models-pytorch of that name.

    Raises:
        EncoderError: with the nearest name that exists.
    """
    transformer, kind = architecture == "segformer", TITLES[architecture]
    known = [encoder for encoder in smp.encoders.encoders if encoder.startswith("mit_b") == transformer]
    if architecture == "deeplabv3plus":
        known = [encoder for encoder in known if not encoder.startswith(UNDILATED)]
    of_timm = name.startswith("tu-") and timm.is_model(name.removeprefix("tu-"))
    if name not in known and (transformer or not of_timm):
        near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
        raise EncoderError(
            f"model.encoder={name} does not exist or does not fit {kind}.\n"
            f"Expected: {'mit_b0 to mit_b5' if transformer else 'a convolutional encoder'} of "
            f"segmentation-models-pytorch, as {'mit_b2' if transformer else 'resnet50'}."
            + (f" Did you mean {near[0]}?" if near else "")
        )


def encoder_state(
    encoder: str, weights: str | Path | None, key: str = "model.encoder_weights"
) -> dict[str, Tensor] | None:
    """State dictionary of an encoder.

    Args:
        encoder: encoder name of segmentation-models-pytorch.
        weights: ``imagenet`` (downloaded once by segmentation-models-pytorch, then cached), the path of a state
            dictionary saved by ``torch.save`` (torchvision's own files fit), or None for random weights.
        key: the setting that says so, for messages.

    Raises:
        EncoderError: with what is wrong and the ways out.
    """
    if weights is None:
        return None
    if isinstance(weights, Path):
        return _from_file(encoder, weights)
    was_offline = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = was_offline or not _resolves("huggingface.co")  # else the hub retries for half a minute
    try:
        return smp.encoders.get_encoder(encoder, weights=weights).state_dict()
    except KeyError as fault:
        raise EncoderError(str(fault.args[0])) from fault
    except Exception as fault:  # whatever the hub raises: no route, no file, a proxy's answer
        raise EncoderError(
            f"The {weights} weights of {encoder} could not be downloaded ({type(fault).__name__}) and are not cached.\n"
            f"Do one of:\n"
            f"  - start from random weights: {key}=null\n"
            f"  - give a file: {key}=/path/to/{encoder}.pth (a state dictionary, as torchvision's)"
        ) from fault
    finally:
        hub.HF_HUB_OFFLINE = was_offline


def _from_file(encoder: str, path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a pickle of code, a truncated file, another format
        raise EncoderError(
            f"{path} cannot be read as encoder weights: {type(fault).__name__}.\n"
            f"Expected: a state dictionary of {encoder}, written by torch.save and free of code."
        ) from fault
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}  # ImageNet's classifier
    wanted = smp.encoders.get_encoder(encoder, weights=None).state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        raise EncoderError(
            f"{path} does not fit {encoder}: {len(missing)} tensors missing"
            + (f" (as {missing[0]})" if missing else "")
            + f", {len(unexpected)} unexpected"
            + (f" (as {unexpected[0]})" if unexpected else "")
            + f".\nExpected: a state dictionary of {encoder}."
        )
    return state


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
