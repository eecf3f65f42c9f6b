"""Builds networks and losses from outside this project, and checks what they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from torch import Tensor, nn

from foundation.errors import ConfigError, causes, in_one_line


def build_external_network(value: Mapping[str, Any], key: str, **added: Any) -> Any:
    """The network that ``{_target_: ..., argument: value}`` describes.

    Args:
        value: the plug-in.
        key: the setting that holds it, for messages.
        added: further arguments.

    Raises:
        ConfigError: if it cannot be built or is not a ``torch.nn.Module``.
    """
    network = _build(value, key, **added)
    if isinstance(network, nn.Module):
        return network
    raise ConfigError(f"{key}: {value['_target_']} gives a {type(network).__name__}.\nIt must give a torch.nn.Module.")


def build_external_loss(value: Mapping[str, Any], key: str) -> Any:
    """The loss that ``{_target_: ..., argument: value}`` describes, called with logits and label.

    Raises:
        ConfigError: if it cannot be built or called.
    """
    loss = _build(value, key)
    if not callable(loss):
        raise ConfigError(
            f"{key}: {value['_target_']} gives a {type(loss).__name__}.\n"
            f"It must give a function of logits and label; a plain function needs _partial_: true."
        )
    return loss


def _build(value: Mapping[str, Any], key: str, **added: Any) -> Any:
    try:
        return instantiate(dict(value), **added, _convert_="all")
    except HydraException as error:
        reason = next((cause for cause in causes(error) if not isinstance(cause, HydraException)), error)
        raise ConfigError(f"{key}: {value['_target_']} failed: {in_one_line(reason)}") from error


def require_logits(logits: Any, shape: tuple[int, ...], key: str, target: str) -> None:
    """Check that an external network returned logits of this shape.

    Raises:
        ConfigError: if not.
    """
    if isinstance(logits, Tensor) and logits.shape == shape:
        return
    found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    raise ConfigError(f"{key}: {target} returned {found}.\nIt must return logits of shape {shape}: (N, classes, H, W).")


def require_scalar(loss: Any, key: str, target: str) -> None:
    """Check that an external loss returned a scalar.

    Raises:
        ConfigError: if not.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return
    found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    raise ConfigError(f"{key}: {target} returned {found}.\nIt must return a scalar tensor, the mean over the batch.")
