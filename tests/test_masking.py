"""Patches of pre-training: positions, rasterisation, filling, adaptive selection."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from models.masking import (
    PatchSampling,
    box_region,
    central_box,
    fill_masked,
    patch_sides,
    rasterize,
    sample_hard_patches,
    sample_patches,
)


@pytest.mark.parametrize(
    ("size", "box", "sides"), [(480, (80, 400), (32, 64)), (64, (11, 53), (4, 9)), (96, (16, 80), (6, 13))]
)
def test_sizes_scale_with_the_input(size: int, box: tuple[int, int], sides: tuple[int, int]) -> None:
    assert central_box(size) == box
    assert patch_sides(size, (32, 64)) == sides


def test_kinds_of_masking() -> None:
    kinds = {kind: PatchSampling.of(kind, 480, 128, (32, 64)) for kind in ("central", "random", "adaptive", "none")}
    assert kinds["central"] == PatchSampling(128, (32, 64), (80, 400)), "as in the paper"
    assert kinds["random"] == PatchSampling(128, (32, 64), (0, 480))
    assert kinds["adaptive"] == PatchSampling(512, (32, 64), (80, 400)), "candidates"
    assert kinds["none"].count == 0


def papers_patches(seed: int, size: int = 480) -> np.ndarray:
    masking = PatchSampling(128, patch_sides(size, (32, 64)), central_box(size))
    return sample_patches(np.random.default_rng(seed), masking)


def test_patches_lie_inside_the_box_and_reach_its_sides() -> None:
    patches = np.concatenate([papers_patches(seed) for seed in range(60)])
    top, left, side = patches.T
    assert side.min() == 32
    assert side.max() == 64
    assert min(top.min(), left.min()) == 80
    assert (top + side).max() == 400
    assert (left + side).max() == 400


def test_random_masking_reaches_the_images_edges() -> None:
    masking = PatchSampling(128, (32, 64), (0, 480))
    patches = np.concatenate([sample_patches(np.random.default_rng(seed), masking) for seed in range(60)])
    assert patches[:, :2].min() == 0
    assert (patches[:, 0] + patches[:, 2]).max() == 480


def test_coverage_of_the_box() -> None:
    """128 patches of 32-64 px overlap: together they mask about 86 % of the central box."""
    masks = rasterize(torch.from_numpy(np.stack([papers_patches(seed) for seed in range(8)])), 480)
    share = masks.sum(dim=(1, 2, 3)) / 320**2
    assert 0.83 < share.mean() < 0.89


def test_rasterised_pixel_by_pixel() -> None:
    patches = np.stack([papers_patches(seed, size=64)[:9] for seed in range(3)])
    mask = rasterize(torch.from_numpy(patches), 64)
    expected = np.zeros((3, 1, 64, 64), dtype=np.float32)
    for index, sample in enumerate(patches):
        for top, left, side in sample:
            expected[index, 0, top : top + side, left : left + side] = 1
    assert np.array_equal(mask.numpy(), expected)


def test_box_is_four_ninths_of_the_image() -> None:
    region = box_region(480)
    assert region.sum() / 480**2 == pytest.approx(4 / 9)
    assert region[0, 0, 80, 80] == region[0, 0, 399, 399] == 1
    assert region[0, 0, 79, 200] == region[0, 0, 200, 400] == 0


@pytest.mark.parametrize("fill", ["zero", "mean", "noise"])
def test_fill_changes_only_masked_pixels(fill: str) -> None:
    image = torch.randn(2, 3, 32, 32) + 2
    mask = rasterize(torch.tensor([[[4, 6, 10]], [[0, 0, 5]]]), 32)
    seeds = torch.tensor([1, 2])
    masked = fill_masked(image, mask, fill, seeds)
    outside = mask.expand_as(image) == 0
    assert torch.equal(masked[outside], image[outside])
    inside = masked[0, :, 4:14, 6:16]
    if fill == "zero":
        assert (inside == 0).all()
    elif fill == "mean":
        assert torch.allclose(inside, image[0].mean(dim=(1, 2)).view(3, 1, 1).expand_as(inside))
    else:
        assert abs(inside.mean()) < 0.3
        assert abs(inside.std() - 1) < 0.2
        alone = fill_masked(image[1:], mask[1:], fill, seeds[1:])
        assert torch.equal(alone[0], masked[1]), "noise depends on the sample's seed, not on the batch"


def test_harder_patches_lie_where_reconstruction_is_hard() -> None:
    rng = np.random.default_rng(0)
    patches = torch.tensor(np.stack([sample_patches(rng, PatchSampling(256, (3, 6), (8, 56))) for _ in range(8)]))
    hardness = torch.full((64, 64), 0.1)
    hardness[:, 32:] = 1.0
    chosen = sample_hard_patches(patches, hardness, 64, torch.arange(8))
    assert chosen.shape == (8, 64, 3)
    for few, many in zip(chosen.tolist(), patches.tolist(), strict=True):
        assert Counter(map(tuple, few)) <= Counter(map(tuple, many)), "a subset of the sample's own patches"
    right = [(some[..., 1] + some[..., 2] / 2 > 32).float().mean() for some in (patches, chosen)]
    assert right[0] < 0.6
    assert right[1] > 0.8
    again = sample_hard_patches(patches[3:4], hardness, 64, torch.tensor([3]))
    assert torch.equal(again[0], chosen[3]), "in any batch"
    assert not torch.equal(sample_hard_patches(patches[3:4], hardness, 64, torch.tensor([4]))[0], chosen[3])
