"""Batch normalisation of a single value per channel: one image, of which a layer sees one pixel.

The variance of one value is 0 and PyTorch refuses to train on it: the last batch of an epoch may hold one image, and
DeepLabV3+'s pooled branch, or UNet++'s deepest map at 32 px, has one pixel. Such a layer normalises this batch with its
running statistics, as in evaluation, and leaves them as they are. All other batches and layers are unchanged.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def allow_single_values(network: nn.Module) -> None:
    """Make every batch normalisation of a network follow this rule; weights and their names do not change.

    Normalisation over several processes (``trainer.sync_batchnorm``) is left alone: it counts the values of all of
    them, and PyTorch replaces these layers by its own when the training starts.
    """
    for layer in network.modules():
        keeps = isinstance(layer, _BatchNorm) and layer.running_mean is not None
        if keeps and not isinstance(layer, nn.SyncBatchNorm):
            layer.register_forward_pre_hook(_use_running_statistics)
            layer.register_forward_hook(_train_again, always_call=True)


def _use_running_statistics(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    value = inputs[0] if inputs else None
    if layer.training and isinstance(value, Tensor) and value.ndim >= 2 and value.numel() == value.shape[1]:
        layer.training = False
        layer._single_value = True  # type: ignore[assignment]


def _train_again(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    del inputs, output
    if getattr(layer, "_single_value", False):
        layer.training = True
        del layer._single_value
