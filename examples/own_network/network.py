"""A parser of one's own: a light encoder-decoder of depthwise separable convolutions, in plain torch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LightParser(nn.Module):
    """An encoder of three strided levels and a decoder with skip connections, after U-Net and MobileNet.

    Args:
        classes: number of classes, given by the data set.
        width: channels of the first level; each further level has twice as many.

    Shape: (N, 3, H, W) normalised image -> (N, classes, H, W) logits; H and W are multiples of 8.
    """

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        levels = [*pairwise(width * 2**level for level in range(4))]
        self.stem = separable(3, width)
        self.down = nn.ModuleList(separable(fine, coarse, stride=2) for fine, coarse in levels)
        self.up = nn.ModuleList(separable(fine + coarse, fine) for fine, coarse in reversed(levels))
        self.head = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)  # [N, width, H, W]
        skips = []
        for level in self.down:
            skips.append(x)
            x = level(x)  # [N, 2 width, H/2, W/2] ... [N, 8 width, H/8, W/8]
        for level in self.up:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = level(torch.cat([x, skip], dim=1))  # [N, 4 width, H/4, W/4] ... [N, width, H, W]
        return self.head(x)


def separable(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A depthwise 3 x 3 and a pointwise convolution, with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
