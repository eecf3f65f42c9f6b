"""The Kolmogorov-Smirnov tests: of pixels as in the paper, and of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import ks_2samp

from curation.comparison import PATTERNS, compare, patterns, write_comparison
from foundation.errors import ConfigError, DataError


def images(folder: Path, count: int, blur: float, seed: int) -> Path:
    """A folder of noise images, blurred."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        noise = gaussian_filter(rng.normal(128, 60, (64, 64)), blur)
        Image.fromarray(np.repeat(noise.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)).save(
            folder / f"{index:03d}.png"
        )
    return folder


def stack(count: int, blur: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = [gaussian_filter(rng.normal(128, 60, (96, 96)), blur).clip(0, 255).astype(np.uint8) for _ in range(count)]
    return np.stack([patterns(np.repeat(one[..., None], 3, axis=2), 64) for one in noise])


def test_patterns_are_the_uniform_ones() -> None:
    found = stack(1, 1.0, 0)
    assert found.shape == (1, 64, 64)
    assert found.max() < PATTERNS
    flat = patterns(np.full((40, 40, 3), 90, np.uint8), 128)
    assert np.unique(flat[20:-20, 20:-20]).tolist() == [24]  # every point as bright as the middle


def test_the_image_test_finds_equal_sets_equal() -> None:
    first, second = stack(40, 3.0, 1), stack(40, 3.0, 2)
    few, many = (compare(first, second, values, 200, seed=0) for values in (500, 160_000))
    assert few["image_p"] == many["image_p"] > 0.05
    assert few["p"] > 0.05
    assert many["p"] < 0.01  # of dependent pixels there are always enough


def test_both_tests_find_different_sets_different() -> None:
    result = compare(stack(20, 0.5, 1), stack(20, 4.0, 2), 2000, 200, seed=0)
    assert result["image_p"] == pytest.approx(1 / 201)
    assert result["p"] < 1e-6


def test_the_papers_statistic_is_scipys() -> None:
    first, second = stack(3, 1.0, 1), stack(3, 2.0, 2)
    result = compare(first, second, 10**9, 1, seed=0)
    expected = ks_2samp(first.ravel(), second.ravel(), method="asymp")
    assert (result["statistic"], result["p"]) == (expected.statistic, expected.pvalue)


def test_the_command_is_deterministic_and_counts_unreadable_files(tmp_path: Path) -> None:
    roots = [images(tmp_path / name, 6, 2.0, seed) for seed, name in enumerate(("one", "two"))]
    (roots[0] / "broken.jpg").write_text("no image")
    found = []
    for out in (tmp_path / "a", tmp_path / "b"):
        result = write_comparison(roots, ["all", "all"], out, permutations=20)
        found.append((out / "comparison.json").read_bytes())
    assert found[0] == found[1]
    assert result.images == (6, 6)
    assert json.loads(found[0])["unreadable"] == [str(roots[0] / "broken.jpg")]


def test_mistakes_are_reported(tmp_path: Path) -> None:
    there = images(tmp_path / "there", 2, 1.0, 0)
    with pytest.raises(DataError, match="is not a folder"):
        write_comparison([tmp_path / "nowhere", there], ["all", "all"], tmp_path / "out")
    with pytest.raises(ConfigError, match="tset is not a split"):
        write_comparison([there, there], ["all", "tset"], tmp_path / "out")
    with pytest.raises(DataError, match="of the split train"):
        write_comparison([there, there], ["all", "train"], tmp_path / "out")
    with pytest.raises(ConfigError, match="images"):
        write_comparison([there, there], ["all", "all"], tmp_path / "out", images=1)
