"""The masks of the pre-training stage (Proposed MTL pre-training stage; Equation 1's limits).

Patches come with the sample, as corners and sizes, and are only rasterised here, where the picture already is: a mask
then depends on the sample's own random numbers, not on the device or the batch it travels in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PAPER_SIZE = 480
"""Side of the paper's pictures, in pixels: patch sizes are given for it and scale with the input."""


def central_box(size: int) -> tuple[int, int]:
    """First and one-past-last pixel of the central region along a side: W/6 and 5W/6, rounded."""
    return round(size / 6), round(5 * size / 6)


def patch_sides(size: int, sides: tuple[int, int]) -> tuple[int, int]:
    """Smallest and largest side of a patch in a picture of side ``size``, from the sides at 480 px; at least 1."""
    smallest, largest = (max(1, round(side * size / PAPER_SIZE)) for side in sides)
    return smallest, largest


def rasterize(patches: Tensor, size: int) -> Tensor:
    """Patches (N, P, 3) of top, left, side -> mask (N, 1, size, size) float, 1 inside any patch."""
    pixel = torch.arange(size, device=patches.device)
    top, left, side = patches.unsqueeze(-1).unbind(dim=2)  # each [N, P, 1]
    rows = ((pixel >= top) & (pixel < top + side)).float()  # [N, P, H]
    columns = ((pixel >= left) & (pixel < left + side)).float()  # [N, P, W]
    return (rows.mT @ columns > 0).float().unsqueeze(1)  # a pixel is masked if any patch covers its row and column


def harder_patches(patches: Tensor, hardness: Tensor, count: int, seeds: Tensor) -> Tensor:
    """Of each sample's patches some that lie where reconstruction is hard, drawn without replacement.

    A patch's chance is in proportion to the mean of ``hardness`` under it. (Efraimidis and Spirakis 2006: the largest
    of u ** (1 / weight), u uniform.)

    Args:
        patches: (N, P, 3) of top, left, side.
        hardness: (H, W), above 0.
        count: patches to keep, at most P.
        seeds: (N,) integers, one per sample, so that the choice is the same on every device.

    Returns:
        (N, count, 3).
    """
    # On the CPU: some accelerators have no double, and on CUDA sums along a dimension are not the same twice.
    total = F.pad(hardness.cpu().double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    top, left, side = patches.cpu().unbind(dim=2)  # each [N, P]
    low, right = top + side, left + side
    weight = (total[low, right] - total[top, right] - total[low, left] + total[top, left]) / side.square()
    uniform = torch.stack(
        [torch.rand(patches.shape[1], generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    )
    keys = uniform.to(weight).clamp(min=1e-12).log() / weight.clamp(min=1e-12)
    chosen = keys.topk(count, dim=1).indices.to(patches.device)
    return patches.gather(1, chosen.unsqueeze(2).expand(-1, -1, 3))


def box_region(size: int, device: torch.device | None = None) -> Tensor:
    """The central box as a mask, (1, 1, size, size) float."""
    start, end = central_box(size)
    region = torch.zeros(1, 1, size, size, device=device)
    region[..., start:end, start:end] = 1
    return region


def hide(image: Tensor, mask: Tensor, fill: str = "zero", noise_seeds: Tensor | None = None) -> Tensor:
    """Cover the masked pixels of a normalised picture.

    Args:
        image: (N, 3, H, W) normalised picture.
        mask: (N, 1, H, W), 1 where hidden.
        fill: ``zero`` (the data set's mean colour after normalisation; the paper does not say what it paints),
            ``mean`` (each picture's own mean colour) or ``noise`` (standard normal).
        noise_seeds: (N,) integers, one per sample, for ``fill="noise"``.
    """
    if fill == "zero":
        return image * (1 - mask)
    if fill == "mean":
        cover = image.mean(dim=(2, 3), keepdim=True)
        return image * (1 - mask) + cover * mask
    if noise_seeds is None:
        raise ValueError("fill='noise' needs one seed per sample, so that it is the same on every device")
    noise = torch.stack(
        [torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in noise_seeds]
    )
    return image * (1 - mask) + noise.to(image) * mask
