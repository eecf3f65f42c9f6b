"""The systems of the occlusion paper's Table 4, and one of today, for training under one budget.

One contract for all: ``network(image)`` takes a normalised image (N, 3, H, W), H and W multiples of 32, and gives the
logits (N, 1, H, W) of "occluded", above 0 where it is. What a network learns next to its mask it says by itself:
``training_loss(image, occluded, mask_loss)`` where its loss is of pixels, ``losses(image, occluded)`` where it detects
instances; ``occluded`` is 0 too where a label says nothing, as beyond a turned image, which only losses of pixels leave
out. None of the papers has code of its authors; each file says what is theirs, a choice, or left out.
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
"""Name -> network; each takes ``width``, the channels of its first level, and has a published one as its default."""


def published_encoder(network: str, width: int | None) -> str | None:
    """The encoder of a comparator for which there are ImageNet weights, as segmentation-models-pytorch names it."""
    if network == "facial_mask_detector":
        return "vgg16" if width in (None, 64) else None
    if network == "segformer":
        return encoder_of(width or 64)
    return backbone_of(width or 64) if network == "maskplus" else None
