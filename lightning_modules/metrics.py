"""Segmentation scores from one confusion matrix over a whole data set (Evaluation metrics).

Conventions are those of the field's own evaluation code (FaRL, DML-CSR, SegFace): one matrix for all pictures, mean
IoU and mean accuracy with the background, mean F1 without it, ignored pixels left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from models.losses import IGNORE


class SegmentationScores(Metric):
    """Pixel accuracy, mean accuracy, mean IoU, mean F1 and the IoU and F1 of every class.

    Args:
        classes: class names; id 0 is the background.
        ignore: label of pixels that are not scored.

    ``compute`` returns fractions 0..1. A class that is neither in the truth nor predicted has no IoU and no F1 (nan)
    and does not enter the means.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, classes: Sequence[str], ignore: int = IGNORE) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.ignore = ignore
        size = len(self.classes)
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count pixels; prediction and label are class ids of the same shape."""
        size = len(self.classes)
        valid = label != self.ignore
        pairs = label[valid].long() * size + prediction[valid].long()
        self.confusion += torch.bincount(pairs, minlength=size * size).reshape(size, size)

    def compute(self) -> dict[str, Tensor]:
        matrix = self.confusion.cpu().double()  # [truth, prediction]; some accelerators have no double
        hits, truth, predicted = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
        iou = hits / (truth + predicted - hits)  # 0/0 is nan: absent on both sides
        f1 = 2 * hits / (truth + predicted)
        accuracy = hits / truth
        scores = {
            "pixel_accuracy": hits.sum() / matrix.sum(),
            "mean_accuracy": accuracy.nanmean(),
            "miou": iou.nanmean(),
            "mean_f1": f1[1:].nanmean(),
        }
        scores |= {f"iou/{name}": value for name, value in zip(self.classes, iou, strict=True)}
        scores |= {f"f1/{name}": value for name, value in zip(self.classes, f1, strict=True) if name != "background"}
        return {name: value.float() for name, value in scores.items()}
