"""Occlusion segmenters with other losses than pixel-wise ones: adversarial training and instance detection.

Batches, scores and logged values are those of :class:`lightning_modules.occlusion.OcclusionSegmentation`.
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

    The loss is the generator's plus the discriminator's; neither has a gradient in the other's parameters, so one
    optimiser updates both in the same step.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.discriminator = PatchDiscriminator(4 * (settings["width"] or 32))

    def training_loss(self, image: Tensor, label: Tensor) -> Tensor:
        valid = (label != IGNORE).unsqueeze(1)
        real = (2.0 * (label == OCCLUDED).unsqueeze(1) - 1) * valid  # [N, 1, H, W], -1 or 1, 0 where ignored
        generated = torch.tanh(self(image) / 2) * valid
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        judged = functional_call(self.discriminator, fixed, (generated,))
        terms = {
            "adversarial": _adversarial_loss(judged, True),
            "l1": (generated - real).abs().sum() / valid.sum().clamp(min=1),
            "discriminator": _adversarial_loss(self.discriminator(real.to(generated.dtype)), True)
            + _adversarial_loss(self.discriminator(generated.detach()), False),
        }
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=len(image))
        return terms["adversarial"] + L1_WEIGHT * terms["l1"] + terms["discriminator"]

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        return [*super().trained_parameters(), *self.discriminator.parameters()]


class DetectionSegmentation(OcclusionSegmentation):
    """MaskPlus and the YOLO segmenters, which compute their own losses; logs each as ``train/<loss>``."""

    def training_loss(self, image: Tensor, label: Tensor) -> Tensor:
        terms: dict[str, Tensor] = self.model.losses(image, (label == OCCLUDED).unsqueeze(1).float())  # type: ignore[operator]
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=len(image))
        return torch.stack(list(terms.values())).sum()


TRAINED_BY = {
    "map_module": AdversarialSegmentation,
    "maskplus": DetectionSegmentation,
    "yolo": DetectionSegmentation,
    "yolo_ultralytics": DetectionSegmentation,
}
"""Networks without a pixel-wise loss -> the Lightning module that trains them."""


def segmentation(network: str | dict[str, Any], **settings: Any) -> OcclusionSegmentation:
    """The Lightning module of a network, see :class:`lightning_modules.occlusion.OcclusionSegmentation`."""
    kind = TRAINED_BY.get(network, OcclusionSegmentation) if isinstance(network, str) else OcclusionSegmentation
    return kind(network=network, **settings)


def _adversarial_loss(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, float(real), dtype=torch.float32))
