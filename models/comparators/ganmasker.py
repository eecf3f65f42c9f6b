"""The segmentation module of GANMasker (2023): an autoencoder with CBAM on its skip connections.

From the original, as the occlusion paper describes it: an encoder and a decoder that segment the mask, with a
convolutional block attention module (CBAM, Woo et al. 2018) on each skip connection. Choices: five levels of two
convolutions (:mod:`models.comparators.pyramid`), reduction 16. Left out: the second stage, which inpaints the face
behind the mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.comparators.pyramid import Contracting, Expanding, widths_of

REDUCTION = 16
"""Of the channel gate's MLP, to at least 4 channels."""


class ChannelGate(nn.Module):
    """CBAM's channel attention: a shared MLP on average- and max-pooled maps. Shape: (N, C, H, W), kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(4, channels // REDUCTION)
        self.shared = nn.Sequential(
            nn.Conv2d(channels, reduced, kernel_size=1), nn.ReLU(), nn.Conv2d(reduced, channels, kernel_size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        summed = self.shared(x.mean(dim=(2, 3), keepdim=True)) + self.shared(x.amax(dim=(2, 3), keepdim=True))
        return x * summed.sigmoid()


class SpatialGate(nn.Module):
    """CBAM's spatial attention: a 7x7 convolution on channel average and maximum. Shape: (N, C, H, W), kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # [N, 2, H, W]
        return x * self.conv(pooled).sigmoid()


class GANMasker(nn.Module):
    """The segmentation module.

    Args:
        width: channels of the first level; each of four more doubles them.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 16.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = widths_of(width)
        self.encoder = Contracting(widths)
        self.gates = nn.ModuleList(nn.Sequential(ChannelGate(level), SpatialGate()) for level in widths[:-1])
        self.decoder = Expanding(widths)
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        *skips, deepest = self.encoder(image)
        gated = [gate(skip) for gate, skip in zip(self.gates, skips, strict=True)]
        return self.head(self.decoder([*gated, deepest]))
