"""Segmenters of occluded faces that are not trained pixel by pixel: an adversary's, and those that detect.

Batches, scores and what is logged are those of :class:`lightning_modules.occlusion.OcclusionSegmentation`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from lightning_modules.occlusion import OCCLUDED, OcclusionSegmentation
from models.comparators import PatchDiscriminator
from models.losses import IGNORE

L1_WEIGHT = 200.0


class AdversarialSegmentation(OcclusionSegmentation):
    """The map module with its patch discriminator; logs ``train/adversarial``, ``train/l1``, ``train/discriminator``.

    The loss is the generator's plus the discriminator's, with no gradient of the one in the other's parameters: both
    take their step at once, by one optimiser.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.discriminator = PatchDiscriminator(4 * (settings["width"] or 32))

    def training_loss(self, image: Tensor, label: Tensor) -> Tensor:
        valid = (label != IGNORE).unsqueeze(1)
        true = (2.0 * (label == OCCLUDED).unsqueeze(1) - 1) * valid  # [N, 1, H, W], -1 or 1, 0 beyond the image
        drawn = torch.tanh(self(image) / 2) * valid
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, fixed, (drawn,))
        terms = {
            "adversarial": _says(fooled, True),
            "l1": (drawn - true).abs().sum() / valid.sum().clamp(min=1),
            "discriminator": _says(self.discriminator(true.to(drawn.dtype)), True)
            + _says(self.discriminator(drawn.detach()), False),
        }
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=len(image))
        return terms["adversarial"] + L1_WEIGHT * terms["l1"] + terms["discriminator"]

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        return [*super().trained_parameters(), *self.discriminator.parameters()]


class DetectionSegmentation(OcclusionSegmentation):
    """MaskPlus and the YOLOv8 segmenters, which say themselves what they owe; logs ``train/<loss>`` for each."""

    def training_loss(self, image: Tensor, label: Tensor) -> Tensor:
        terms: dict[str, Tensor] = self.model.losses(image, (label == OCCLUDED).unsqueeze(1).float())  # type: ignore[operator]
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=len(image))
        return torch.stack(list(terms.values())).sum()


LEARNS = {
    "map_module": AdversarialSegmentation,
    "maskplus": DetectionSegmentation,
    "yolo": DetectionSegmentation,
    "yolo_ultralytics": DetectionSegmentation,
}
"""Networks that are not trained pixel by pixel -> what trains them."""


def segmentation(network: str | dict[str, Any], **settings: Any) -> OcclusionSegmentation:
    """What trains and scores a network, see :class:`lightning_modules.occlusion.OcclusionSegmentation`."""
    kind = LEARNS.get(network, OcclusionSegmentation) if isinstance(network, str) else OcclusionSegmentation
    return kind(network=network, **settings)


def _says(logits: Tensor, true: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, float(true), dtype=torch.float32))
