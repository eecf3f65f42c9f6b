"""Runs any convolutional encoder on the visible part of an image (SparK, Tian et al. 2023, section 3.1).

Sparse convolutions compute visible positions from visible positions alone. Dense layers compute the same if the mask is
applied again after each of them; index-based sparse layers are slow on CPUs. Nothing of a masked pixel reaches the
features, masked regions do not shrink from layer to layer, and batch statistics are those of visible positions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import instancenorm, pooling
from torch.nn.modules.batchnorm import _BatchNorm

MIXING = (
    *(pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd, pooling._AdaptiveMaxPoolNd),
    *(nn.LPPool2d, nn.GroupNorm, instancenorm._InstanceNorm),
)
"""Layers whose output at one position depends on others, next to convolutions and batch normalisation."""


class Visible:
    """Which positions of the maps in a network are visible, while :meth:`within` is open; otherwise all are.

    A position of a coarser map is visible if any pixel in it is.
    """

    def __init__(self) -> None:
        self.pixels: Tensor | None = None
        self._by_size: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    @contextmanager
    def within(self, pixels: Tensor) -> Iterator[None]:
        """Within the block ``pixels`` (N, 1, H, W) are visible where they are 1, masked where they are 0."""
        self.pixels = pixels
        try:
            yield
        finally:
            self.pixels = None
            self._by_size = {}

    def at(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """For maps (N, C, h, w): 1 where visible, (N, 1, h, w) in their type; and the number of visible positions."""
        assert self.pixels is not None  # noqa: S101 (for the type checker)
        size = (maps.shape[-2], maps.shape[-1])
        if size not in self._by_size:
            mask = F.adaptive_max_pool2d(self.pixels, size)  # [N, 1, h, w]
            self._by_size[size] = (mask, mask.sum())
        mask, count = self._by_size[size]
        return mask.to(maps.dtype), count

    def mask(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w) with zeros where they are masked; unchanged outside of :meth:`within`."""
        return maps if self.pixels is None else maps * self.at(maps)[0]


def see_only_visible(network: nn.Module) -> Visible:
    """Make the layers of a network see visible positions alone; weights and their names do not change.

    Masked positions are zero in what convolutions with a kernel or stride, pooling and normalisation read, in what
    normalisation gives, and in the network's own output: whatever layers of one position yield there is never read.
    In training, batch normalisation takes the statistics of visible positions. Other means over positions (group
    normalisation, squeeze and excitation) count masked ones as zeros.

    Returns:
        what is visible: everything, until it is set.
    """
    visible = Visible()
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.forward = functools.partial(_normalize, layer, visible)  # type: ignore[method-assign]
        elif isinstance(layer, MIXING) or (isinstance(layer, nn.Conv2d) and _has_extent(layer)):
            layer.register_forward_pre_hook(functools.partial(_mask_input, visible))
    network.register_forward_hook(functools.partial(_mask_output, visible))
    return visible


def _has_extent(layer: nn.Conv2d) -> bool:
    """Whether a convolution reads other positions than it writes: it has a larger kernel than 1, or a stride."""
    return any(side != 1 for side in (*layer.kernel_size, *layer.stride))


def _mask_input(visible: Visible, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    del layer
    maps, *others = inputs
    return (visible.mask(maps), *others)


def _mask_output(visible: Visible, network: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    del network, inputs
    return [visible.mask(maps) for maps in output] if isinstance(output, list | tuple) else visible.mask(output)


def _normalize(layer: _BatchNorm, visible: Visible, maps: Tensor) -> Tensor:
    """The forward of a batch normalisation, with what timm adds to it: dropout of blocks and activation."""
    if visible.pixels is None or not layer.training:
        return visible.mask(type(layer).forward(layer, maps))
    mask, count = visible.at(maps)
    output, mean, variance = MaskedBatchNorm.apply(maps, mask, count, layer.weight, layer.bias, layer.eps)
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean.to(layer.running_mean), momentum)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            layer.running_var.lerp_(unbiased.to(layer.running_var), momentum)
    for part in (getattr(layer, "drop", None), getattr(layer, "act", None)):
        output = part(output) if isinstance(part, nn.Module) else output
    return output


class MaskedBatchNorm(torch.autograd.Function):
    """Batch normalisation of maps (N, C, h, w) with the statistics of visible positions, and zeros at masked ones.

    Arguments: maps; ``mask`` (N, 1, h, w), 1 where visible; ``count``, the sum of the mask; weight and bias (C,) or
    None; eps. Returns maps, mean (C,) and biased variance (C,). Built of PyTorch's fused kernels, over all positions:
    on a CPU three times as fast as the sums written out.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, mask: Tensor, count: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        masked = maps * mask  # [N, C, h, w]
        kind = torch.float64 if maps.dtype == torch.float64 else torch.float32
        ones = torch.ones(maps.shape[1], dtype=kind, device=maps.device)
        _, mean, deviation = torch.native_batch_norm(masked, ones, ones, None, None, True, 0.0, eps)  # zeros included
        share = mask.numel() / count.double()  # all positions / visible ones
        variance = share * (deviation.double().pow(-2) - eps + mean.double().square())  # mean square of visible ones
        mean = share * mean.double()
        variance = (variance - mean.square()).clamp(min=0).to(kind)  # [C]
        mean = mean.to(kind)
        output = F.batch_norm(masked, mean, variance, weight, bias, False, 0.0, eps).mul_(mask)
        ctx.save_for_backward(masked, mask, count, ones if weight is None else weight, mean, (variance + eps).rsqrt())
        ctx.affine = (weight is not None, bias is not None)
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        masked, mask, count, weight, mean, scale = ctx.saved_tensors
        gradient = gradient * mask
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, masked, weight, None, None, mean, scale, True, 0.0, (False, True, True)
        )
        # weight * scale * (gradient - mean of gradients - normalised * mean of gradient * normalised), when visible
        first = weight * scale
        second = -first * scale * of_weight / count
        third = -first * of_bias / count - second * mean
        a, b, c = (factor.to(gradient.dtype).view(1, -1, 1, 1) for factor in (first, second, third))
        of_maps = torch.addcmul(c, masked, b).addcmul_(gradient, a).mul_(mask)
        has_weight, has_bias = ctx.affine
        return of_maps, None, None, of_weight if has_weight else None, of_bias if has_bias else None, None
