"""Cost of a network at inference, with spectral norms folded: operations, memory of its weights, time."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.layers import folded


def flops(network: nn.Module, size: int) -> int:
    """Floating-point operations for one image (3, size, size); a multiply-add counts as two.

    Counts convolutions and matrix products. Detectors need more operations for images with more detections.
    """
    plain = folded(network)  # the counter's hooks do not work with parametrisations
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        plain.forward(_image(plain, size))
    return counter.get_total_flops()


def megabytes(network: nn.Module) -> float:
    """Size of its parameters and buffers in 10^6 bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in folded(network).state_dict().values()) / 1e6


def milliseconds(network: nn.Module, size: int, rounds: int = 10) -> float:
    """Median time of a forward pass of one image (3, size, size) on the network's device, after two warm-up passes."""
    plain = folded(network)
    image, times = _image(plain, size), []
    with torch.inference_mode():
        for turn in range(2 + rounds):
            started = time.perf_counter()
            plain.forward(image)
            if image.is_cuda:
                torch.cuda.synchronize(image.device)
            if turn >= 2:
                times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def _image(network: nn.Module, size: int) -> torch.Tensor:
    """One black image of the network's dtype and device. Callers use ``forward``, which is not compiled."""
    weight = next(weight for weight in network.parameters() if weight.is_floating_point())
    return torch.zeros(1, 3, size, size, dtype=weight.dtype, device=weight.device)
