"""The loss of the YOLO-style segmenter: assigns positions to masks and sums the weighted terms.

Task-aligned assignment (Feng et al. 2021): a mask is assigned to the ten positions inside its box with the highest
alignment score^0.5 IoU^6. At these positions the loss compares the score with the normalised alignment, the box with
the mask's (complete IoU, and the distribution of each distance, Li et al. 2020) and, inside the box, the mask. Weights
as published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou, complete_box_iou_loss

ASSIGNED, SCORE_POWER, IOU_POWER = 10, 0.5, 6.0
WEIGHTS = {"score": 0.5, "box": 7.5, "sides": 1.5, "mask": 7.5}


class Predictions(NamedTuple):
    """Outputs of the network at A positions of each of N images.

    Args:
        score: (N, A) logits.
        sides: (N, A, 4, BINS) logits of the distances to left, top, right and bottom, in strides.
        coefficients: (N, A, P), of prototypes.
        prototypes: (N, P, H/4, W/4).
        anchors: (A, 2), centres of the positions, x and y in pixels.
        strides: (A, 1), in pixels.
    """

    score: Tensor
    sides: Tensor
    coefficients: Tensor
    prototypes: Tensor
    anchors: Tensor
    strides: Tensor

    def boxes(self) -> Tensor:
        """(N, A, 4): left, top, right, bottom, in pixels."""
        bins = torch.arange(self.sides.shape[-1], device=self.sides.device, dtype=self.sides.dtype)
        distances = (self.sides.softmax(dim=-1) @ bins) * self.strides  # [N, A, 4]
        return torch.cat([self.anchors - distances[..., :2], self.anchors + distances[..., 2:]], dim=-1)


def detection_losses(predictions: Predictions, occluded: Tensor, ground_truth: Sequence[Tensor]) -> dict[str, Tensor]:
    """The weighted losses: score, box and sides divided by the sum of target scores; the mean over masks.

    Args:
        predictions: of N images.
        occluded: (N, 1, H, W), 0 or 1.
        ground_truth: for each image the box of its mask, (1, 4) or (0, 4), in pixels.
    """
    boxes = predictions.boxes()
    target_scores = torch.zeros_like(predictions.score)
    # Every output has a gradient.
    empty = 0 * (predictions.sides.sum() + predictions.coefficients.sum() + predictions.prototypes.sum())
    sums, assigned = dict.fromkeys(("box", "sides", "mask"), empty), 0
    for image, box in enumerate(ground_truth):
        if len(box) == 0:
            continue
        score, found = predictions.score[image].detach(), boxes[image].detach()
        chosen, scores = assign_positions(score, found, box[0], predictions.anchors)
        target_scores[image, chosen] = scores
        target = box.expand(len(chosen), 4)
        box_loss = complete_box_iou_loss(boxes[image, chosen], target, reduction="none")
        sums["box"] = sums["box"] + (box_loss * scores).sum()
        sides = distribution_loss(predictions, image, chosen, target)
        sums["sides"] = sums["sides"] + (sides * scores).sum()
        coefficients, prototypes = predictions.coefficients[image, chosen], predictions.prototypes[image]
        logits = torch.einsum("kp,phw->khw", coefficients, prototypes)
        sums["mask"] = sums["mask"] + mask_loss(logits.float(), occluded[image], box[0]).sum()
        assigned += len(chosen)
    total = target_scores.sum().clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(predictions.score, target_scores, reduction="sum")
    parts = {"score": entropy / total, "box": sums["box"] / total, "sides": sums["sides"] / total}
    parts["mask"] = sums["mask"] / max(1, assigned)
    return {name: WEIGHTS[name] * value for name, value in parts.items()}


def assign_positions(score: Tensor, boxes: Tensor, ground_truth: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """The positions that one box is assigned to, and their target scores.

    Args:
        score: (A,) logits.
        boxes: (A, 4).
        ground_truth: (4,), the box.
        anchors: (A, 2).

    Returns:
        indices (K,) with K <= 10, and scores (K,) in 0..1.
    """
    within = ((anchors > ground_truth[:2]) & (anchors < ground_truth[2:])).all(dim=1).nonzero()[:, 0]
    overlap = complete_box_iou(boxes[within], ground_truth[None])[:, 0].clamp(min=0)
    alignment = score[within].sigmoid() ** SCORE_POWER * overlap**IOU_POWER
    best = alignment.topk(min(ASSIGNED, len(within))).indices
    alignment, overlap = alignment[best], overlap[best]
    return within[best], alignment * overlap.max() / (alignment.max() + 1e-9) if len(best) else alignment


def distribution_loss(predictions: Predictions, image: int, chosen: Tensor, ground_truth: Tensor) -> Tensor:
    """Cross-entropy (K,) of each distance with its two nearest bins, averaged over the four sides; boxes (K, 4)."""
    at, stride = predictions.anchors[chosen], predictions.strides[chosen]
    distances = torch.cat([at - ground_truth[:, :2], ground_truth[:, 2:] - at], dim=1) / stride  # [K, 4]
    logits = predictions.sides[image, chosen]  # [K, 4, BINS]
    distances = distances.clamp(0, logits.shape[-1] - 1.01)
    low = distances.long()
    rest = distances - low
    below, above = (
        F.cross_entropy(logits.flatten(0, 1), bins.flatten(), reduction="none").view_as(rest) for bins in (low, low + 1)
    )
    return (below * (1 - rest) + above * rest).mean(dim=1)


def mask_loss(logits: Tensor, occluded: Tensor, box: Tensor) -> Tensor:
    """Binary cross-entropy (K,) of logits (K, h, w) with a mask (1, H, W), averaged over the pixels of its box."""
    height, width = logits.shape[-2:]
    small = (F.interpolate(occluded[None], size=(height, width), mode="area")[0] >= 0.5).float()  # [1, h, w]
    edges = box * (width / occluded.shape[-1])
    left, top, right, bottom = edges.ceil().long().tolist()
    part, ground_truth = logits[:, top:bottom, left:right], small[:, top:bottom, left:right]
    entropy = F.binary_cross_entropy_with_logits(part, ground_truth.expand_as(part), reduction="none")
    return entropy.sum(dim=(1, 2)) / (edges[2:] - edges[:2]).prod()
