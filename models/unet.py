"""The occlusion paper's segmenter (section 3.2, Table 1, Figure 2) and the plain UNet of its Figures 7-9."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation

from models.layers import BatchInstanceNorm2d, ConvBlock, SelfAttention

Count = Literal["all", "paper"]


class Encoder(nn.Module):
    """EN1-EN5: one or two convolutions, then max pooling; in EN4 and EN5 attention replaces the first one.

    Shape: (N, C, H, W) -> the map for the skip (N, C', H, W) and the pooled one (N, C', H/2, W/2).
    """

    def __init__(self, in_channels: int, out_channels: int, attention: bool, kernel: int) -> None:
        super().__init__()
        self.first = SelfAttention(in_channels) if attention else ConvBlock(in_channels, out_channels, kernel)
        self.second = ConvBlock(in_channels if attention else out_channels, out_channels, kernel)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.second(self.first(x))  # [N, C', H, W]
        return skip, self.pool(skip)


class Decoder(nn.Module):
    """DEC5-DEC1: upsampling, concatenation with the skip, two convolutions.

    According to the text the decoder's "convolutional operations" are 2x2 with stride 2, which would undo the
    upsampling. Read as the transposed convolution that upsamples, this gives the published number of parameters.

    Shape: (N, C, H, W) and the skip (N, C', 2H, 2W) -> (N, C', 2H, 2W).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.first = ConvBlock(2 * out_channels, out_channels, kernel)
        self.second = ConvBlock(out_channels, out_channels, kernel)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined = torch.cat([self.up(x), skip], dim=1)  # [N, 2 C', 2H, 2W]
        return self.second(self.first(joined))


class ModifiedUNet(nn.Module):
    """The paper's modified UNet: five encoders, two bottleneck blocks, five decoders (Figure 2).

    It has 17,773,379 parameters. The paper counts 17,657,825 trainable ones, which is this network with attention
    (102,882) and normalisation (12,672) frozen: ``count="paper"``. Attention that is never trained is the identity, so
    the paper's count implies that its network had none. By default everything is trained.

    Args:
        base_width: channels of EN1; each of EN2-EN5 doubles them (32 ... 512). A multiple of 2.
        bottleneck_convs: convolutions of BN1 and BN2 each: 1 as in Table 1 and the published count, 2 as in the text.
        kernel: side of the kernels of encoders and bottleneck.
        decoder_kernel: side of the decoders' kernels; 2 follows the text literally.
        count: which parameters are trained, ``all`` or ``paper``.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits of "occluded"; H and W are multiples of 32. The paper's sigmoid
    is applied in the loss and at prediction.
    """

    def __init__(
        self,
        base_width: int = 32,
        bottleneck_convs: int = 1,
        kernel: int = 3,
        decoder_kernel: int = 3,
        count: Count = "all",
    ) -> None:
        super().__init__()
        widths = [base_width * 2**level for level in range(5)]  # 32, 64, 128, 256, 512
        inward = [3, *widths[:-1]]
        self.encoders = nn.ModuleList(
            Encoder(inward[level], widths[level], attention=level >= 3, kernel=kernel) for level in range(5)
        )
        deepest = widths[-1]
        blocks = [[ConvBlock(deepest, deepest, kernel) for _ in range(bottleneck_convs)] for _ in ("BN1", "BN2")]
        self.bottleneck = nn.Sequential(*(nn.Sequential(*block) for block in blocks))
        outward = [deepest, *reversed(widths)]
        self.decoders = nn.ModuleList(Decoder(outward[step], outward[step + 1], decoder_kernel) for step in range(5))
        self.head = nn.Conv2d(base_width, 1, kernel_size=1)
        if count == "paper":
            for layer in self.modules():
                if isinstance(layer, SelfAttention | BatchInstanceNorm2d):
                    layer.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        _require_multiple(image, 32)
        x, skips = image, []
        for encoder in self.encoders:
            skip, x = encoder(x)  # [N, 32, H, W], [N, 32, H/2, W/2] ... [N, 512, H/16, W/16], [N, 512, H/32, W/32]
            skips.append(skip)
        x = self.bottleneck(x)  # [N, 512, H/32, W/32]
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decoder(x, skip)  # [N, 512, H/16, W/16] ... [N, 32, H, W]
        return self.head(x)


class BaseUNet(nn.Module):
    """The plain UNet of Figures 7-9 (Ronneberger et al. 2015), with padding that keeps the size.

    Args:
        base_width: channels of the first level (64 as published; four more levels double them to 1024).

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 16.
    """

    def __init__(self, base_width: int = 64) -> None:
        super().__init__()
        widths = [base_width * 2**level for level in range(5)]  # 64, 128, 256, 512, 1024
        self.down = nn.ModuleList(_double_conv(fed, width) for fed, width in itertools.pairwise([3, *widths]))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2) for width in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(_double_conv(2 * width, width) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(base_width, 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        _require_multiple(image, 16)
        x, skips = self.down[0](image), []
        for level in self.down[1:]:
            skips.append(x)
            x = level(F.max_pool2d(x, 2))  # [N, 128, H/2, W/2] ... [N, 1024, H/16, W/16]
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))  # [N, 512, H/8, W/8] ... [N, 64, H, W]
        return self.head(x)


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        *Conv2dNormActivation(in_channels, out_channels, norm_layer=None),
        *Conv2dNormActivation(out_channels, out_channels, norm_layer=None),
    )


def _require_multiple(image: Tensor, step: int) -> None:
    height, width = image.shape[-2:]
    if height % step or width % step:
        raise ValueError(f"an image of {width}x{height} pixels: height and width must be multiples of {step}")
