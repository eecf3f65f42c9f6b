"""A form of file that the project reads, and how its mutated files are made."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzzing.noise import OTHER_CONTENT, noisy

FOLDER, OUTSIDE = "given", "outside"
"""Names of the folder that readers are given, and of the one next to it that no file may lead them to."""
CANARY = "canary"
"""Stem of the files in :data:`OUTSIDE`, which mutated paths name."""


class WrongResultError(Exception):
    """A reader returned a result that contradicts itself or its documentation."""


def nothing(folder: Path) -> None:
    """No other files are needed."""


@dataclass(frozen=True)
class Form:
    """A form of file.

    Args:
        name: its name in the table.
        file: path of the mutated file below the given folder.
        originals: valid contents.
        readers: what reads the file, by name, each called with the given folder.
        make: a valid or invalid content from a random generator, by structure; None: mutations of bytes alone.
        surroundings: writes the other files of the folder, once.
        allowed: documented exceptions of readers that other code turns into the project's own.
        plain: share of made contents that stay as they are made.
    """

    name: str
    file: str
    originals: Callable[[], Sequence[bytes]]
    readers: Mapping[str, Callable[[Path], object]]
    make: Callable[[random.Random, Sequence[bytes]], bytes] | None = None
    surroundings: Callable[[Path], None] = nothing
    allowed: tuple[type[Exception], ...] = ()
    plain: float = 0.7

    def content(self, seed: int, originals: Sequence[bytes]) -> bytes:
        """The file of a seed; the same on every machine with the same libraries."""
        rng = random.Random(f"{self.name}/{seed}")
        kind = rng.random()
        if kind < 0.01:
            return b""
        if kind < 0.03:
            return rng.choice(OTHER_CONTENT)
        if self.make is not None and kind < 0.55:
            made = self.make(rng, originals)
            return made if rng.random() < self.plain else noisy(rng, made, originals)
        return noisy(rng, rng.choice(originals), originals)
