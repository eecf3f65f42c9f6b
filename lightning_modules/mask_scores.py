"""Scores of binary masks over a data set (section 4.3.2, Equations 2-4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

HIT, FALSE, MISSED, REST = range(4)
"""Columns of the counts: true and false positives, false and true negatives."""


class MaskScores(Metric):
    """Accuracy, mean IoU, IoU, Dice, SSIM, and the false area on faces without a mask.

    Args:
        groups: names of groups of faces, as ``type/surgical``, that are scored separately too.

    ``compute`` returns fractions 0..1, all but SSIM from pixel counts over the data set: ``accuracy``;
    ``miou``, the mean IoU of occluded and seen pixels; ``iou`` and ``dice`` of occluded pixels; ``ssim`` of ground
    truth and prediction as images of 0 and 1, the mean over faces; ``false_area``, the share of pixels predicted as
    occluded on faces whose ground truth is empty; ``iou/<group>`` and ``dice/<group>``. Scores that would be 0/0 are
    left out. ``counted`` is the confusion matrix [ground truth, prediction] of ``seen`` and ``occluded``, (2, 2) long,
    at the last ``compute``; None if nothing was counted.
    """

    full_state_update = False
    classes = ("seen", "occluded")
    counts: Tensor
    bare: Tensor
    ssim: Tensor

    def __init__(self, groups: Sequence[str] = ()) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.counted: Tensor | None = None
        self.add_state("counts", torch.zeros(1 + len(self.groups), 4, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("bare", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")  # false pixels, pixels
        self.add_state("ssim", torch.zeros(2, dtype=torch.float32), dist_reduce_fx="sum")  # sum over faces, faces

    def update(
        self,
        prediction: Tensor,
        ground_truth: Tensor,
        groups: Sequence[Sequence[str]] | None = None,
        valid: Tensor | None = None,
    ) -> None:
        """Count pixels of faces.

        Args:
            prediction: (N, H, W) bool, True where occluded.
            ground_truth: (N, H, W) bool.
            groups: the groups that each face belongs to; unknown ones are ignored.
            valid: (N, H, W) bool, the pixels that count; None takes all. In SSIM the others are seen, in both images.
        """
        if valid is not None:
            prediction, ground_truth = prediction & valid, ground_truth & valid
        for index, (predicted, occluded) in enumerate(zip(prediction, ground_truth, strict=True)):
            codes = 2 * (~predicted) + (~occluded)  # hit, false, missed, rest
            counts = torch.bincount((codes if valid is None else codes[valid[index]]).flatten().long(), minlength=4)
            self.counts[0] += counts
            for group in groups[index] if groups is not None else ():
                if group in self.groups:
                    self.counts[1 + self.groups.index(group)] += counts
            if not counts[HIT] + counts[MISSED]:
                self.bare += torch.stack([counts[FALSE], counts.sum()])
        first, second = (mask.unsqueeze(1).float() for mask in (prediction, ground_truth))  # [N, 1, H, W]
        alike = structural_similarity_index_measure(first, second, data_range=1.0, reduction="none")
        assert isinstance(alike, Tensor)  # noqa: S101 (for the type checker: without full images it returns a tensor)
        self.ssim += torch.stack([alike.sum(), alike.new_tensor(float(len(prediction)))])

    def compute(self) -> dict[str, Tensor]:
        total = self.counts[0].cpu()  # here counts are summed over processes
        self.counted = total[[REST, FALSE, MISSED, HIT]].view(2, 2) if total.any() else None
        counts = self.counts.cpu().double()  # some accelerators have no double
        hit, false, missed, rest = counts.unbind(dim=1)
        iou, dice = hit / (hit + false + missed), 2 * hit / (2 * hit + false + missed)
        scores = {
            "accuracy": (hit[0] + rest[0]) / counts[0].sum(),
            "miou": torch.stack([iou[0], rest[0] / (rest[0] + false[0] + missed[0])]).nanmean(),
            "iou": iou[0],
            "dice": dice[0],
            "ssim": self.ssim[0].cpu().double() / self.ssim[1].cpu(),
            "false_area": self.bare[0].cpu().double() / self.bare[1].cpu(),
        }
        for index, group in enumerate(self.groups, start=1):
            scores |= {f"iou/{group}": iou[index], f"dice/{group}": dice[index]}
        return {name: value.float() for name, value in scores.items() if not value.isnan()}
