"""Sparse masked modelling for convolutional networks, from top to bottom (SparK, Tian et al., ICLR 2023).

``sample_units -> encode the visible part -> densify -> decode -> unit_loss``. In shapes N is the batch, S the image's
side in pixels, U units along a side, u = S / U the side of a unit.

The paper masks units of 32 px, the encoder's stride, of images of 224 px. Small images have few such units, so units
are smaller here and a coarser position is visible if any unit in it is: at 64 px with 8 x 8 units of 8 px, the maps of
stride 8 and finer are masked as units are, those of stride 16 and 32 rarely.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from models.sparse_encoder import see_only_visible

EPSILON = 1e-6
"""Added to a unit's variance."""


def sample_units(seeds: Tensor, units: int, ratio: float, size: int) -> Tensor:
    """Masks of random units anywhere in the image; every image has the same number of them.

    Args:
        seeds: (N,) integers, one per sample, so that a mask depends on neither device nor batch.
        units: U.
        ratio: masked share of the units, in 0..1; at least one is masked and one visible.
        size: S, a multiple of U.

    Returns:
        (N, 1, S, S) float, 1 where masked.
    """
    count = min(max(1, round(ratio * units**2)), units**2 - 1)
    orders = [torch.randperm(units**2, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    masked = (torch.stack(orders) < count).float().view(-1, 1, units, units)  # [N, 1, U, U]
    side = size // units
    mask = masked.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)  # [N, 1, S, S]
    return mask.to(seeds.device)


class SparseAutoencoder(nn.Module):
    """An encoder that sees visible pixels alone, and a light decoder that fills in the rest.

    Only ``trunk.encoder`` is kept after pre-training; it is called as in :class:`models.parser.FaceParser`.

    Args:
        encoder: encoder name of segmentation-models-pytorch.
        width: channels of the decoder at the coarsest map; half as many at each finer one (768 in the paper, for a
            ResNet-50).
        encoder_state: initial weights of the encoder, or None for random ones.

    Shape: images (N, 3, S, S), normalised, and mask (N, 1, S, S), 1 where masked -> (N, 3, S, S): the pixels of each
    unit, normalised by its own mean and deviation.
    """

    trunk: nn.ModuleDict

    def __init__(self, encoder: str, width: int, encoder_state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        inner: Any = smp.encoders.get_encoder(encoder, weights=None)
        if encoder_state is not None:
            inner.load_state_dict(dict(encoder_state))
        self.trunk = nn.ModuleDict({"encoder": inner})
        channels = inner.out_channels[:0:-1]  # of the maps, from the coarsest to stride 2
        widths = [max(1, width >> level) for level in range(len(channels) + 1)]
        self.densify = nn.ModuleList(
            Densify(own, wide, 3 if level else 1) if own else nn.Identity()  # some encoders have no map of stride 2
            for level, (own, wide) in enumerate(zip(channels, widths, strict=False))
        )
        self.decoder = LightDecoder(widths)
        self.visible = see_only_visible(inner)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        pixels = 1 - mask  # [N, 1, S, S], 1 where visible
        with self.visible.within(pixels):
            pyramid = self.trunk["encoder"](image * pixels)  # [N, 3, S, S], [N, C1, S/2, S/2] ... [N, C5, S/32, S/32]
        dense: list[Tensor | None] = []
        for maps, level in zip(pyramid[:0:-1], self.densify, strict=True):
            dense.append(level(maps, pixels) if isinstance(level, Densify) else None)  # [N, width, S/r, S/r]
        return self.decoder(dense)  # [N, 3, S, S]


class Densify(nn.Module):
    """Fills the masked positions of one scale's maps with a learned token: norm, token, projection (section 3.2).

    Args:
        channels: of the encoder's maps.
        width: of the decoder's.
        kernel: side of the projection's kernel.

    Shape: maps (N, channels, h, w) and visible pixels (N, 1, S, S) -> (N, width, h, w).
    """

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.token = nn.Parameter(torch.empty(1, channels, 1, 1))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.projection = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        self.visible = see_only_visible(self.norm)

    def forward(self, maps: Tensor, pixels: Tensor) -> Tensor:
        with self.visible.within(pixels):
            normalised = self.norm(maps)  # [N, channels, h, w], zero where masked
            mask, _ = self.visible.at(normalised)  # [N, 1, h, w]
        return self.projection(normalised + self.token.to(normalised.dtype) * (1 - mask))


class LightDecoder(nn.Module):
    """Blocks that double the resolution and halve the channels, up to the image's (section 3.2).

    Args:
        widths: channels at each scale, from the coarsest to the image's.

    Shape: a list of maps (N, width, h, w), from the coarsest, None where a scale has none -> (N, 3, S, S).
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(own, own, kernel_size=4, stride=2, padding=1),
                *(nn.Conv2d(own, own, 3, padding=1, bias=False), nn.BatchNorm2d(own), nn.ReLU6()),
                *(nn.Conv2d(own, finer, 3, padding=1, bias=False), nn.BatchNorm2d(finer)),
            )
            for own, finer in itertools.pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], 3, kernel_size=1)

    def forward(self, dense: list[Tensor | None]) -> Tensor:
        decoded: Tensor | None = None
        for maps, block in zip(dense, self.blocks, strict=True):
            if maps is not None:
                decoded = maps if decoded is None else decoded + maps
            decoded = block(decoded)  # [N, width, h, w] -> [N, width / 2, 2h, 2w]
        return self.head(decoded)


def patchify(image: Tensor, units: int) -> Tensor:
    """Images (N, C, S, S) -> the values of each unit (N, U * U, C * u * u)."""
    batch, channels, size, _ = image.shape
    side = size // units
    split = image.reshape(batch, channels, units, side, units, side)  # [N, C, U, u, U, u]
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, units**2, channels * side**2)


def unpatchify(values: Tensor, units: int) -> Tensor:
    """The inverse of :func:`patchify`, for three channels."""
    batch = len(values)
    side = round((values.shape[2] / 3) ** 0.5)
    split = values.reshape(batch, units, units, 3, side, side)  # [N, U, U, C, u, u]
    return split.permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, units * side, units * side)


def unit_statistics(image: Tensor, units: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each unit of images (N, 3, S, S), over pixels and channels: (N, U * U, 1) each."""
    variance, mean = torch.var_mean(patchify(image, units).float(), dim=2, keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def unit_loss(prediction: Tensor, image: Tensor, mask: Tensor, units: int) -> Tensor:
    """Mean squared error of the normalised pixels of masked units (section 3.3).

    Args:
        prediction: (N, 3, S, S), the output of :class:`SparseAutoencoder`.
        image: (N, 3, S, S).
        mask: (N, 1, S, S), 1 where masked, the same within a unit.
        units: U.

    Returns:
        scalar.
    """
    mean, deviation = unit_statistics(image, units)
    target = (patchify(image, units).float() - mean) / deviation  # [N, U * U, 3 * u * u]
    error = (patchify(prediction, units).float() - target).square().mean(dim=2)  # [N, U * U]
    masked = patchify(mask, units)[..., 0]  # [N, U * U]
    return (error * masked).sum() / masked.sum()


def unit_reconstruction(prediction: Tensor, image: Tensor, mask: Tensor, units: int) -> Tensor:
    """The image with its masked units as predicted, each with its own true mean and deviation: (N, 3, S, S)."""
    mean, deviation = unit_statistics(image, units)
    predicted = unpatchify(patchify(prediction, units).float() * deviation + mean, units)
    return torch.where(mask.bool(), predicted, image.float())
