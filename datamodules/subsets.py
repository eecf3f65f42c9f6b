"""Which faces a run is trained on: nested label fractions, and the folds of a grid search.

Nested label fractions: which faces keep their labels when only a fraction of a training set is labelled.

The paper draws 0.5, 1 and 10 % "randomly" and averages three draws. Here a draw is the prefix of one permutation per
subset, so that the faces of 0.5 % are among those of 1 %, and it is a file that is written once, read ever after and
can be read by a person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.layouts import Sample
from foundation.errors import DataError
from foundation.files import write_text_atomically


@dataclass(frozen=True)
class Manifest:
    """The labelled faces of one fraction and subset.

    Args:
        path: the file that holds the ids, one a line.
        ids: the ids, in the permutation's order.
    """

    path: Path
    ids: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of the set of ids: what of the manifest enters a run's identity."""
        return hashlib.sha256("\n".join(sorted(self.ids)).encode()).hexdigest()[:16]


def count(fraction: float, total: int) -> int:
    """Number of labelled faces: ``max(1, round(fraction * total))``."""
    return max(1, round(fraction * total))


def manifest(folder: Path, dataset: str, ids: list[str], fraction: float, subset: int) -> Manifest:
    """The manifest of a fraction, read from its file or drawn and written.

    Args:
        folder: where manifests are kept.
        dataset: name of the data set.
        ids: ids of all training faces. Their digest is part of the file's place, so that another copy of the data
            set gets manifests of its own.
        fraction: 0 < fraction <= 1.
        subset: 0, 1 or 2: which of the independent draws.

    Raises:
        DataError: if an existing file names faces that the training set does not hold.
    """
    everything = sorted(ids)
    place = hashlib.sha256("\n".join(everything).encode()).hexdigest()[:8]
    path = folder / f"{dataset}-{place}" / f"subset{subset}-{fraction * 100:g}pct.txt"
    if not path.exists():
        order = np.random.default_rng([subset]).permutation(len(everything))
        chosen = [everything[index] for index in order[: count(fraction, len(everything))]]
        write_text_atomically(path, "\n".join(chosen) + "\n")
    chosen = [line for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line]
    unknown = sorted(set(chosen) - set(everything))
    if unknown or not chosen:
        raise DataError(
            f"The label manifest {path} does not fit the training set: "
            + (f"it names {unknown[0]!r}, which is not there." if unknown else "it is empty.")
            + "\nDelete the file to have it drawn again."
        )
    return Manifest(path, tuple(chosen))


def of_fold(samples: Sequence[Sample], split: str, fold: int, count: int) -> list[Sample]:
    """The training faces that a fold trains on, or those that it validates on: at random, the same on any machine.

    Args:
        samples: the training faces. Those made of one photograph are in one fold, or a mask would be judged on a face
            that it was learnt on; folds are of equally many photographs.
        split: ``train`` or ``val``.
        fold: 0 .. count - 1.
        count: number of folds.

    Raises:
        DataError: if there are fewer photographs than folds.
    """
    source = {sample.id: sample.source or sample.id for sample in samples}
    lots = sorted(set(source.values()), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(lots) < count:
        raise DataError(f"The training set is of {len(lots)} photographs, too few for {count} folds.")
    validated = set(lots[fold::count])
    return [sample for sample in samples if (source[sample.id] in validated) == (split == "val")]
