"""Scores of masks on faces without pixel ground truth: how well boxes fit, which faces are called occluded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchvision.ops import box_iou, masks_to_boxes

CALLED_FROM = 0.05
"""A face counts as occluded where the mask covers at least this share of its image."""
HIT_FROM = 0.5
"""Minimum IoU at which a box counts as found."""
FINE = 10**9
"""Shares are summed as integers, in units of 1 / FINE."""


class AnnotationScores(Metric):
    """Scores of masks on faces without pixel ground truth.

    Args:
        groups: names of groups of faces, as ``kind/masked``, that are scored separately.

    ``compute`` returns fractions 0..1. ``box_iou`` is the mean over faces with an occluder's box of its IoU with the
    box around the mask (0 for an empty mask), ``box_hits`` the share of them with at least :data:`HIT_FROM`;
    ``false_area`` the mean share of pixels predicted as occluded on bare faces; ``called/<group>`` the share of a
    group's faces of which at least :data:`CALLED_FROM` is predicted as occluded, ``area/<group>`` the mean share of
    pixels; ``balanced_accuracy`` the mean of ``called/kind/masked`` and of 1 - ``called/kind/bare``. Scores that
    would be 0/0 are left out.
    """

    full_state_update = False
    counts: Tensor
    boxes: Tensor

    def __init__(self, groups: Sequence[str] = ()) -> None:
        super().__init__()
        self.groups = tuple(dict.fromkeys((*groups, "kind/masked", "kind/bare")))
        # Integers, since some accelerators have no double.
        zeros = torch.zeros(len(self.groups), 3, dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")  # faces, called occluded, sum of areas
        self.add_state("boxes", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")  # boxes, hits, sum of IoU

    def update(self, prediction: Tensor, occluders: Tensor, groups: Sequence[Sequence[str]]) -> None:
        """Count faces.

        Args:
            prediction: (N, H, W) bool, True where occluded.
            occluders: (N, 4), left, top, right, bottom as fractions of the image's sides; NaN where not annotated.
            groups: the groups that each face belongs to.
        """
        areas = prediction.cpu().flatten(1).double().mean(dim=1)
        for area, names in zip(areas.tolist(), groups, strict=True):
            row = torch.tensor([1, int(area >= CALLED_FROM), round(area * FINE)])
            for name in names:
                if name in self.groups:
                    self.counts[self.groups.index(name)] += row.to(self.counts)
        known = ~occluders.isnan().any(dim=1)
        ious = box_iou(mask_boxes(prediction[known]), occluders[known].cpu().double()).diag()
        sums = [len(ious), int((ious >= HIT_FROM).sum()), round(float(ious.sum()) * FINE)]
        self.boxes += torch.tensor(sums).to(self.boxes)

    def compute(self) -> dict[str, Tensor]:
        unit = torch.tensor([1, 1, FINE])
        faces, called, area = (self.counts.cpu().double() / unit).unbind(dim=1)
        boxes, hits, ious = (self.boxes.cpu().double() / unit).unbind()
        share = dict(zip(self.groups, called / faces, strict=True))
        mean_area = dict(zip(self.groups, area / faces, strict=True))
        scores = {
            "balanced_accuracy": (share["kind/masked"] + 1 - share["kind/bare"]) / 2,
            "false_area": mean_area["kind/bare"],
            "box_iou": ious / boxes,
            "box_hits": hits / boxes,
        }
        scores |= {f"called/{name}": value for name, value in share.items()}
        scores |= {f"area/{name}": value for name, value in mean_area.items()}
        return {name: value.float() for name, value in scores.items() if not value.isnan()}


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes around masks (N, H, W), bool: (N, 4) double, left, top, right, bottom in 0..1; zeros if empty."""
    height, width = masks.shape[1:]
    masks = masks.cpu()
    found = masks.flatten(1).any(dim=1)
    boxes = torch.zeros(len(masks), 4, dtype=torch.float64)
    boxes[found] = masks_to_boxes(masks[found]).double() + torch.tensor([0, 0, 1, 1])  # its edges are inclusive
    return boxes / torch.tensor([width, height, width, height])
