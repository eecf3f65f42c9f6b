"""Scores from one confusion matrix over a data set, by the field's conventions."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, recall_score

from callbacks.confusion import confusion_figure, write_confusion
from datamodules.labels import CELEBAMASK_HQ
from lightning_modules.metrics import SegmentationScores

CLASSES = ("background", "skin", "nose", "hair")


def test_against_scikit_learn_over_several_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    ground_truth = torch.randint(0, 4, (6, 20, 20), generator=generator)
    prediction = torch.where(
        torch.rand(ground_truth.shape, generator=generator) < 0.6, ground_truth, (ground_truth + 1) % 4
    )
    scores = SegmentationScores(CLASSES)
    for start in (0, 2, 5):
        end = {0: 2, 2: 5, 5: 6}[start]
        scores.update(prediction[start:end], ground_truth[start:end])
    result = {name: value.item() for name, value in scores.compute().items()}
    flat = ground_truth.flatten().numpy(), prediction.flatten().numpy()
    assert result["miou"] == pytest.approx(jaccard_score(*flat, average="macro"), rel=1e-5)
    assert result["mean_accuracy"] == pytest.approx(recall_score(*flat, average="macro"), rel=1e-5)
    assert result["mean_f1"] == pytest.approx(f1_score(*flat, average=None)[1:].mean(), rel=1e-5)
    assert result["pixel_accuracy"] == pytest.approx((ground_truth == prediction).float().mean().item(), rel=1e-5)
    assert result["iou/nose"] == pytest.approx(jaccard_score(*flat, average=None)[2], rel=1e-5)
    assert "f1/background" not in result


def test_ignored_pixels_and_absent_classes() -> None:
    scores = SegmentationScores(CLASSES)
    scores.update(torch.tensor([0, 1, 1, 3]), torch.tensor([0, 1, 0, 255]))
    result = scores.compute()
    assert result["pixel_accuracy"].item() == pytest.approx(2 / 3)
    assert result["iou/background"].item() == pytest.approx(1 / 2)
    assert math.isnan(result["iou/nose"])
    assert result["miou"].item() == pytest.approx(1 / 2)
    assert result["mean_f1"].item() == pytest.approx(2 / 3)


def test_a_class_predicted_but_never_true_counts_as_zero() -> None:
    scores = SegmentationScores(CLASSES)
    scores.update(torch.tensor([0, 2]), torch.tensor([0, 0]))
    assert scores.compute()["iou/nose"] == 0


SHARES = (0.4, 0.3, 0.28, 0.012, 0.005, 0.003, 0.0, 0.0)
"""Of eight classes: three large, one just above the limit, two small, two absent, one of them predicted."""


def sampled(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and ground truth (6, 90, 110) of those classes, a tenth of the ground truth ignored."""
    rng = np.random.default_rng(seed)
    ground_truth = rng.choice(len(SHARES), size=(6, 90, 110), p=SHARES)
    wrong = rng.integers(0, len(SHARES) - 1, ground_truth.shape)  # not the last class
    prediction = np.where(rng.random(ground_truth.shape) < 0.7, ground_truth, wrong)
    ground_truth[rng.random(ground_truth.shape) < 0.1] = 255
    return torch.from_numpy(prediction), torch.from_numpy(ground_truth)


@pytest.mark.parametrize("background", ["literature", "in", "out"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_score_agrees_with_scikit_learn_on_flattened_pixels(seed: int, background: str) -> None:
    prediction, ground_truth = sampled(seed)
    names = tuple(f"class_{index}" for index in range(len(SHARES)))
    scores = SegmentationScores(names, background=background)
    for one, other in zip(prediction.split(4), ground_truth.split(4), strict=True):
        scores.update(one, other)
    result = {name: value.item() for name, value in scores.compute().items()}
    scored = ground_truth != 255
    flat = ground_truth[scored].numpy(), prediction[scored].numpy()
    ids = np.arange(len(SHARES))
    iou = jaccard_score(*flat, average=None, labels=ids, zero_division=0)
    f1 = f1_score(*flat, average=None, labels=ids, zero_division=0)
    recall = recall_score(*flat, average=None, labels=ids, zero_division=0)
    counts = np.bincount(flat[0], minlength=len(ids))
    present = ids[:7]  # the last class is in neither
    assert math.isnan(result["iou/class_7"])
    for index in present:
        assert result[f"iou/class_{index}"] == pytest.approx(iou[index], abs=1e-6)
        if index or background == "in":
            assert result[f"f1/class_{index}"] == pytest.approx(f1[index], abs=1e-6)
    first, first_f1 = {"literature": (0, 1), "in": (0, 0), "out": (1, 1)}[background]
    assert result["miou"] == pytest.approx(iou[first:7].mean(), abs=1e-6)
    assert result["mean_f1"] == pytest.approx(f1[first_f1:7].mean(), abs=1e-6)
    assert result["mean_accuracy"] == pytest.approx(recall[first:6].mean(), abs=1e-6)
    assert result["miou_small"] == pytest.approx(iou[[4, 5]].mean(), abs=1e-6)
    assert result["f1_small"] == pytest.approx(f1[[4, 5]].mean(), abs=1e-6)
    assert scores.counted is not None
    assert np.array_equal(scores.counted.numpy(), confusion_matrix(*flat, labels=ids))
    named = scores.named("test")
    assert [int(value) for name, value in named.items() if name.startswith("test/count/")] == counts.tolist()


def test_scores_of_small_classes_are_left_out_without_any() -> None:
    scores = SegmentationScores(CLASSES)
    scores.update(torch.tensor([0, 1, 1, 3]), torch.tensor([0, 1, 2, 3]))
    assert not {"miou_small", "f1_small"} & scores.compute().keys()


def test_the_background_is_not_a_small_class() -> None:
    scores = SegmentationScores(CLASSES)
    ground_truth = torch.ones(1000, dtype=torch.long)
    ground_truth[0], ground_truth[1] = 0, 2
    scores.update(ground_truth, ground_truth.where(ground_truth != 0, 1))
    assert scores.compute()["miou_small"] == 1


def test_confusion_as_a_table_and_as_an_image(tmp_path: Path) -> None:
    names = CELEBAMASK_HQ.classes
    matrix = np.random.default_rng(0).integers(0, 2**40, (len(names), len(names)))
    matrix[3] = 0
    write_confusion(tmp_path / "confusion.csv", names, matrix)
    with (tmp_path / "confusion.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["ground_truth", *names]
    assert tuple(row[0] for row in rows) == names
    assert np.array_equal(np.array([row[1:] for row in rows], dtype=np.int64), matrix)
    confusion_figure(names, matrix).savefig(tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert min(image.size) > 800
