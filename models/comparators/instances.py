"""Conversions between masks and instances, for the comparators that detect."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

BACKGROUND_LOGIT = -10.0
"""The logit of pixels outside all detections."""


def boxes_of(occluded: Tensor) -> list[Tensor]:
    """The box around the occluded pixels of each image: a face has one mask, so an image has one instance or none.

    Args:
        occluded: (N, 1, H, W), 0 or 1.

    Returns:
        for each image (1, 4) or (0, 4) float: left, top, right, bottom, in pixels.
    """
    end = torch.tensor([0, 0, 1, 1], device=occluded.device)  # torchvision's right and bottom are inclusive
    masks = (occluded[:, 0] > 0).split(1)
    return [masks_to_boxes(mask) + end if mask.any() else torch.zeros(0, 4, device=mask.device) for mask in masks]


def union(instances: Tensor, shape: tuple[int, int]) -> Tensor:
    """Logits (K, H, W) of the instances of an image -> logits (1, H, W) of their union."""
    if len(instances) == 0:
        return torch.full((1, *shape), BACKGROUND_LOGIT, device=instances.device)
    return instances.amax(dim=0, keepdim=True).clamp(BACKGROUND_LOGIT, -BACKGROUND_LOGIT)
