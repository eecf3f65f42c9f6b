"""Batches of faces: labelled for parsing, unlabelled and with mask patches for pre-training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.layouts import LaPa, Sample
from datamodules.patches import Masking, draw_patches
from datamodules.reading import read_image, read_label
from datamodules.sampling import Draw, EpochSampler
from datamodules.transforms import Augmentation, FaceTransform


class MaskedFaces(Dataset[dict[str, Any]]):
    """Unlabelled faces with the patches that hide parts of them.

    An item is ``image`` (3, S, S) float, ``patches`` (P, 3) long: top, left, side, ``noise_seed`` int and ``id``.
    """

    def __init__(self, samples: Sequence[Sample], transform: FaceTransform, masking: Masking) -> None:
        self.samples = samples
        self.transform = transform
        self.masking = masking

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        epoch, position, index = draw
        sample = self.samples[index]
        picture = read_image(sample.image, self.transform.least_source)
        image, _ = self.transform(picture.pixels, None, epoch, position, picture.extent)
        # The fourth number keeps the patches' random stream apart from the augmentation's.
        rng = np.random.default_rng([self.transform.seed, epoch, position, 1])
        patches = draw_patches(rng, self.masking)
        return {
            "image": to_tensor(image),
            "patches": torch.from_numpy(patches),
            "noise_seed": int(rng.integers(2**31)),
            "id": sample.id,
        }


class LabelledFaces(Dataset[dict[str, Any]]):
    """Faces with label maps.

    An item is ``image`` (3, S, S) float, ``label`` (S, S) long, ``id``, and, for scoring, ``full_label`` (h, w) uint8
    at the label map's own size.
    """

    def __init__(self, samples: Sequence[Sample], transform: FaceTransform, layout: LaPa, full: bool) -> None:
        self.samples = samples
        self.transform = transform
        self.layout = layout
        self.full = full

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        epoch, position, index = draw
        sample = self.samples[index]
        if sample.label is None:
            raise ValueError(f"{sample.id} has no label map; unlabelled faces belong into MaskedFaces")
        picture = read_image(sample.image, self.transform.least_source)
        full_label = read_label(sample.label, self.layout.labels, picture.size)
        image, label = self.transform(picture.pixels, full_label, epoch, position, picture.extent)
        item = {"image": to_tensor(image), "label": torch.from_numpy(label).long(), "id": sample.id}
        if self.full:
            item["full_label"] = torch.from_numpy(full_label)
        return item


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) float -> (3, H, W) float."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch; ids and label maps of differing sizes stay lists."""
    batch: dict[str, Any] = {}
    for key in items[0]:
        values = [item[key] for item in items]
        if key in ("id", "full_label"):
            batch[key] = values
        else:
            batch[key] = torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)
    return batch


class FaceDataModule(LightningDataModule):
    """Training, validation and test batches of one data set at one size.

    Args:
        root: the data set's folder.
        image_size: side of the network's input, in pixels, a multiple of 32.
        batch_size: faces in a training batch, over all processes that train together.
        seed: seed of order, augmentation and patches.
        augmentation: how far training pictures move.
        masking: patches for unlabelled faces; None serves labelled ones.
        train_ids: ids of the labelled training faces (a label-fraction manifest); None takes all.
        steps_per_epoch: batches in an epoch; None is every face once.
        eval_batch_size: faces in a validation or test batch.
        full_labels: carry label maps at their own size in validation and test.
        workers: loader processes; 0 loads in the training process. The samples are the same.

    Batches: see :class:`MaskedFaces` and :class:`LabelledFaces`. Each data set is a subclass that names its reader.
    """

    layout_type: type[LaPa]

    def __init__(
        self,
        root: Path,
        image_size: int,
        batch_size: int,
        seed: int,
        augmentation: Augmentation,
        masking: Masking | None = None,
        train_ids: Sequence[str] | None = None,
        steps_per_epoch: int | None = None,
        eval_batch_size: int = 16,
        full_labels: bool = True,
        workers: int | None = None,
    ) -> None:
        super().__init__()
        self.layout = self.layout_type(root)
        self.image_size = image_size
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.masking = masking
        self.train_ids = train_ids
        self.steps_per_epoch = steps_per_epoch
        self.eval_batch_size = eval_batch_size
        self.full_labels = full_labels
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers

    def train_dataloader(self) -> DataLoader:
        dataset = self._dataset(
            "train", FaceTransform(self.image_size, self.augmentation, self.layout.labels, self.seed)
        )
        draws = None if self.steps_per_epoch is None else self.steps_per_epoch * self.batch_size
        rank, world = self._place()
        sampler = EpochSampler(len(dataset), draws, self.seed, rank=rank, world=world)
        if self.trainer:  # on a resume workers fetch ahead before the Trainer tells the sampler which epoch it is
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return self._loader(dataset, sampler, self.batch_size // world)

    def val_dataloader(self) -> DataLoader:
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader:
        return self._eval_dataloader("test")

    def _eval_dataloader(self, split: str) -> DataLoader:
        dataset = self._dataset(split, FaceTransform(self.image_size, None, self.layout.labels, self.seed))
        rank, world = self._place()
        sampler = EpochSampler(len(dataset), shuffle=False, rank=rank, world=world)
        return self._loader(dataset, sampler, self.eval_batch_size)

    def _place(self) -> tuple[int, int]:
        """Rank of this process and number of processes that train together."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _dataset(self, split: str, transform: FaceTransform) -> MaskedFaces | LabelledFaces:
        if self.masking is not None:
            return MaskedFaces(self.layout.samples(split, labelled=False), transform, self.masking)
        samples = self.layout.samples(split)
        if split == "train" and self.train_ids is not None:
            chosen = set(self.train_ids)
            samples = [sample for sample in samples if sample.id in chosen]
        return LabelledFaces(samples, transform, self.layout, full=self.full_labels and split != "train")

    def _loader(self, dataset: Dataset, sampler: EpochSampler, batch_size: int) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
        )


class LaPaDataModule(FaceDataModule):
    """LaPa in its published layout, see :class:`datamodules.layouts.lapa.LaPa`."""

    layout_type = LaPa


DATAMODULES: dict[str, type[FaceDataModule]] = {"lapa": LaPaDataModule}
