"""Segmentation scores from one confusion matrix over a data set (Evaluation metrics).

Conventions are those of the field's own evaluation code (FaRL, DML-CSR, SegFace): one matrix for all images, mean
IoU and mean accuracy with the background, mean F1 without it, ignored pixels left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from models.losses import IGNORE

SMALL = 0.01
"""Classes with a smaller share of the scored pixels are small categories (Ablation study, Table 4)."""


class SegmentationScores(Metric):
    """Pixel accuracy, mean accuracy, mean IoU, mean F1, the means over small classes, and each class's IoU and F1.

    Args:
        classes: class names; id 0 is the background.
        background: whether the background enters the means: ``in``, ``out``, or as in the ``literature``: in mean IoU
            and mean accuracy, not in mean F1. Pixel accuracy always includes it.

    ``compute`` returns fractions 0..1. A class that is neither in the ground truth nor predicted has no IoU and no F1
    (nan) and does not enter the means. ``miou_small`` and ``f1_small`` are means over the classes, without the
    background, that occur and make up less than 1 % of the true pixels; without such a class both are left out.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, classes: Sequence[str], background: str = "literature") -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.background = background
        self.counted: Tensor | None = None
        size = len(self.classes)
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count pixels; prediction and label are class ids of the same shape, label 255 where not scored."""
        size = len(self.classes)
        valid = label != IGNORE
        pairs = label[valid].long() * size + prediction[valid].long()
        self.confusion += torch.bincount(pairs, minlength=size * size).reshape(size, size)

    def compute(self) -> dict[str, Tensor]:
        self.counted = self.confusion.cpu().clone()  # here counts are summed over processes
        matrix = self.counted.double()  # [ground truth, prediction]; some accelerators have no double
        hits, ground_truth, predicted = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
        iou = hits / (ground_truth + predicted - hits)  # 0/0 is nan: absent on both sides
        f1 = 2 * hits / (ground_truth + predicted)
        accuracy = hits / ground_truth
        first = int(self.background == "out")  # the first class that enters the means
        first_f1 = int(self.background != "in")
        scores = {
            "pixel_accuracy": hits.sum() / matrix.sum(),
            "mean_accuracy": accuracy[first:].nanmean(),
            "miou": iou[first:].nanmean(),
            "mean_f1": f1[first_f1:].nanmean(),
        }
        small = (ground_truth > 0) & (ground_truth < SMALL * ground_truth.sum())
        small[0] = False
        if small.any():
            scores |= {"miou_small": iou[small].mean(), "f1_small": f1[small].mean()}
        scores |= {f"iou/{name}": value for name, value in zip(self.classes, iou, strict=True)}
        scores |= {f"f1/{name}": value for name, value in zip(self.classes[first_f1:], f1[first_f1:], strict=True)}
        return {name: value.float() for name, value in scores.items()}

    def named(self, split: str) -> dict[str, Tensor]:
        """The scores as ``<split>/<score>``; in the test also ``test/count/<class>``, true pixels of each class."""
        scores = self.compute()
        if split == "test" and self.counted is not None:
            counts = self.counted.sum(dim=1).float()
            scores = scores | {f"count/{name}": count for name, count in zip(self.classes, counts, strict=True)}
        return {f"{split}/{name}": value for name, value in scores.items()}
