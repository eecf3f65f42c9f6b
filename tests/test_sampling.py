"""Samples depend on (seed, epoch, position) alone: not on workers, batches or what came before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.faces import ParsingDataModule
from datamodules.layouts import open_layout
from datamodules.sampling import EpochSampler, scoring_batches
from datamodules.transforms import Augmentation
from models.masking import PatchSampling

MOVES = Augmentation(rotation=30, scale=(0.75, 1.25), flip=0.5, color=0.5)


def datamodule(root: Path, workers: int, masked: bool, **changes: Any) -> ParsingDataModule:
    masking = PatchSampling(count=16, sides=(2, 5), region=(5, 27)) if masked else None
    arguments = {"image_size": 32, "batch_size": 8, "seed": 1, "augmentation": MOVES, **changes}
    return ParsingDataModule(open_layout("lapa", root), masking=masking, workers=workers, **arguments)


def two_epochs(data: ParsingDataModule) -> list[dict[str, Any]]:
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, EpochSampler)
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


@pytest.mark.parametrize("masked", [True, False])
def test_identical_with_0_1_and_2_workers(lapa: Path, masked: bool) -> None:
    expected = two_epochs(datamodule(lapa, 0, masked))
    assert len(expected) == 8
    for workers in (1, 2):
        for batch, expected_batch in zip(two_epochs(datamodule(lapa, workers, masked)), expected, strict=True):
            assert batch["id"] == expected_batch["id"]
            for name, value in expected_batch.items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(batch[name], value), name


def test_epochs_and_positions_differ(lapa: Path) -> None:
    """One face alone, sampled eight times in each of two epochs: sixteen different images and masks."""
    face = open_layout("lapa", lapa).samples("train")[0].id
    data = datamodule(lapa, 0, masked=False, train_ids=[face], steps_per_epoch=1)
    images = torch.cat([batch["image"] for batch in two_epochs(data)])
    assert len(images) == 16
    distances = torch.cdist(images.flatten(1), images.flatten(1)) + torch.eye(16) * 1e6
    assert distances.min() > 1

    patches = torch.cat([batch["patches"] for batch in two_epochs(datamodule(lapa, 0, masked=True))])
    assert len(torch.unique(patches, dim=0)) == len(patches)


def test_an_epoch_is_every_face_once() -> None:
    sampler = EpochSampler(10, seed=3)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert [key[:2] for key in keys] == [(epoch, position) for position in range(10)]
        orders.append([key[2] for key in keys])
        assert sorted(orders[-1]) == list(range(10))
    assert len({tuple(order) for order in orders}) == 3


def test_three_faces_fill_an_epoch_evenly() -> None:
    sampler = EpochSampler(3, length=30, seed=0)
    indices = [index for _, _, index in sampler]
    assert len(indices) == 30
    assert np.bincount(indices).tolist() == [10, 10, 10]
    assert len({tuple(indices[start : start + 3]) for start in range(0, 30, 3)}) > 1


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("faces", [4, 5, 7, 33, 64, 70])
def test_processes_score_every_face_once_in_equally_many_batches(faces: int, batch_size: int, world: int) -> None:
    shares = [scoring_batches(faces, batch_size, rank, world) for rank in range(world)]
    assert len({len(batches) for batches in shares}) == 1, "or one process waits for the others for ever"
    keys = [key for batches in shares for batch in batches for key in batch]
    assert sorted(keys) == [(0, face, face) for face in range(faces)]
    sizes = [len(batch) for batches in shares for batch in batches]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size + 1
    if world == 1:
        assert max(sizes) <= batch_size


def test_fewer_faces_than_processes_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        scoring_batches(1, 4, 0, 2)


@pytest.mark.parametrize(("faces", "length", "expected"), [(33, None, 16), (33, 64, 32), (1, None, 1), (3, None, 1)])
def test_processes_together_load_the_batches_of_one(faces: int, length: int | None, expected: int) -> None:
    all_keys = list(EpochSampler(faces, length, seed=4))
    shares = [list(EpochSampler(faces, length, seed=4, rank=rank, world=2)) for rank in (0, 1)]
    assert [len(share) for share in shares] == [expected, expected]
    together = [key for pair in zip(*shares, strict=True) for key in pair]
    if len(all_keys) > 1:
        assert together == all_keys[: len(together)]


def test_validation_is_the_same_every_time(lapa: Path) -> None:
    loader = datamodule(lapa, 0, masked=True).val_dataloader()
    first = list(loader)
    for batch, again in zip(first, loader, strict=True):
        assert torch.equal(batch["image"], again["image"])
        assert torch.equal(batch["patches"], again["patches"])


def test_labelled_batches_carry_labels_of_both_sizes(lapa: Path) -> None:
    data = datamodule(lapa, 0, masked=False)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 32, 32)
    assert batch["label"].shape == (8, 32, 32)
    assert batch["label"].dtype == torch.long
    assert "full_label" not in batch
    batch = next(iter(data.test_dataloader()))
    assert [label.shape for label in batch["full_label"]] == [(64, 64)] * 4


def test_only_faces_of_the_manifest_are_loaded(lapa: Path) -> None:
    chosen = [sample.id for sample in open_layout("lapa", lapa).samples("train")][3:6]
    batch = next(iter(datamodule(lapa, 0, masked=False, train_ids=chosen).train_dataloader()))
    assert sorted(batch["id"]) == sorted(chosen)
