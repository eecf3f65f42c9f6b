"""Scores from one confusion matrix over a data set, by the field's conventions."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, recall_score

from lightning_modules.metrics import SegmentationScores

CLASSES = ("background", "skin", "nose", "hair")


def test_against_scikit_learn_over_several_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (6, 20, 20), generator=generator)
    prediction = torch.where(torch.rand(truth.shape, generator=generator) < 0.6, truth, (truth + 1) % 4)
    scores = SegmentationScores(CLASSES)
    for start in (0, 2, 5):
        end = {0: 2, 2: 5, 5: 6}[start]
        scores.update(prediction[start:end], truth[start:end])
    result = {name: value.item() for name, value in scores.compute().items()}
    flat = truth.flatten().numpy(), prediction.flatten().numpy()
    assert result["miou"] == pytest.approx(jaccard_score(*flat, average="macro"), rel=1e-5)
    assert result["mean_accuracy"] == pytest.approx(recall_score(*flat, average="macro"), rel=1e-5)
    assert result["mean_f1"] == pytest.approx(f1_score(*flat, average=None)[1:].mean(), rel=1e-5)
    assert result["pixel_accuracy"] == pytest.approx((truth == prediction).float().mean().item(), rel=1e-5)
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
