"""How the YOLO-style segmenter learns: which positions answer for a mask, and what they owe.

Task-aligned assignment (Feng et al. 2021): of the positions inside a mask's box the ten whose score^0.5 IoU^6 is
highest answer for it. They owe its score (as high as their alignment), its box (complete IoU, and the distribution of
each distance, Li et al. 2020) and, inside the box, its mask. Weights as published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou, complete_box_iou_loss

CHOSEN, SCORE_POWER, IOU_POWER = 10, 0.5, 6.0
WEIGHTS = {"score": 0.5, "box": 7.5, "sides": 1.5, "mask": 7.5}


class Found(NamedTuple):
    """What the network says at each of A positions of N images.

    Args:
        score: (N, A) logits.
        sides: (N, A, 4, BINS) logits of the distances to left, top, right and bottom, in strides.
        coefficients: (N, A, P), of prototypes.
        prototypes: (N, P, H/4, W/4).
        places: (A, 2), x and y in pixels.
        strides: (A, 1).
    """

    score: Tensor
    sides: Tensor
    coefficients: Tensor
    prototypes: Tensor
    places: Tensor
    strides: Tensor

    def boxes(self) -> Tensor:
        """(N, A, 4): left, top, right, bottom, in pixels."""
        bins = torch.arange(self.sides.shape[-1], device=self.sides.device, dtype=self.sides.dtype)
        distances = (self.sides.softmax(dim=-1) @ bins) * self.strides  # [N, A, 4]
        return torch.cat([self.places - distances[..., :2], self.places + distances[..., 2:]], dim=-1)


def detection_losses(found: Found, occluded: Tensor, ground_truth: Sequence[Tensor]) -> dict[str, Tensor]:
    """The weighted losses: of score, box and sides, divided by the sum of the scores owed, and the mean over masks.

    Args:
        found: of N images.
        occluded: (N, 1, H, W), 0 or 1.
        ground truth: for each image its box, (1, 4) or (0, 4), in pixels.
    """
    boxes = found.boxes()
    owed = torch.zeros_like(found.score)
    empty = 0 * (found.sides.sum() + found.coefficients.sum() + found.prototypes.sum())  # a gradient for all, always
    sums, answering = dict.fromkeys(("box", "sides", "mask"), empty), 0
    for place, its in enumerate(ground_truth):
        if len(its) == 0:
            continue
        chosen, scores = assigned(found.score[place].detach(), boxes[place].detach(), its[0], found.places)
        owed[place, chosen] = scores
        target = its.expand(len(chosen), 4)
        off = complete_box_iou_loss(boxes[place, chosen], target, reduction="none")
        sums["box"] = sums["box"] + (off * scores).sum()
        sides = distribution_loss(found, place, chosen, target)
        sums["sides"] = sums["sides"] + (sides * scores).sum()
        logits = torch.einsum("kp,phw->khw", found.coefficients[place, chosen], found.prototypes[place]).float()
        sums["mask"] = sums["mask"] + mask_loss(logits, occluded[place], its[0]).sum()
        answering += len(chosen)
    total = owed.sum().clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(found.score, owed, reduction="sum")
    parts = {"score": entropy / total, "box": sums["box"] / total, "sides": sums["sides"] / total}
    parts["mask"] = sums["mask"] / max(1, answering)
    return {name: WEIGHTS[name] * value for name, value in parts.items()}


def assigned(score: Tensor, boxes: Tensor, ground_truth: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The positions that answer for one box, and the scores that they owe.

    Args:
        score: (A,) logits.
        boxes: (A, 4).
        ground truth: (4,).
        places: (A, 2).

    Returns:
        indices (K,) with K <= 10, and scores (K,) in 0..1.
    """
    within = ((places > ground_truth[:2]) & (places < ground_truth[2:])).all(dim=1).nonzero()[:, 0]
    overlap = complete_box_iou(boxes[within], ground_truth[None])[:, 0].clamp(min=0)
    alignment = score[within].sigmoid() ** SCORE_POWER * overlap**IOU_POWER
    best = alignment.topk(min(CHOSEN, len(within))).indices
    alignment, overlap = alignment[best], overlap[best]
    return within[best], alignment * overlap.max() / (alignment.max() + 1e-9) if len(best) else alignment


def distribution_loss(found: Found, place: int, chosen: Tensor, ground_truth: Tensor) -> Tensor:
    """Cross-entropy of each distance with the two bins about it, (K,), averaged over sides; boxes (K, 4)."""
    at, stride = found.places[chosen], found.strides[chosen]
    distances = torch.cat([at - ground_truth[:, :2], ground_truth[:, 2:] - at], dim=1) / stride  # [K, 4]
    logits = found.sides[place, chosen]  # [K, 4, BINS]
    distances = distances.clamp(0, logits.shape[-1] - 1.01)
    low = distances.long()
    rest = distances - low
    below, above = (
        F.cross_entropy(logits.flatten(0, 1), bins.flatten(), reduction="none").view_as(rest) for bins in (low, low + 1)
    )
    return (below * (1 - rest) + above * rest).mean(dim=1)


def mask_loss(logits: Tensor, occluded: Tensor, box: Tensor) -> Tensor:
    """Binary cross-entropy (K,) of logits (K, h, w) with a mask (1, H, W), inside the mask's box, a pixel of it."""
    height, width = logits.shape[-2:]
    small = (F.interpolate(occluded[None], size=(height, width), mode="area")[0] >= 0.5).float()  # [1, h, w]
    edges = box * (width / occluded.shape[-1])
    left, top, right, bottom = edges.ceil().long().tolist()
    part, ground_truth = logits[:, top:bottom, left:right], small[:, top:bottom, left:right]
    entropy = F.binary_cross_entropy_with_logits(part, ground_truth.expand_as(part), reduction="none")
    return entropy.sum(dim=(1, 2)) / (edges[2:] - edges[:2]).prod()
