"""The facial mask detector of Meenpal et al. 2019: VGG-16 features and a fully convolutional decoder.

From the original: VGG-16, pre-trained on ImageNet; a fully convolutional network on its features; binary cross-entropy.
Choices: the decoder is FCN-8s (Long et al. 2015) without fully connected layers: 1x1 scores of pool3, pool4 and pool5,
upsampled by transposed convolutions that are initialised to bilinear interpolation; random weights unless ImageNet's
are configured, so that all comparators start alike. Left out: fc6 and fc7, whose 120 million parameters would see 4x4
positions at 128 px; the original's noise removal (ours is scored for every network) and its face boxes, which no metric
here measures.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions of each level of VGG-16, before its pooling."""


class FacialMaskDetector(nn.Module):
    """VGG-16 with the decoder of FCN-8s.

    Args:
        width: channels of the first level (64 as published), up to eight times as many in the last.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [width * factor for factor in (1, 2, 4, 8, 8)]
        levels = zip(widths, CONVOLUTIONS, strict=True)
        features = make_layers([step for level, count in levels for step in (*[level] * count, "M")])
        self.encoder = nn.ModuleDict({"features": features})  # named as in the published weights
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type] # it has one
        self.scores = nn.ModuleList(nn.Conv2d(level, 1, kernel_size=1) for level in widths[2:])  # of pool3, 4, 5
        self.up = nn.ModuleList(_bilinear(factor) for factor in (8, 2, 2))  # to the image, pool3 and pool4

    def forward(self, image: Tensor) -> Tensor:
        pooled, x = [], image
        for layer in self.encoder["features"].children():
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pooled.append(x)  # [N, 64, H/2, W/2] ... [N, 512, H/32, W/32]
        third, fourth, fifth = (score(x) for score, x in zip(self.scores, pooled[2:], strict=True))
        to_image, to_third, to_fourth = self.up
        return to_image(third + to_third(fourth + to_fourth(fifth)))


@torch.no_grad()
def _bilinear(factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution of one channel that upsamples by ``factor``, initialised to bilinear interpolation."""
    side = 2 * factor
    layer = nn.ConvTranspose2d(1, 1, side, stride=factor, padding=factor // 2, bias=False)
    ramp = 1 - (torch.arange(side) - (side - 1) / 2).abs() / factor
    layer.weight.copy_(torch.outer(ramp, ramp).view(1, 1, side, side))
    return layer
