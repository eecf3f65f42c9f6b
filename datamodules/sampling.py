"""The order in which a stage meets its faces, a pure function of (seed, epoch)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Draw = tuple[int, int, int]
"""(epoch, position in the epoch, index of the face)."""


class EpochSampler(Sampler[Draw]):
    """Draws training faces and says when: workers that live on from epoch to epoch learn of a new one with each draw.

    Args:
        faces: number of faces.
        draws: length of an epoch in draws; None is every face once. More draws than faces go through the faces again
            in another order, so that three labelled faces fill an epoch too.
        seed: the stage's seed.
        rank: number of this process among those that train together.
        world: how many they are. Each draws every world-th position, so that together they draw the batches of one
            process. The few draws that do not divide evenly are left out, as no process may wait for another alone;
            an epoch with fewer draws than processes is filled up to one each.
    """

    def __init__(self, faces: int, draws: int | None = None, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.faces = faces
        self.draws = world * max(1, (faces if draws is None else draws) // world)
        self.rank = rank
        self.world = world
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, and with the right number after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draws // self.world

    def __iter__(self) -> Iterator[Draw]:
        order = np.empty(0, dtype=np.int64)
        for position in range(self.draws):
            turn, place = divmod(position, self.faces)
            if place == 0:
                order = np.random.default_rng([self.seed, self.epoch, turn]).permutation(self.faces)
            if position % self.world == self.rank:
                yield self.epoch, position, int(order[place])


def batches_in_epoch(faces: int, draws: int | None, batch_size: int, world: int = 1) -> int:
    """Batches in an epoch of an :class:`EpochSampler`, the same for each process; ``batch_size`` is of all together."""
    return math.ceil(len(EpochSampler(faces, draws, world=world)) / (batch_size // world))


def scoring_batches(faces: int, batch_size: int, rank: int = 0, world: int = 1) -> list[list[Draw]]:
    """Batches of validation or test: every face once, in order, as if in epoch 0.

    Processes that score together have equally many batches, whatever remains at the end: the first difference would
    let one of them wait for the others for ever.

    Args:
        faces: number of faces, at least ``world``.
        batch_size: faces in a batch of one process, at most (one more where a process has less than a batch left).
        rank: number of this process.
        world: how many they are; each takes every world-th face.

    Raises:
        ValueError: if there are fewer faces than processes.
    """
    if faces < world:
        raise ValueError(f"{faces} faces cannot be shared by {world} processes")
    own = range(rank, faces, world)
    count = min(math.ceil(faces / (batch_size * world)), faces // world)
    edges = [len(own) * number // count for number in range(count + 1)]
    return [[(0, face, face) for face in own[start:end]] for start, end in itertools.pairwise(edges)]
