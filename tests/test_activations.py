"""Sheets of activation maps, for any number of channels and classes."""

from __future__ import annotations

import numpy as np
import pytest

from callbacks.activations import CAPTION, GAP, channel_maps, class_maps
from datamodules.labels import SMALL_AND_LARGE
from datamodules.layouts import PARSED


@pytest.mark.parametrize(("channels", "columns", "rows"), [(16, 4, 4), (8, 3, 3), (1, 1, 1)])
def test_a_sheet_is_the_image_next_to_a_grid(channels: int, columns: int, rows: int) -> None:
    image = np.full((64, 64, 3), 200, dtype=np.uint8)
    maps = np.random.default_rng(0).normal(size=(channels, 64, 64))
    sheet = channel_maps(image, maps)
    assert sheet.size == ((columns + 1) * (128 + GAP), rows * (128 + CAPTION + GAP)), "64 px are shown twice as large"
    assert sheet.getpixel((64, CAPTION + 64)) == (200, 200, 200)


def test_each_channel_has_its_own_scale_and_a_dead_one_is_dark() -> None:
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    ramp = np.linspace(0, 1, 128)[None].repeat(128, axis=0)
    pixels = np.array(channel_maps(image, np.stack([ramp, 100 * ramp - 3, np.full_like(ramp, 7.0)])))
    width, height = 128 + GAP, 128 + CAPTION + GAP
    first, second = (pixels[CAPTION : CAPTION + 128, left : left + 128] for left in (width, 2 * width))
    third = pixels[height + CAPTION : height + CAPTION + 128, width : width + 128]
    assert np.array_equal(first, second)
    assert first[0, -1].sum() > 600
    assert third.max() < 10


def test_probabilities_share_one_scale() -> None:
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    pixels = np.array(class_maps(image, {"hair": np.full((128, 128), 0.1), "nose": np.full((128, 128), 0.9)}))
    faint, bright = (pixels[CAPTION + 64, left + 64].sum() for left in (128 + GAP, 2 * (128 + GAP)))
    assert faint < 150 < bright


@pytest.mark.parametrize("dataset", SMALL_AND_LARGE)
def test_the_default_classes_exist(dataset: str) -> None:
    assert set(SMALL_AND_LARGE[dataset]) <= set(PARSED[dataset].labels.classes)
