"""Scores of several folds as one: mean and standard deviation of each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

IOU, F1, MIOU, MEAN_F1 = "test/iou/", "test/f1/", "test/miou", "test/mean_f1"


@dataclass(frozen=True)
class ClassScore:
    """A score of one class, or of their mean.

    Args:
        name: the class, or ``mean``.
        iou: of each fold, 0..1; NaN where the class occurs neither in ground truth nor in prediction.
        f1: likewise.
    """

    name: str
    iou: tuple[float, ...]
    f1: tuple[float, ...]


def class_scores(folds: Sequence[Mapping[str, float]], classes: Sequence[str]) -> list[ClassScore]:
    """The scores of each class, and their mean, from the test metrics of each fold."""

    def of(metric: str) -> tuple[float, ...]:
        return tuple(math.nan if (value := fold.get(metric)) is None else float(value) for fold in folds)

    rows = [ClassScore(name, of(IOU + name), of(F1 + name)) for name in classes]
    return [*rows, ClassScore("mean", of(MIOU), of(MEAN_F1))]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of the values that are numbers; NaN without any, or with fewer than two."""
    known = np.array([value for value in values if not math.isnan(value)])
    mean = float(known.mean()) if len(known) else math.nan
    return mean, float(known.std(ddof=1)) if len(known) > 1 else math.nan


def in_per_cent(values: Sequence[float]) -> str:
    """``61.3 ± 2.0``: mean and deviation of shares 0..1."""
    mean, deviation = mean_and_deviation(values)
    if math.isnan(mean):
        return "—"
    return f"{100 * mean:.1f}" if math.isnan(deviation) else f"{100 * mean:.1f} ± {100 * deviation:.1f}"
