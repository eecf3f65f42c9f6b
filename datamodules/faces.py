"""Batches of faces: labelled for parsing, unlabelled and with mask patches for pre-training."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from joblib import cpu_count
from lightning_fabric.utilities.seed import pl_worker_init_function
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, default_collate

from datamodules.cache import Cache
from datamodules.labels import LabelSet
from datamodules.layouts import Layout, Sample
from datamodules.reading import DecodedImage, ImageFiles, LabelFiles, require_size
from datamodules.sampling import EpochSampler, SampleKey, scoring_batches
from datamodules.subsets import of_fold
from datamodules.transforms import Augmentation, FaceTransform
from foundation.child_processes import end_with_parent
from foundation.errors import ConfigError
from models.masking import PatchSampling, sample_masking

FOLD = "fold"
"""In place of a split: the fold of the labelled training faces that is held out."""


@dataclass(eq=False, repr=False)
class Faces(Dataset[dict[str, Any]]):
    """Faces on disk, at the network's size, indexed with a :data:`datamodules.sampling.SampleKey`."""

    samples: Sequence[Sample]
    transform: FaceTransform

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(eq=False, repr=False)
class PretrainingFaces(Faces):
    """Unlabelled faces with the patches that are masked.

    An item is ``image`` (3, S, S) float, ``patches`` (P, 3) long: top, left, side, ``noise_seed`` int and ``id``.

    Args:
        images: a sample's image by its index, see :func:`open_images`.
        masking: how patches are sampled.
    """

    images: Callable[[int], DecodedImage]
    masking: PatchSampling

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        epoch, position, index = key
        photo = self.images(index)
        image, _ = self.transform(photo.pixels, None, epoch, position, photo.extent)
        # The fourth number keeps the patches' random stream apart from the augmentation's.
        rng = np.random.default_rng([self.transform.seed, epoch, position, 1])
        patches, noise_seed = sample_masking(rng, self.masking)
        return {
            "image": torch.from_numpy(image),
            "patches": torch.from_numpy(patches),
            "noise_seed": noise_seed,
            "id": self.samples[index].id,
        }


@dataclass(eq=False, repr=False)
class LabelledFaces(Faces):
    """Faces with label maps.

    An item is ``image`` (3, S, S) float, ``label`` (S, S) long, ``id``, and, for scoring, ``full_label`` (h, w) uint8
    at the label map's own size, and ``groups``, if the data set has any.

    Args:
        images: a sample's image by its index, see :func:`open_images`.
        labels: a sample's label map by its index, see :func:`open_labels`.
        full: whether items hold ``full_label``.
        table: (256,) uint8, look-up table from stored to returned ids; None leaves label maps as they are.
    """

    images: Callable[[int], DecodedImage]
    labels: Callable[[int], np.ndarray]
    full: bool
    table: np.ndarray | None = None

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        epoch, position, index = key
        sample = self.samples[index]
        photo = self.images(index)
        full_label = self.labels(index) if self.table is None else self.table[self.labels(index)]
        require_size(sample, full_label.shape, photo.size)
        image, label = self.transform(photo.pixels, full_label, epoch, position, photo.extent, sample.face)
        item = {"image": torch.from_numpy(image), "label": torch.from_numpy(label).long(), "id": sample.id}
        if self.full:
            item["full_label"] = torch.tensor(full_label)  # a copy: the source's array is read-only
        if sample.groups:
            item["groups"] = sample.groups
        return item


def open_images(samples: Sequence[Sample], least: int, cache: Cache | None = None) -> Callable[[int], DecodedImage]:
    """The samples' images by index, from their files or packed: the same pixels.

    Args:
        least: see :func:`datamodules.reading.read_image`.
        cache: None reads files each time.

    Raises:
        BrokenFileError: if an image cannot be read, now or when it is indexed.
        RunError: if memory or disk is too small for a pack.
    """
    files = [(sample.id, sample.image) for sample in samples]
    return ImageFiles(tuple(path for _, path in files), least) if cache is None else cache.images(files, least)


def open_labels(samples: Sequence[Sample], labels: LabelSet, cache: Cache | None = None) -> Callable[[int], np.ndarray]:
    """The samples' label maps by index, see :func:`open_images`; ``labels`` are the classes that may occur.

    Raises:
        ValueError: if a sample has no label map.
    """
    files = [(sample.id, sample.label) for sample in samples if sample.label is not None]
    if len(files) < len(samples):
        raise ValueError("a face has no label map; use PretrainingFaces for unlabelled faces")
    return LabelFiles(tuple(path for _, path in files), labels) if cache is None else cache.labels(files, labels)


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch; ids and label maps of differing sizes stay lists. Workers stack straight into shared memory."""
    batch: dict[str, Any] = {}
    for key in items[0]:
        values = [item[key] for item in items]
        batch[key] = values if key in ("id", "full_label", "groups") else default_collate(values)
    return batch


class FaceDataModule(LightningDataModule):
    """Training, validation and test batches of one data set at one size; base of all data modules.

    Args:
        layout: the data set, see :func:`datamodules.layouts.open_layout`.
        image_size: side of the network's input, in pixels, a multiple of 32.
        batch_size: faces in a training batch, over all processes that train together.
        seed: seed of order, augmentation and patches.
        augmentation: augmentation of the training images.
        train_ids: ids of the labelled training faces (a label-fraction manifest); None takes all.
        fold: (which, of how many): validate on this fold of the training faces and train on the others.
        steps_per_epoch: batches in an epoch; None is every face once.
        eval_batch_size: faces in a validation or test batch.
        full_labels: carry label maps at their own size in validation and test.
        workers: loader processes; 0 loads in the training process, None takes a process for each core, at most 8. The
            samples are the same.
        cache: keeps training and validation faces decoded; None decodes them each time. Test faces are read once and
            never cached. The samples are the same.
        merging: merges each face's part masks into one label map, for data sets of part masks.
        tested: the split that is tested; ``all`` takes every face, :data:`FOLD` the fold.
        scored: which of validation and test there are.

    Batches: see :class:`LabelledFaces`.
    """

    # No dataclass: Lightning copies and rebuilds the fields of those that it hands to other processes.
    def __init__(
        self,
        layout: Layout,
        image_size: int,
        batch_size: int,
        seed: int,
        augmentation: Augmentation,
        *,
        train_ids: Sequence[str] | None = None,
        fold: tuple[int, int] | None = None,
        steps_per_epoch: int | None = None,
        eval_batch_size: int = 16,
        full_labels: bool = True,
        workers: int | None = None,
        cache: Cache | None = None,
        merging: Callable[[Sequence[Sample]], list[Sample]] | None = None,
        tested: str = "test",
        scored: Sequence[str] = ("val", "test"),
    ) -> None:
        super().__init__()
        self.layout, self.image_size, self.batch_size, self.seed = layout, image_size, batch_size, seed
        self.augmentation, self.train_ids, self.fold = augmentation, train_ids, fold
        self.steps_per_epoch, self.eval_batch_size, self.full_labels = steps_per_epoch, eval_batch_size, full_labels
        self.workers, self.cache, self.merging, self.tested = workers, cache, merging, tested
        self.scored = scored
        if not self.layout.knows_faces:
            self.augmentation = replace(self.augmentation, crop=0.0)
        self.tested_labels = self.layout.labels
        self._table: np.ndarray | None = None
        self._datasets: dict[str, Faces] = {}
        self._labelled: dict[str, list[Sample]] = {}

    @property
    def read_labels(self) -> LabelSet:
        """The data set's classes with the decision how its masks are read, if it has masks."""
        return self.layout.labels

    def labelled(self, split: str) -> list[Sample]:
        """The labelled faces of a split that are trained on or scored, each with its label map as one file.

        Raises:
            DataError: if files are absent or broken.
        """
        if split not in self._labelled:
            if self.fold and self.tested == FOLD:
                samples = of_fold(
                    self._chosen(self.layout.samples("train")), "train" if split == "train" else "val", *self.fold
                )
            elif self.fold and split != "test":
                samples = of_fold(self.layout.samples("train"), split, *self.fold)
            else:
                samples = self.layout.samples(self.tested if split == "test" else split)
            samples = self._chosen(samples) if split == "train" else samples
            self._labelled[split] = samples if self.merging is None else self.merging(samples)
        return self._labelled[split]

    def _chosen(self, samples: list[Sample]) -> list[Sample]:
        """The faces of the training split whose labels may be used."""
        chosen = None if self.train_ids is None else {*self.train_ids}
        return [sample for sample in samples if chosen is None or sample.id in chosen]

    def require_scored_faces(self) -> None:
        """Check the file headers of all validation and test faces, before hours of training.

        Raises:
            DataError: if files are absent or broken, or a label map is of another size than its image.
        """
        for split in self.scored:
            for sample in self.labelled(split):
                if sample.label is not None:
                    label = LabelFiles((sample.label,), self.read_labels).frame(0)
                    require_size(sample, label.shape, ImageFiles((sample.image,)).frame(0).size)

    def train_dataloader(self) -> DataLoader:
        dataset = self._dataset(
            "train", FaceTransform(self.image_size, self.augmentation, self.layout.labels, self.seed)
        )
        length = None if self.steps_per_epoch is None else self.steps_per_epoch * self.batch_size
        rank, world = self._place()
        sampler = EpochSampler(len(dataset), length, self.seed, rank=rank, world=world)
        if self.trainer:  # on a resume workers prefetch before the Trainer sets the sampler's epoch
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return self._loader(dataset, sampler=sampler, batch_size=self.batch_size // world)

    def val_dataloader(self) -> Any:
        return self.in_order("val") if "val" in self.scored else []

    def test_dataloader(self) -> Any:
        return self.in_order("test") if "test" in self.scored else []

    def in_order(self, split: str) -> DataLoader:
        """Every face of a split once, without augmentation, with labels at their own size if ``full_labels``."""
        dataset = self._dataset(split, FaceTransform(self.image_size, None, self.layout.labels, self.seed))
        rank, world = self._place()
        if len(dataset) < world:
            raise ConfigError(
                f"trainer.devices={world}, but the {split} split holds {len(dataset)} face(s).\n"
                f"Expected: a face for each device; train with fewer devices."
            )
        batches = scoring_batches(len(dataset), self.eval_batch_size, rank, world)
        return self._loader(dataset, batch_sampler=batches)

    def _place(self) -> tuple[int, int]:
        """Rank of this process and number of processes that train together."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _dataset(self, split: str, transform: FaceTransform) -> Faces:
        if split not in self._datasets:  # once: a second loader reuses a pack in memory
            self._datasets[split] = self._open(split, transform, self.cache if split != "test" else None)
        return self._datasets[split]

    def _open(self, split: str, transform: FaceTransform, cache: Cache | None) -> Faces:
        samples = self.labelled(split)
        images = open_images(samples, transform.least_source, cache)
        labels = open_labels(samples, self.read_labels, cache)
        full = self.full_labels and split != "train"
        table = self._table if split == "test" else None
        return LabelledFaces(samples, transform, images, labels, full, table)

    def _loader(self, dataset: Dataset, **order: Any) -> DataLoader:
        workers = min(8, cpu_count()) if self.workers is None else self.workers
        return DataLoader(
            dataset,
            num_workers=workers,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            **({"collate_fn": collate} | order),
        )


def _start_worker(number: int) -> None:
    """Called in each loader process: what Lightning would call there, and its end with the training process."""
    end_with_parent()
    if int(os.environ.get("PL_SEED_WORKERS", "0")):
        pl_worker_init_function(number)


class ParsingDataModule(FaceDataModule):
    """Batches of face parts: labelled for parsing, unlabelled with patches for pre-training.

    Args:
        masking: patches for unlabelled faces; None serves labelled ones.
        tested_in: the class set that test label maps are mapped to; None leaves them as they are.
        faces, more: arguments of :class:`FaceDataModule`.

    Batches: see :class:`PretrainingFaces` and :class:`LabelledFaces`. Labelled batches of CelebAMask-HQ need
    ``merging``, see :class:`datamodules.merging.Merging`.

    Raises:
        ConfigError: if no mapping is declared from the data set's classes to ``tested_in``.
    """

    def __init__(
        self, *faces: Any, masking: PatchSampling | None = None, tested_in: LabelSet | None = None, **more: Any
    ) -> None:
        super().__init__(*faces, **more)
        self.masking = masking
        if tested_in is not None:
            self._table = self.layout.labels.table_to(tested_in)
            self.tested_labels = tested_in

    def _open(self, split: str, transform: FaceTransform, cache: Cache | None) -> Faces:
        if self.masking is None:
            return super()._open(split, transform, cache)
        samples = self.layout.samples(split, labelled=False)
        images = open_images(samples, transform.least_source, cache)
        return PretrainingFaces(samples, transform, images, self.masking)
