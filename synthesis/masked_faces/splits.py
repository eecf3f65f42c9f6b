"""The photographs and the number of samples of each split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.layouts.layout import SPLITS
from datamodules.layouts.photographs import Photograph
from foundation.errors import DataError
from synthesis.masked_faces.config import MaskedFacesConfig

PAPER_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
"""The paper has 20,000 faces: 14,000 for training, 2,000 for validation, 4,000 for the test."""


def split_photographs(
    config: MaskedFacesConfig, photos: Sequence[Photograph]
) -> dict[str, tuple[list[Photograph], int]]:
    """Split -> its photographs in random order, and its number of samples.

    Raises:
        DataError: if no list gives the source's own splits, or there is no photograph to train on.
    """
    rng = np.random.default_rng([config.seed, 0x5917])
    if config.split == "partition":
        splits = _published_splits(config, photos)
        total = sum(len(members) for members in splits.values())
        shares = {split: len(members) / total for split, members in splits.items()}
    else:
        splits, shares = _random_splits(rng, photos), PAPER_SHARES
        if not all(splits.values()):
            raise DataError(
                f"{config.source} holds {len(photos)} photographs, too few for random splits: "
                f"one of the splits has none.\n"
                f"Expected: ten at least, of several persons; or split=partition, which keeps the source's own."
            )
    counts = {split: round(config.count * shares[split]) if splits[split] else 0 for split in ("val", "test")}
    counts["train"] = config.count - sum(counts.values())
    if not splits["train"] and counts["train"]:
        raise DataError(f"{config.source} has no photograph for the split train.\nExpected: more photographs.")
    return {
        split: ([members[place] for place in rng.permutation(len(members))], counts[split])
        for split, members in splits.items()
    }


def _published_splits(config: MaskedFacesConfig, photos: Sequence[Photograph]) -> dict[str, list[Photograph]]:
    """The source's own splits."""
    splits = {split: [photo for photo in photos if photo.split == split] for split in SPLITS}
    if not any(splits.values()):
        raise DataError(
            f"split=partition, but no list_eval_partition.txt (or .csv) of {config.source} names its images.\n"
            f"Expected: CelebA's list next to its images; or split=paper, random splits of 70/10/20."
        )
    return splits


def _random_splits(rng: np.random.Generator, photos: Sequence[Photograph]) -> dict[str, list[Photograph]]:
    """The paper's splits: all photographs of a known person are in the same split."""
    splits: dict[str, list[Photograph]] = {split: [] for split in SPLITS}
    groups: dict[str, list[Photograph]] = {}
    for photo in photos:
        groups.setdefault(photo.identity or f"/{photo.id}", []).append(photo)
    names, placed, edges = sorted(groups), 0, np.cumsum([PAPER_SHARES[split] for split in SPLITS])
    for place in rng.permutation(len(names)):
        members = groups[names[place]]
        middle = (placed + len(members) / 2) / len(photos)
        splits[SPLITS[min(int(np.searchsorted(edges, middle)), 2)]] += members
        placed += len(members)
    return splits
