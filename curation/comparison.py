"""Compares two data sets: local binary patterns and the Kolmogorov-Smirnov test (section 4.3.1, Table 3).

The paper's test treats every pixel as an independent sample. Neighbouring pixels are correlated, so its p falls with
the number of pixels for any data: even halves of one data set differ "significantly" with enough pixels. It is computed
here for a fixed number of pixels, together with a permutation test over images: the distance of the two sets' mean
pattern distributions, against that of random divisions of all images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from scipy.stats import ks_2samp
from skimage.feature import local_binary_pattern

from datamodules.layouts import AugmentedCelebA
from datamodules.layouts.augmented_celeba import MANIFEST
from datamodules.layouts.layout import ALL, SPLITS
from datamodules.layouts.photographs import photographs
from datamodules.reading import read_photograph
from foundation.errors import BrokenFileError, ConfigError, DataError
from foundation.files import require_writable, write_text_atomically
from synthesis.dataset_build import require_integer

POINTS, RADIUS = 24, 8
PATTERNS = POINTS + 2  # uniform ones by their number of bright points, and all others
SIZE = 128


@dataclass(frozen=True)
class Comparison:
    """Result of the comparison of two data sets.

    Args:
        statistic: D of the paper's test, 0..1: the largest distance of the two distributions of patterns.
        p: its p, which also depends on the number of values.
        values: pixels of each set in it.
        image_statistic: the same distance between mean distributions, with equal weights of all images.
        image_p: share of random divisions of the images with the same distance or a larger one.
        images: number of images of each set.
        unreadable: files of either set that were left out.
    """

    statistic: float
    p: float
    values: int
    image_statistic: float
    image_p: float
    images: tuple[int, int]
    unreadable: tuple[str, ...]


def patterns(image: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Image (H, W, 3) uint8 -> uniform local binary patterns (size, size) uint8, 0..25, of its grey values."""
    shrinks = min(image.shape[:2]) > size
    grey = cv2.resize(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
        (size, size),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    return local_binary_pattern(grey, POINTS, RADIUS, method="uniform").astype(np.uint8)


def compare(first: np.ndarray, second: np.ndarray, values: int, permutations: int, seed: int) -> dict[str, Any]:
    """Both tests on two stacks of patterns (N, H, W) and (M, H, W), as the fields of :class:`Comparison`."""
    rng = np.random.default_rng(seed)
    count = min(values, first.size, second.size)
    sampled = [rng.choice(stack.reshape(-1), count, replace=False) for stack in (first, second)]
    paper = ks_2samp(*sampled, method="asymp")
    permutation_rng = np.random.default_rng([seed, 1])  # independent of the number of pixels above
    shares = np.stack([np.bincount(one.reshape(-1), minlength=PATTERNS) / one.size for one in (*first, *second)])
    distributions = shares.cumsum(axis=1)  # [N + M, 26]
    members = np.arange(len(distributions)) < len(first)

    def distance(inside: np.ndarray) -> float:
        return float(np.abs(distributions[inside].mean(axis=0) - distributions[~inside].mean(axis=0)).max())

    found = distance(members)
    farther = sum(distance(permutation_rng.permutation(members)) >= found - 1e-12 for _ in range(permutations))
    return {
        "statistic": float(paper.statistic),
        "p": float(paper.pvalue),
        "values": count,
        "image_statistic": found,
        "image_p": (farther + 1) / (permutations + 1),
        "images": (len(first), len(second)),
    }


def write_comparison(
    roots: Sequence[Path],
    splits: Sequence[str],
    out: Path,
    images: int = 500,
    values: int = 1000,
    permutations: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two folders; print the result and write ``out/comparison.json``.

    Args:
        roots: two folders: built sets of masked faces, CelebA or any folders of photographs; only read.
        splits: of each, ``all``, ``train``, ``val`` or ``test``.
        out: folder of the result.
        images: largest number of images of each, chosen at random.
        values: pixels of each in the paper's test.
        permutations: random divisions in the permutation test.
        seed: of all random choices.

    Raises:
        ConfigError: for an invalid value, or if `out` cannot be made.
        DataError: if a folder holds no image.
    """
    least = {"images": (images, 2), "pixels": (values, 2), "permutations": (permutations, 1), "seed": (seed, 0)}
    for name, (value, minimum) in least.items():
        require_integer(name, value, minimum)
    unreadable: list[str] = []
    require_writable(out, "out")
    first, second = (
        _stack(key, root, split, images, seed, unreadable) for key, root, split in zip("ab", roots, splits, strict=True)
    )
    result = Comparison(**compare(first, second, values, permutations, seed), unreadable=tuple(unreadable))
    names = [f"{root} ({split})" for root, split in zip(roots, splits, strict=True)]
    content = {"a": names[0], "b": names[1], "seed": seed, "permutations": permutations, **asdict(result)}
    write_text_atomically(out / "comparison.json", json.dumps(content, indent=2) + "\n")
    Console(highlight=False).print(_table(names, result, out))
    return result


def _stack(key: str, root: Path, split: str, images: int, seed: int, unreadable: list[str]) -> np.ndarray:
    """Patterns (N, H, W) of a folder's images; unreadable files are added to the list."""
    if split not in (ALL, *SPLITS):
        raise ConfigError(f"{key}_split={split} is not a split.\nExpected: one of {', '.join((ALL, *SPLITS))}.")
    if (root / MANIFEST).is_file():
        files = [sample.image for sample in AugmentedCelebA(root).samples(split)]
    else:
        files = [image.image for image in photographs(root, key) if split in (ALL, image.split)]
    if len(files) < 2:
        raise DataError(f"{root} holds {len(files)} image(s) of the split {split}.\nExpected: two at least.")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(files))[:images])
    found = []
    for place in track(chosen, description=f"patterns of {root.name} ({split})", transient=True):
        try:
            found.append(patterns(read_photograph(files[place])))
        except BrokenFileError:
            unreadable.append(str(files[place]))
    if len(found) < 2:
        raise DataError(f"{root}: {len(found)} of its images can be read.\nExpected: two at least.")
    return np.stack(found)


def _table(names: Sequence[str], result: Comparison, out: Path) -> Table:
    images = f"{result.images[0]} and {result.images[1]} images"
    left_out = f"; {len(result.unreadable)} unreadable files left out" if result.unreadable else ""
    table = Table(
        box=SIMPLE_HEAD,
        title=escape(f"{names[0]} and {names[1]}"),
        caption=f"{escape(str(out / 'comparison.json'))}{left_out}",
    )
    for column in ("test", "samples", "D", "p"):
        table.add_column(column, justify="right" if column in ("D", "p") else "left")
    table.add_row("the paper's", f"{result.values} pixels of each", f"{result.statistic:.4f}", f"{result.p:.3g}")
    table.add_row("of images", images, f"{result.image_statistic:.4f}", f"{result.image_p:.3g}")
    return table
