"""Exponential moving average of a network's weights: the teacher of self-training, or a better parser at its end."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """A copy of a network whose weights follow it: ``average <- d average + (1 - d) network``.

    With i updates so far, d = min(1 - 1 / (i + 1), ``decay``): the first update copies the network, the next ones
    average all networks since, and old ones are forgotten once ``decay`` is reached (Tarvainen and Valpola 2017, mean
    teacher; UniMatch). Floating-point buffers, such as the statistics of batch normalisation, are averaged like
    weights; others, such as counters, are copied.

    Args:
        network: the network to follow; its present weights are the first average.
        decay: largest d, 0..1.

    Shape: that of the network, in evaluation mode, without gradients.
    """

    updates: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def train(self, mode: bool = True) -> WeightAverage:
        """Stays in evaluation mode."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Follow the network, after its step."""
        decay = decay_at(int(self.updates), self.decay)
        own, others = self.network.state_dict(), network.state_dict()
        averaged = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in averaged], [others[name] for name in averaged], 1 - decay)
        for name in own.keys() - {*averaged}:
            own[name].copy_(others[name])
        self.updates += 1


def decay_at(updates: int, decay: float) -> float:
    """The decay after a number of updates, see :class:`WeightAverage`."""
    return min(1 - 1 / (updates + 1), decay)
