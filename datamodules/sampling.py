"""The order in which a stage meets its faces, a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Draw = tuple[int, int, int]
"""(epoch, position in the epoch, index of the face)."""


class EpochSampler(Sampler[Draw]):
    """Draws faces and says when: workers that live on from epoch to epoch learn of a new one with each draw.

    Args:
        faces: number of faces.
        draws: length of an epoch in draws; None is every face once. More draws than faces go through the faces again
            in another order, so that three labelled faces fill an epoch too.
        seed: the stage's seed.
        shuffle: False draws the faces in their order, and as epoch 0 each time.
        rank: number of this process among those that train together.
        world: how many they are. Each draws every world-th position, so that together they draw the batches of one
            process; in training the few draws that do not divide evenly are left out, as no process may wait alone.
    """

    def __init__(
        self,
        faces: int,
        draws: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.faces = faces
        self.draws = faces if draws is None else draws
        if shuffle:
            self.draws -= self.draws % world
        self.rank = rank
        self.world = world
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, and with the right number after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.draws, self.world))

    def __iter__(self) -> Iterator[Draw]:
        if not self.shuffle:
            yield from ((0, place, place % self.faces) for place in range(self.rank, self.draws, self.world))
            return
        order = np.empty(0, dtype=np.int64)
        for position in range(self.draws):
            turn, place = divmod(position, self.faces)
            if place == 0:
                order = np.random.default_rng([self.seed, self.epoch, turn]).permutation(self.faces)
            if position % self.world == self.rank:
                yield self.epoch, position, int(order[place])
