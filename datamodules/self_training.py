"""Batches for self-training: labelled faces, real and synthetic, next to unlabelled ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Sampler

from datamodules.faces import FOLD, Faces, LabelledFaces, ParsingDataModule, collate, open_images, open_labels
from datamodules.labels import IGNORE
from datamodules.layouts import Layout, Sample
from datamodules.reading import DecodedImage
from datamodules.rendered_faces import RenderedFaces, RenderFace
from datamodules.sampling import SampleKey
from datamodules.transforms import FaceTransform


@dataclass(frozen=True)
class SyntheticLabels:
    """A second labelled set, of synthetic faces, whose classes map to those of the data set.

    Args:
        layout: the synthetic faces; their ``train`` split is used.
        share: their share of the labelled images of a batch, 0..1.
        schedule: ``constant``, or ``linear`` from ``share`` at the first step to 0 at the last.
        photometric: strength of their light and colours, see :class:`datamodules.photometric.Photometric`.
        merging: as in :class:`datamodules.faces.FaceDataModule`.
        render: renders another face, in the layout's classes, each time one is read; None takes them as they are.
    """

    layout: Layout
    share: float
    schedule: Literal["constant", "linear"]
    photometric: float
    merging: Callable[[Sequence[Sample]], list[Sample]] | None = None
    render: RenderFace | None = None

    def count(self, labelled: int, progress: float) -> int:
        """How many of the labelled images of a batch are synthetic, at a ``progress`` of the training, 0..1."""
        share = self.share * (1 - progress) if self.schedule == "linear" else self.share
        return round(share * labelled)


@dataclass(eq=False, repr=False)
class UnlabelledFaces(Faces):
    """Faces without labels: ``image`` (3, S, S) float, ``outside`` (S, S) bool where there is no image, and ``id``.

    Args:
        images: a sample's image by its index, see :func:`datamodules.faces.open_images`.
    """

    images: Callable[[int], DecodedImage]

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        epoch, position, index = key
        photo = self.images(index)
        nothing = np.zeros(photo.pixels.shape[:2], dtype=np.uint8)
        image, label = self.transform(photo.pixels, nothing, epoch, position, photo.extent)
        return {
            "image": torch.from_numpy(image),
            "outside": torch.from_numpy(label == IGNORE),
            "id": self.samples[index].id,
        }


class Joined(ConcatDataset[dict[str, Any]]):
    """Several sets of faces, one after the other, indexed with a :data:`datamodules.sampling.SampleKey`."""

    def __getitem__(self, key: Any) -> dict[str, Any]:
        epoch, position, index = key
        part = next(number for number, end in enumerate(self.cumulative_sizes) if index < end)
        start = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][epoch, position, index - start]


class MixedSampler(Sampler[SampleKey]):
    """Samples batches of labelled, synthetic and unlabelled faces, a pure function of (seed, epoch).

    Each set is gone through in random order, again and again; each epoch has its own order. Indices count the sets in
    the order labelled, synthetic, unlabelled, and so do the faces of a batch.

    Args:
        faces: number of labelled, synthetic and unlabelled faces.
        batch: number of labelled (with synthetic) and of unlabelled images in a batch, over all processes.
        steps: batches in an epoch.
        synthetic: number of synthetic images in a batch, by the number of the batch from the start of the training.
        seed: the stage's seed.
        rank: rank of this process.
        world: number of processes, of which each takes every world-th image of each half.
    """

    def __init__(
        self,
        faces: tuple[int, int, int],
        batch: tuple[int, int],
        steps: int,
        synthetic: Callable[[int], int],
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.faces = faces
        self.batch = batch
        self.steps = steps
        self.synthetic = synthetic
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, and with the right number after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * sum(self.batch) // self.world

    def __iter__(self) -> Iterator[SampleKey]:
        starts = (0, self.faces[0], sum(self.faces[:2]))
        streams = [self._stream(part) for part in range(3)]
        position = 0
        for step in range(self.steps):
            synthetic = self.synthetic(self.epoch * self.steps + step)
            counts = (self.batch[0] - synthetic, synthetic, self.batch[1])
            for part, count in enumerate(counts):
                for _ in range(count):
                    index = starts[part] + next(streams[part])
                    if position % self.world == self.rank:
                        yield self.epoch, position, index
                    position += 1

    def _stream(self, part: int) -> Iterator[int]:
        turn = 0
        while True:
            order = np.random.default_rng([self.seed, self.epoch, turn, part]).permutation(self.faces[part])
            yield from order.tolist()
            turn += 1


def collate_halves(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of the labelled items, with ``unlabelled``: a batch of the others; ``id`` names all of them."""
    labelled = collate([item for item in items if "label" in item])
    unlabelled = collate([item for item in items if "label" not in item])
    return labelled | {"unlabelled": unlabelled, "id": [item["id"] for item in items]}


class SelfTrainingDataModule(ParsingDataModule):
    """Training batches of labelled and unlabelled faces; validation and test as for supervised training.

    Args:
        unlabelled_batch_size: unlabelled images in a training batch; ``batch_size`` counts the labelled ones.
        epochs: number of epochs, for the schedule of the synthetic faces.
        synthetic: synthetic labelled faces; None: none. With no ``train_ids``, all labelled faces must be synthetic.
        faces, more: arguments of :class:`datamodules.faces.FaceDataModule`.

    The unlabelled faces are all images of the training split, those with labels among them (as in FixMatch), without
    those of a held-out fold. An epoch has ``steps_per_epoch`` batches, or as many as take every image of the split
    once.
    """

    def __init__(
        self,
        *faces: Any,
        unlabelled_batch_size: int,
        epochs: int,
        synthetic: SyntheticLabels | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*faces, **more)
        self.unlabelled_batch_size, self.epochs, self.synthetic = unlabelled_batch_size, epochs, synthetic
        self._training: tuple[Any, Any, Any] | None = None

    def train_dataloader(self) -> DataLoader:
        parts = self._parts()
        faces = tuple(len(part) for part in parts)
        images = len(self.layout.samples("train", labelled=False))
        steps = batches_of(images, self.unlabelled_batch_size, self.steps_per_epoch)
        rank, world = self._place()
        sampler = MixedSampler(
            (faces[0], faces[1], faces[2]),
            (self.batch_size, self.unlabelled_batch_size),
            steps,
            lambda step: self._synthetic_at(step / max(1, steps * self.epochs - 1)),
            self.seed,
            rank,
            world,
        )
        if self.trainer:  # on a resume workers prefetch before the Trainer sets the sampler's epoch
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        size = (self.batch_size + self.unlabelled_batch_size) // world
        dataset = Joined(parts)
        return self._loader(dataset, sampler=sampler, batch_size=size, collate_fn=collate_halves)

    def _synthetic_at(self, progress: float) -> int:
        return 0 if self.synthetic is None else self.synthetic.count(self.batch_size, progress)

    def _parts(self) -> tuple[Any, Any, Any]:
        """Labelled, synthetic and unlabelled faces; either of the first two may be empty."""
        if self._training is None:  # once: a second loader reuses a pack in memory
            transform = FaceTransform(self.image_size, self.augmentation, self.layout.labels, self.seed)
            real = () if self.train_ids == () else self._open("train", transform, self.cache)
            held_out = {sample.id for sample in self.labelled("test")} if self.tested == FOLD else set()
            samples = [one for one in self.layout.samples("train", labelled=False) if one.id not in held_out]
            images = open_images(samples, transform.least_source, self.cache)
            self._training = (real, self._open_synthetic(), UnlabelledFaces(samples, transform, images))
        return self._training

    def _open_synthetic(self) -> Any:
        if self.synthetic is None:
            return ()
        layout = self.synthetic.layout
        samples = layout.samples("train")
        augmentation = replace(self.augmentation, photometric=self.synthetic.photometric)
        transform = FaceTransform(self.image_size, augmentation, self.layout.labels, self.seed)
        table = layout.labels.table_to(self.layout.labels)
        if self.synthetic.render is not None:
            return RenderedFaces(samples, transform, self.synthetic.render, table)
        if self.synthetic.merging is not None:
            samples = self.synthetic.merging(samples)
        images = open_images(samples, transform.least_source, self.cache)
        labels = open_labels(samples, layout.labels, self.cache)
        return LabelledFaces(samples, transform, images, labels, False, table)


def batches_of(unlabelled: int, batch_size: int, steps_per_epoch: int | None) -> int:
    """Batches in an epoch of :class:`SelfTrainingDataModule`."""
    return steps_per_epoch or math.ceil(unlabelled / batch_size)
