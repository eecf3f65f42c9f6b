"""The faces that a run is trained on: nested label fractions, and the folds of a grid search.

The paper samples 0.5, 1 and 10 % "randomly" and averages over three samples. Here a label fraction is the prefix of one
permutation per subset, so that the faces of 0.5 % are among those of 1 %. It is written once as a text file of ids.
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
from foundation.names import one_line, to_bytes
from foundation.paths import ordinary


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
        """Digest of the set of ids, which enters a run's identity."""
        return hashlib.sha256(to_bytes("\n".join(sorted(self.ids)))).hexdigest()[:16]


def count(fraction: float, total: int) -> int:
    """Number of labelled faces: ``max(1, round(fraction * total))``, but 0 of a fraction of 0."""
    return 0 if fraction == 0 else max(1, round(fraction * total))


def manifest(folder: Path, dataset: str, ids: list[str], fraction: float, subset: int) -> Manifest:
    """The manifest of a fraction, read from its file, or sampled and written.

    Args:
        folder: folder of the manifests.
        dataset: name of the data set.
        ids: ids of all training faces. Their digest is part of the file's path, so that each partial copy of a data set
            gets its own manifests.
        fraction: 0 <= fraction <= 1.
        subset: 0, 1 or 2, the number of the independent sample.

    Raises:
        DataError: if an existing file names faces that the training set does not hold.
    """
    everything = sorted(ids)
    place = hashlib.sha256(to_bytes("\n".join(everything))).hexdigest()[:8]
    path = folder / f"{dataset}-{place}" / f"subset{subset}-{fraction * 100:g}pct.txt"
    if not path.exists():
        order = np.random.default_rng([subset]).permutation(len(everything))
        chosen = [everything[index] for index in order[: count(fraction, len(everything))]]
        write_text_atomically(path, "".join(f"{one_line(name)}\n" for name in chosen) or "\n")
    lines = [line for line in _read(path).split("\n") if line]
    ids_of_lines = {one_line(name): name for name in everything}
    unknown = sorted(set(lines) - set(ids_of_lines))
    if unknown or (not lines and fraction > 0):
        raise DataError(
            f"The label manifest {path} does not fit the training set: "
            + (f"it names {unknown[0]!r}, which is missing." if unknown else "it is empty.")
            + "\nDelete the file; it is sampled again."
        )
    return Manifest(path, tuple(ids_of_lines[line] for line in lines))


def _read(path: Path) -> str:
    try:
        return ordinary(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(
            f"The label manifest {path} cannot be read: {error.strerror}.\nMove it away; it is sampled again."
        ) from error


def of_fold(samples: Sequence[Sample], split: str, fold: int, count: int) -> list[Sample]:
    """The faces that a fold trains on, or validates on: a random division that is the same on every machine.

    Args:
        samples: the training faces. Folds have equally many photographs; faces made from one photograph share a fold,
            so that no face is both trained on and validated.
        split: ``train`` or ``val``.
        fold: 0 .. count - 1.
        count: number of folds.

    Raises:
        DataError: if there are fewer photographs than folds.
    """
    source = {sample.id: sample.source or sample.id for sample in samples}
    shuffled = sorted(set(source.values()), key=lambda name: hashlib.sha256(to_bytes(name)).hexdigest())
    if len(shuffled) < count:
        raise DataError(f"The training set is of {len(shuffled)} photographs, too few for {count} folds.")
    validated = set(shuffled[fold::count])
    return [sample for sample in samples if (source[sample.id] in validated) == (split == "val")]
