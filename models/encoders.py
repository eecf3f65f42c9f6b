"""Published encoder weights: downloaded, of a package, or read from a file."""

from __future__ import annotations

import difflib
import functools
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants as hub
from torch import Tensor

from models.packaged_weights import PACKAGED, PackageError, for_normalization, packaged_file, renamed
from models.weights import WeightsError, misfit, read_weights, unfit_weights

UNDILATED = ("densenet", "inception", "vgg", "xception")
"""Families of encoders that cannot be dilated."""
DILATED = ("deeplabv3", "deeplabv3plus", "pan")
"""Architectures that dilate their encoder."""
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts save a state dictionary."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "trunk.")
"""What DistributedDataParallel, torch.compile and networks around an encoder put before its names."""
MOST_PREFIXES = 5


class EncoderError(Exception):
    """The architecture, the encoder, or the weights do not exist or do not fit."""


def require_encoder(name: Any, architecture: Any = "unetplusplus") -> None:
    """Check that an architecture of segmentation-models-pytorch supports an encoder, by the lists of their names.

    Names that timm would look up on a network or in a folder (``hf-hub:``, ``local-dir:``) are none of them.

    Raises:
        EncoderError: with the nearest name that exists.
    """
    known = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    if not isinstance(architecture, str) or architecture not in known:
        raise EncoderError(
            f"model.architecture={architecture} does not exist.\nIt must be one of {', '.join(known)}."
            + _suggestion(str(architecture), known)
        )
    example, fitting = _fitting(architecture)
    if not isinstance(name, str) or (name not in fitting and not (_is_of_timm(name) and architecture != "segformer")):
        raise EncoderError(
            f"model.encoder={name} does not exist or does not fit {architecture}.\n"
            f"It must be an encoder of segmentation-models-pytorch, such as {example}."
            + _suggestion(str(name), sorted(fitting))
        )


def _is_of_timm(name: str) -> bool:
    """Whether this is ``tu-`` and a model in the installed timm, by name, and perhaps a tag of it."""
    return re.fullmatch(r"tu-[\w.]+", name) is not None and timm.is_model(name.removeprefix("tu-"))


@functools.cache
def require_usable(name: str, architecture: str, image_size: int) -> None:
    """Check that an encoder serves an architecture at a size: both are built, and run once, without weights.

    Takes less than two seconds for most; timm's vision transformers have a fixed size or no pyramid of features.

    Raises:
        EncoderError: with what to take instead.
    """
    require_encoder(name, architecture)
    reason = _failure(name, architecture, image_size)
    if reason is None:
        return
    example, _ = _fitting(architecture)
    advice = [f"model.encoder={example} takes any multiple of 32"]
    if architecture != "dpt" and _is_of_timm(name) and _failure(name, "dpt", image_size) is None:
        advice.append(f"model.architecture=dpt takes {name}")
    sizes = [int(size) for size in re.findall(r"_(\d{3})\b", name) if int(size) % 32 == 0]
    if sizes and sizes[0] != image_size and _failure(name, architecture, sizes[0]) is None:
        advice.append(f"datamodule.image_size={sizes[0]} is the size that {name} takes")
    raise EncoderError(
        f"model.encoder={name} does not work in {architecture} at {image_size} px: {reason}\n"
        + "\n".join(["Do one of:", *(f"  - {line}" for line in advice)])
    )


def _failure(name: str, architecture: str, image_size: int) -> str | None:
    """Why a parser with this encoder cannot be built or run, in one line; None if it can. Changes no random state."""
    from models.parser import FaceParser

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        try:
            try:
                with torch.device("meta"):
                    parser = FaceParser(1, name, architecture=architecture)
            except RuntimeError as error:
                if "meta" not in str(error):
                    raise
                parser = FaceParser(1, name, architecture=architecture).to("meta")  # MiT reads values when it is built
            found = parser.eval()(torch.zeros(1, 3, image_size, image_size, device="meta")).shape
        except Exception as error:  # of any layer of any library
            return " ".join(str(error).split())[:200] or type(error).__name__
    return None if found == (1, 1, image_size, image_size) else f"its output is {tuple(found)}."


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
    encoder: str,
    weights: str | Path | None,
    key: str = "model.encoder_weights",
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
) -> dict[str, Tensor] | None:
    """State dictionary of an encoder.

    Args:
        encoder: encoder name of segmentation-models-pytorch.
        weights: ``imagenet`` (downloaded once by segmentation-models-pytorch, then cached), a name of
            :data:`models.packaged_weights.PACKAGED`, the path of a state dictionary saved by ``torch.save``, or None
            for random weights. It may be within another dictionary, under a prefix, with a classifier or decoder, or
            without ``num_batches_tracked``; every weight must be there.
        key: name of the setting, for messages.
        normalization: mean and deviation of the images, by channel, to which packaged weights are fitted; None: those
            that they were trained with.

    Raises:
        EncoderError: with the reason and possible fixes.
    """
    if weights is None:
        return None
    if isinstance(weights, Path):
        return _from_file(encoder, weights)
    if weights in PACKAGED:
        return _from_package(encoder, weights, normalization)
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
    must = f"It must be a state dictionary of {encoder}, written by torch.save and free of code."
    try:
        content = read_weights(path, before_zip=True)
    except WeightsError as error:
        raise EncoderError(f"{path} cannot be read as encoder weights: {error}.\n{must}") from error
    while isinstance(content, Mapping) and (
        inner := [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    ):
        content = content[inner[0]]
    if problem := unfit_weights(content):
        raise EncoderError(f"{path} does not hold encoder weights: {problem}.\n{must}")
    expected = smp.encoders.get_encoder(encoder, weights=None).state_dict()
    state = max(_spellings(content), key=lambda names: _fitting_tensors(names, expected))
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    tops = {_top(name) for name in expected}
    state = {name: value for name, value in state.items() if _top(name) in tops}  # without classifier and decoder
    if state:
        state = {name: torch.zeros_like(value) for name, value in counters.items()} | state
    if problem := misfit(state, expected):
        held = "" if state else f"; the file holds {', '.join(sorted(content)[:3])}"
        raise EncoderError(
            f"{path} does not fit {encoder}: {problem}{held}.\nIt must be a state dictionary of {encoder}."
        )
    return state


def _from_package(
    encoder: str, name: str, normalization: tuple[Sequence[float], Sequence[float]] | None
) -> dict[str, Tensor]:
    try:
        path = packaged_file(name, encoder)
        content = read_weights(path, before_zip=True)
    except (PackageError, WeightsError) as error:
        raise EncoderError(f"The weights {name} cannot be read: {error}") from error
    expected = smp.encoders.get_encoder(encoder, weights=None).state_dict()
    try:
        state = renamed(content, list(expected))
    except (AttributeError, TypeError, ValueError) as error:
        raise EncoderError(
            f"{path} does not fit {encoder}: it holds other tensors.\nInstall its package again."
        ) from error
    if problem := unfit_weights(state) or misfit(state, expected):
        raise EncoderError(f"{path} does not fit {encoder}: {problem}.\nInstall its package again.")
    if normalization is None:
        return state
    trained: Any = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))  # of equal values for each channel
    return for_normalization(state, *normalization, own_mean=trained.mean[0], own_std=trained.std[0])


def _spellings(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A state dictionary with and without the prefixes of its names, and as timm's ``features_only`` spells them."""
    waiting = [dict(state)]
    for _ in range(MOST_PREFIXES):
        stripped = []
        for names in waiting:
            yield names
            named = {f"model.{name}": value for name, value in names.items()}
            yield named
            yield {re.sub(r"^model\.([a-z]+)\.(\d+)\.", r"model.\1_\2.", name): value for name, value in named.items()}
            for prefix in PREFIXES:
                some = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
                stripped += [some] if some else []
        waiting = stripped


def _fitting_tensors(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int:
    return sum(name in state and state[name].shape == value.shape for name, value in expected.items())


def _top(name: str) -> str:
    """The part of an encoder that a tensor belongs to: ``layer1``, or ``model.layer1`` where all are in ``model``."""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "model" else first


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
