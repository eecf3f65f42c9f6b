"""Augmentation of occluded faces: shift, degradation and recolouring."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.labels import OCCLUSION
from datamodules.transforms import Augmentation, FaceTransform, denormalize


def test_shift_and_degradation_are_functions_of_seed_epoch_and_position() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    label = np.zeros((64, 64), np.uint8)
    label[20:40, 20:40] = 1
    moved = FaceTransform(64, Augmentation(shift=0.3, degrade=1.0), OCCLUSION, seed=1)
    first, second = moved(image, label, 3, 5), moved(image, label, 3, 5)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    shifted = FaceTransform(64, Augmentation(shift=0.3), OCCLUSION, seed=1)
    centres = [np.argwhere(shifted(image, label, 0, place)[1] == 1).mean(axis=0) for place in range(40)]
    assert np.std(centres, axis=0).min() > 4
    assert np.abs(np.array(centres) - 29.5).max() <= 0.3 * 64 + 1
    degraded = FaceTransform(64, Augmentation(degrade=1.0), OCCLUSION, seed=1)
    plain = FaceTransform(64, Augmentation(), OCCLUSION, seed=1)
    unlike = [not np.array_equal(degraded(image, None, 0, n)[0], plain(image, None, 0, n)[0]) for n in range(40)]
    assert 10 < sum(unlike) < 40


def test_only_the_occlusion_is_recoloured() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    image[:, ::4] = 100  # folds
    label = np.zeros((64, 64), np.uint8)
    label[20:44, 20:44] = 1
    recolour = FaceTransform(64, Augmentation(recolour=1.0), OCCLUSION, seed=1)
    inside, outside = np.s_[24:40, 24:40], np.ones((64, 64), bool)
    outside[16:48, 16:48] = False  # the edge is mixed
    colours, folds = [], []
    for position in range(30):
        moved, kept = recolour(image, label, 0, position)
        np.testing.assert_array_equal(moved, recolour(image, label, 0, position)[0])
        np.testing.assert_array_equal(kept, label)
        seen = denormalize(moved).astype(int)
        assert (seen[outside] == image[outside]).all()
        occlusion = seen[inside]
        colours.append(occlusion.mean(axis=(0, 1)))
        darker, lighter = occlusion[:, ::4].mean(), occlusion[:, 1::4].mean()
        folds.append(darker / lighter)
    assert np.std(colours, axis=0).min() > 25, "of all colours"
    assert np.median(folds) == pytest.approx(100 / 128, abs=0.08)
    bare, _ = recolour(image, np.zeros_like(label), 0, 0)
    np.testing.assert_array_equal(denormalize(bare), image)
