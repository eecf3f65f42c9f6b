"""Conversions between masks and instances, for the comparators that detect."""

from __future__ import annotations

import torch
from torch import Tensor

BACKGROUND_LOGIT = -10.0
"""The logit of pixels outside all detections."""


def boxes_of(occluded: Tensor) -> list[Tensor]:
    """The box around the occluded pixels of each image: a face has one mask, so an image has one instance or none.

    Args:
        occluded: (N, 1, H, W), 0 or 1.

    Returns:
        for each image (1, 4) or (0, 4) float: left, top, right, bottom, in pixels.
    """
    boxes = []
    for mask in occluded[:, 0] > 0:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        if len(rows) == 0:
            boxes.append(torch.zeros(0, 4, device=occluded.device))
            continue
        edges = torch.stack([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1])
        boxes.append(edges[None].float())
    return boxes


def union(instances: Tensor, shape: tuple[int, int]) -> Tensor:
    """Logits (K, H, W) of the instances of an image -> logits (1, H, W) of their union."""
    if len(instances) == 0:
        return torch.full((1, *shape), BACKGROUND_LOGIT, device=instances.device)
    return instances.amax(dim=0, keepdim=True).clamp(BACKGROUND_LOGIT, -BACKGROUND_LOGIT)
