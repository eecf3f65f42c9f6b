"""The systems of the occlusion paper's Table 4, and SegFormer, for training under one budget.

All share one interface: ``network(image)`` takes a normalised image (N, 3, H, W), H and W multiples of 32, and returns
the logits (N, 1, H, W) of "occluded". A network with additional loss terms implements
``training_loss(image, occluded, mask_loss)``, if it is trained pixel by pixel, or ``losses(image, occluded)``, if it
detects instances. ``occluded`` is 0 at ignored pixels too, such as those beyond a rotated image; only ``mask_loss``
leaves them out. The implementations are our own or use public packages; each file lists what is from the paper, what
is a choice, and what is left out.
"""

from __future__ import annotations

from torch import nn

from models.comparators.facial_mask_detector import FacialMaskDetector
from models.comparators.ganmasker import GANMasker
from models.comparators.map_module import MapModule, PatchDiscriminator
from models.comparators.mask_then_classify import MaskThenClassify
from models.comparators.maskplus import MaskPlus, backbone_of
from models.comparators.segformer import SegFormer, encoder_of
from models.comparators.unet_id import UNetId
from models.comparators.yolo import YOLOSegmenter
from models.comparators.yolo_ultralytics import UltralyticsSegmenter

__all__ = ["COMPARATORS", "PatchDiscriminator", "published_encoder"]

COMPARATORS: dict[str, type[nn.Module]] = {
    "map_module": MapModule,
    "facial_mask_detector": FacialMaskDetector,
    "mask_then_classify": MaskThenClassify,
    "unet_id": UNetId,
    "maskplus": MaskPlus,
    "yolo": YOLOSegmenter,
    "yolo_ultralytics": UltralyticsSegmenter,
    "ganmasker": GANMasker,
    "segformer": SegFormer,
}
"""Name -> network; each takes ``width``, the channels of its first level, with the published one as default."""


def published_encoder(network: str, width: int | None) -> str | None:
    """The name in segmentation-models-pytorch of a comparator's encoder; None if it has no ImageNet weights."""
    if network == "facial_mask_detector":
        return "vgg16" if width in (None, 64) else None
    if network == "segformer":
        return encoder_of(width or 64)
    return backbone_of(width or 64) if network == "maskplus" else None
