"""The map module of Din et al. 2020: a generator of binary masks trained against a patch discriminator.

From the original: the first of two stages, which segments the mask as an adversarial network. The layers are those of a
public re-implementation, since the authors' code is not public: a 1x1 convolution to 32 channels, five levels of 3x3
convolution, instance normalisation, leaky ReLU and pooling up to 1024 channels, five transposed convolutions with
skips; a patch discriminator that sees only the map; an L1 term of weight 200. Choices: both networks are updated in
the same step on the same batch, so that the run has one optimiser and one schedule like all others; the map is
thresholded at 0.5, not at 0.7; the optimiser of the table, not Adam at 2e-4. Left out: the editing stage, which
inpaints the face behind the mask.
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation

LEVELS = 5


class MapModule(nn.Module):
    """The generator. It returns logits: the original's tanh over (-1, 1) is a rescaled sigmoid of twice its input.

    Args:
        width: channels after the first convolution (32 as published); each of five levels doubles them.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS + 1)]  # 32 ... 1024
        self.first = nn.Conv2d(3, width, kernel_size=1)
        levels = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(_conv(fed, level, normalised=fed > width) for fed, level in levels)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, 3, stride=2, padding=1, output_padding=1)
            for shallow, deep in reversed(levels)
        )
        # The skip of each level is its map before pooling, with as many channels as the map before upsampling.
        self.merge = nn.ModuleList(_conv(shallow + deep, shallow, normalised=True) for shallow, deep in levels[::-1])
        self.last = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = self.first(image), []
        for level in self.down:
            skips.append(level(x))  # [N, 64, H, W] ... [N, 1024, H/16, W/16]
            x = F.max_pool2d(skips[-1], 2)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))  # [N, 512, H/16, W/16] ... [N, 32, H, W]
        return 2 * self.last(x)


class PatchDiscriminator(nn.Module):
    """Classifies each patch of a map as ground truth or generated: four strided convolutions, 8 to ``width`` channels.

    Args:
        width: channels of the last of them (128 as published), a multiple of 8.

    Shape: (N, 1, H, W) in -1..1 -> (N, 1, H/16, W/16) logits of "ground truth".
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        widths = [1, *(max(1, width // 2**step) for step in (4, 2, 1, 0))]  # 8, 32, 64, 128
        layers: list[nn.Module] = []
        for fed, level in itertools.pairwise(widths):
            layers += [nn.Conv2d(fed, level, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1))

    def forward(self, mask: Tensor) -> Tensor:
        return self.layers(mask)


def _conv(in_channels: int, out_channels: int, normalised: bool) -> nn.Sequential:
    norm, activation = nn.InstanceNorm2d if normalised else nn.Identity, partial(nn.LeakyReLU, 0.2)
    return Conv2dNormActivation(in_channels, out_channels, norm_layer=norm, activation_layer=activation, bias=True)
