"""U-Net-Id (Wagner et al. 2020, on buildings): three parallel U-Nets for border, mask and interior.

From the original: three targets: the mask, its border (4 pixels outside it and 3 inside) and its interior (eroded by 2
pixels); three parallel U-Nets, whose last activations are concatenated and fed to each of three output heads of two
convolutions. Choices: blocks (:mod:`models.comparators.pyramid`); the widths in pixels refer to 512 px and scale with
the image, to at least one pixel; the sum of three losses of equal weight. Left out: the extraction of single buildings
from borders and interiors, since only the mask is compared here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.comparators.pyramid import Contracting, Expanding, double_conv, widths_of
from models.noise_processing import dilation, erosion

TARGETS = ("border", "mask", "interior")
OUTSIDE, INSIDE, ERODED = 4, 3, 2
"""Widths of the border outside and inside the mask, and of the erosion of the interior, in pixels at 512 px."""


class UNetId(nn.Module):
    """Three U-Nets that share their last features; the prediction is the mask head's.

    Args:
        width: channels of each U-Net's first level; each of four more doubles them.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 16.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = widths_of(width)
        self.unets = nn.ModuleDict({name: nn.Sequential(Contracting(widths), Expanding(widths)) for name in TARGETS})
        fed = len(TARGETS) * width
        heads = {name: nn.Sequential(double_conv(fed, width), nn.Conv2d(width, 1, kernel_size=1)) for name in TARGETS}
        self.heads = nn.ModuleDict(heads)

    def forward(self, image: Tensor) -> Tensor:
        return self.heads["mask"](self._features(image))

    def _features(self, image: Tensor) -> Tensor:
        return torch.cat([unet(image) for unet in self.unets.values()], dim=1)  # [N, 3 C, H, W]

    def training_loss(self, image: Tensor, occluded: Tensor, mask_loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The sum over the three outputs; occluded (N, 1, H, W), 0 or 1."""
        features = self._features(image)
        terms = [mask_loss(self.heads[name](features), target) for name, target in targets(occluded).items()]
        return torch.stack(terms).sum()


def targets(occluded: Tensor) -> dict[str, Tensor]:
    """Mask (N, 1, H, W) of 0 and 1 -> border, mask and interior, each of that shape."""
    side = occluded.shape[-1]
    outside, inside, eroded = (max(1, round(pixels * side / 512)) for pixels in (OUTSIDE, INSIDE, ERODED))
    border = dilation(occluded, outside) - erosion(occluded, inside)
    return {"border": border, "mask": occluded, "interior": erosion(occluded, eroded)}
