"""Masked pre-training's masking (section "Proposed MTL Pre-training stage" of the parsing paper), from top to bottom.

The loader samples patches as corners and sizes (NumPy); the device rasterises them and masks the images (PyTorch). A
mask depends only on the sample's random numbers, not on the device or the batch. In shapes N is the batch, P patches, S
the image's side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PAPER_SIZE = 480
"""Side of the paper's images, in pixels: patch sizes are given for it and scale with the input."""

CANDIDATES = {"none": 0, "adaptive": 4}
"""Candidates sampled per masked patch: adaptive masking selects from four times as many."""

HARDNESS_RATE = 0.02
"""Weight of a batch in the running mean of adaptive masking."""


def central_box(size: int) -> tuple[int, int]:
    """Equation 1's limits along a side of ``size`` pixels: first and one-past-last pixel, W/6 and 5W/6, rounded."""
    return round(size / 6), round(5 * size / 6)


def patch_sides(size: int, sides: tuple[int, int]) -> tuple[int, int]:
    """Smallest and largest side of a patch in an image of side ``size``, from the sides at 480 px; at least 1."""
    smallest, largest = (max(1, round(side * size / PAPER_SIZE)) for side in sides)
    return smallest, largest


@dataclass(frozen=True)
class PatchSampling:
    """Which patches are sampled; all lengths in pixels of the network's input.

    Args:
        count: patches per image (128 in the paper). They overlap: 128 patches of the paper's sizes have three
            times the pixels of the central box.
        sides: smallest and largest side.
        region: first and one-past-last pixel, along both axes, of the square that all patches lie inside.
    """

    count: int
    sides: tuple[int, int]
    region: tuple[int, int]

    @staticmethod
    def of(masking: str, size: int, patches: int, patch_size: tuple[int, int]) -> PatchSampling:
        """The patches of a kind of masking.

        Args:
            masking: ``central`` (the paper's: inside the central box), ``random`` (anywhere in the image: row B of the
                paper's Table 3), ``adaptive`` (candidates inside the box, see :func:`sample_hard_patches`; the paper's
                conclusion names adaptive masking as future work) or ``none``.
            size: side of the image, in pixels.
            patches: patches that are masked.
            patch_size: smallest and largest side at 480 px (32 and 64 in the paper).
        """
        region = (0, size) if masking == "random" else central_box(size)
        return PatchSampling(patches * CANDIDATES.get(masking, 1), patch_sides(size, patch_size), region)


def sample_patches(rng: np.random.Generator, sampling: PatchSampling) -> np.ndarray:
    """Square patches with uniform sides and positions: (P, 3) int64 of top, left, side."""
    start, end = sampling.region
    side = rng.integers(sampling.sides[0], sampling.sides[1] + 1, sampling.count)  # [P]
    side = np.minimum(side, end - start)
    top = start + rng.integers(0, end - start - side + 1)  # [P]
    left = start + rng.integers(0, end - start - side + 1)  # [P]
    return np.stack([top, left, side], axis=1)  # [P, 3]


def sample_masking(rng: np.random.Generator, sampling: PatchSampling) -> tuple[np.ndarray, int]:
    """All random numbers of one sample's masking: patches (P, 3), and a seed for noise and the choice of patches."""
    patches = sample_patches(rng, sampling)
    return patches, int(rng.integers(2**31))


def random_masking(
    image: Tensor,
    patches: Tensor,
    seeds: Tensor,
    fill: str = "zero",
    keep: int | None = None,
    hardness: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mask the patches of a batch of images.

    Args:
        image: (N, 3, S, S), normalised.
        patches: (N, P, 3) of top, left, side.
        seeds: (N,) integers, one per sample.
        fill: value of masked pixels, see :func:`fill_masked`.
        keep: patches that are masked, of P candidates (adaptive masking); None masks all.
        hardness: (S, S); which candidates to prefer, see :func:`sample_hard_patches`. None keeps the first.

    Returns:
        The mask (N, 1, S, S) float, 1 where masked; and the masked images (N, 3, S, S).
    """
    if keep is not None and hardness is not None:
        patches = sample_hard_patches(patches, hardness, keep, seeds)  # [N, P, 3] -> [N, keep, 3]
    elif keep is not None:
        patches = patches[:, :keep]  # [N, P, 3] -> [N, keep, 3]
    mask = rasterize(patches, image.shape[-1])  # [N, 1, S, S]
    return mask, fill_masked(image, mask, fill, seeds)  # [N, 3, S, S]


def sample_hard_patches(patches: Tensor, hardness: Tensor, count: int, seeds: Tensor) -> Tensor:
    """A subset of each sample's patches, sampled without replacement, preferring regions that are hard to reconstruct.

    A patch's probability is proportional to the mean of ``hardness`` under it. (Efraimidis and Spirakis 2006: the
    largest of u ** (1 / weight), u uniform.)

    Args:
        patches: (N, P, 3) of top, left, side.
        hardness: (S, S), above 0.
        count: patches to keep, at most P.
        seeds: (N,) integers, one per sample, so that the choice is the same on every device.

    Returns:
        (N, count, 3).
    """
    # On the CPU: some accelerators have no double, and on CUDA cumulative sums are not deterministic.
    total = F.pad(hardness.cpu().double().cumsum(0).cumsum(1), (1, 0, 1, 0))  # integral image [S + 1, S + 1]
    top, left, side = patches.cpu().unbind(dim=2)  # each [N, P]
    low, right = top + side, left + side
    weight = (total[low, right] - total[top, right] - total[low, left] + total[top, left]) / side.square()  # [N, P]
    uniform = torch.stack(
        [torch.rand(patches.shape[1], generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    )  # [N, P]
    keys = uniform.to(weight).clamp(min=1e-12).log() / weight.clamp(min=1e-12)  # [N, P]
    chosen = keys.topk(count, dim=1).indices.to(patches.device)  # [N, count]
    return patches.gather(1, chosen.unsqueeze(2).expand(-1, -1, 3))  # [N, count, 3]


def rasterize(patches: Tensor, size: int) -> Tensor:
    """Patches (N, P, 3) of top, left, side -> mask (N, 1, S, S) float, 1 inside any patch; ``size`` is S."""
    pixel = torch.arange(size, device=patches.device)  # [S]
    top, left, side = patches.unsqueeze(-1).unbind(dim=2)  # each [N, P, 1]
    rows = ((pixel >= top) & (pixel < top + side)).float()  # [N, P, S]
    columns = ((pixel >= left) & (pixel < left + side)).float()  # [N, P, S]
    return (rows.mT @ columns > 0).float().unsqueeze(1)  # masked if any patch covers both row and column


def fill_masked(image: Tensor, mask: Tensor, fill: str, seeds: Tensor) -> Tensor:
    """Replace the masked pixels of normalised images (N, 3, S, S).

    Args:
        image: (N, 3, S, S), normalised.
        mask: (N, 1, S, S), 1 where masked.
        fill: ``zero`` (the data set's mean colour after normalisation; the paper does not name its colour), ``mean``
            (each image's own mean colour) or ``noise`` (standard normal).
        seeds: (N,) integers, one per sample, so that noise is the same on every device.
    """
    if fill == "zero":
        return image * (1 - mask)
    if fill == "mean":
        colour = image.mean(dim=(2, 3), keepdim=True)  # [N, 3, 1, 1]
        return image * (1 - mask) + colour * mask
    noise = torch.stack(
        [torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    )  # [N, 3, S, S]
    return image * (1 - mask) + noise.to(image) * mask


def box_region(size: int, device: torch.device | None = None) -> Tensor:
    """The central box as a mask, (1, 1, S, S) float; ``size`` is S."""
    start, end = central_box(size)
    region = torch.zeros(1, 1, size, size, device=device)
    region[..., start:end, start:end] = 1
    return region


def loss_region(loss_over: str, mask: Tensor) -> Tensor:
    """The pixels that Equation 1 sums over.

    Args:
        loss_over: ``box`` (Equation 1: the central box, masked or not), ``image`` (all pixels) or ``masked``.
        mask: (N, 1, S, S), 1 where masked.

    Returns:
        (N, 1, S, S) or (1, 1, S, S) float, 1 where the loss counts.
    """
    if loss_over == "box":
        return box_region(mask.shape[-1], mask.device)
    return mask if loss_over == "masked" else torch.ones_like(mask)


@torch.no_grad()
def update_hardness(hardness: Tensor, prediction: Tensor, image: Tensor, mask: Tensor) -> None:
    """Adaptive masking's running mean of the squared error at each pixel, over images in which it was masked; in place.

    Args:
        hardness: (S, S), of ones at the start.
        prediction: (N, 3, S, S), normalised.
        image: (N, 3, S, S), normalised.
        mask: (N, 1, S, S), 1 where masked.
    """
    error = (prediction - image).float().square().mean(dim=1, keepdim=True)  # [N, 1, S, S]
    times = mask.sum(dim=0)[0]  # [S, S]: images in which the pixel was masked
    error = (error * mask).sum(dim=0)[0] / times.clamp(min=1)  # [S, S]
    hardness.copy_(torch.where(times > 0, hardness.lerp(error.to(hardness), HARDNESS_RATE), hardness))
