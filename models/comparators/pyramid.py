"""Building blocks of the UNet-like comparators: a contracting and an expanding path, with batch normalisation.

The originals' code is not public and their abstracts do not describe the blocks. All comparators share these, so that
no row of a table is better because of its blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation

LEVELS = 5


def widths_of(base_width: int) -> list[int]:
    """Channels of each level, doubled from one to the next: 64 -> 64, 128, 256, 512, 1024."""
    return [base_width * 2**level for level in range(LEVELS)]


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch normalisation and ReLU; height and width stay."""
    return nn.Sequential(
        *Conv2dNormActivation(in_channels, out_channels), *Conv2dNormActivation(out_channels, out_channels)
    )


class Contracting(nn.Module):
    """A double convolution per level, with max pooling between levels.

    Shape: (N, 3, H, W) -> maps (N, widths[0], H, W), (N, widths[1], H/2, W/2) ...
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(double_conv(fed, width) for fed, width in itertools.pairwise([3, *widths]))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [self.levels[0](image)]
        for level in self.levels[1:]:
            maps.append(level(F.max_pool2d(maps[-1], 2)))
        return maps


class Expanding(nn.Module):
    """Back to full resolution: transposed convolution, concatenation with the skip, double convolution.

    Shape: the maps of :class:`Contracting` -> (N, widths[0], H, W).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2)
            for shallow, deep in reversed(list(itertools.pairwise(widths)))
        )
        self.merge = nn.ModuleList(double_conv(2 * width, width) for width in reversed(widths[:-1]))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = maps[-1]
        for up, merge, skip in zip(self.up, self.merge, reversed(maps[:-1]), strict=True):
            x = merge(torch.cat([up(x), skip], dim=1))  # [N, 512, H/8, W/8] ... [N, 64, H, W]
        return x
