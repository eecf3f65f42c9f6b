"""The order of the faces in training and scoring, a pure function of (seed, epoch)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

SampleKey = tuple[int, int, int]
"""(epoch, position in the epoch, index of the face): data sets are indexed with it."""


class EpochSampler(Sampler[SampleKey]):
    """Samples training faces with their epoch and position, so that persistent workers follow the epochs.

    Args:
        faces: number of faces.
        length: samples in an epoch; None is every face once. A longer epoch goes through the faces again in another
            order, so that three labelled faces fill an epoch too.
        seed: the stage's seed.
        rank: rank of this process.
        world: number of processes that train together. Each takes every world-th position, so that together they load
            the batches of a single process. Samples that do not divide evenly are left out, or one process would wait
            for the others; an epoch with fewer samples than processes is filled up to one each.
    """

    def __init__(self, faces: int, length: int | None = None, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.faces = faces
        self.length = world * max(1, (faces if length is None else length) // world)
        self.rank = rank
        self.world = world
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, and with the right number after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[SampleKey]:
        order = np.empty(0, dtype=np.int64)
        for position in range(self.length):
            turn, place = divmod(position, self.faces)
            if place == 0:
                order = np.random.default_rng([self.seed, self.epoch, turn]).permutation(self.faces)
            if position % self.world == self.rank:
                yield self.epoch, position, int(order[place])


def batches_in_epoch(faces: int, length: int | None, batch_size: int, world: int = 1) -> int:
    """Batches in an epoch of an :class:`EpochSampler`, the same for each process; ``batch_size`` counts all of them."""
    return math.ceil(len(EpochSampler(faces, length, world=world)) / (batch_size // world))


def scoring_batches(faces: int, batch_size: int, rank: int = 0, world: int = 1) -> list[list[SampleKey]]:
    """Batches of validation or test: every face once, in order, as if in epoch 0.

    All processes have the same number of batches; with different numbers, they would wait for each other for ever.

    Args:
        faces: number of faces, at least ``world``.
        batch_size: faces in a batch of one process, at most (one more where a process has less than a batch left).
        rank: number of this process.
        world: number of processes; each takes every world-th face.

    Raises:
        ValueError: if there are fewer faces than processes.
    """
    if faces < world:
        raise ValueError(f"{faces} faces cannot be shared by {world} processes")
    own = range(rank, faces, world)
    count = min(math.ceil(faces / (batch_size * world)), faces // world)
    edges = [len(own) * number // count for number in range(count + 1)]
    return [[(0, face, face) for face in own[start:end]] for start, end in itertools.pairwise(edges)]
