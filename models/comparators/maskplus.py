"""MaskPlus (2020): Mask R-CNN with a better mask head; approximated from other papers' descriptions of it.

From the original: Mask R-CNN on a ResNet with a feature pyramid (here torchvision's), and for its mask head contextual
fusion, a deconvolutional pyramid, boundary refinement and quasi-multitask learning. The form of each is a choice:
context is the features of a box twice as large and of the full image; the pyramid has masks of 14, 28 and 56 pixels,
each added to the next finer one; boundaries are refined by a residual block on the logits; the tasks are the masks of
all three sizes. Further choices: anchors that fit the image of a face, four times each level's stride; a ResNet-50 as
published, a ResNet-18 for widths below 64, four times the width as channels of the pyramid, trainable batch norms; and
since an image has one mask or none, an eighth of torchvision's samples (64 per image), a tenth of its proposals (200;
100 in evaluation) and at most 5 detections. Left out: biased training, of which we found no description.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import (
    Conv2dNormActivation,
    FeaturePyramidNetwork,
    MultiScaleRoIAlign,
    clip_boxes_to_image,
    roi_align,
)
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from models.comparators.instances import boxes_of, union

STRIDES = (4, 8, 16, 32, 64)
LEVELS = ("0", "1", "2", "3")
SCORE = 0.5
"""Minimum score of a detection, like the threshold on the pixels of the other comparators."""
CONTEXT = 2.0
"""Side of the context box, as a multiple of the box's."""


class MaskHead(nn.Module):
    """Features of boxes and of their surroundings -> logits of three sizes.

    Shape: three (B, C, 14, 14): features of boxes, of their context boxes, of images -> (B, 1, 14, 14), 28 and 56.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fuse = nn.Sequential(nn.Conv2d(3 * channels, channels, kernel_size=1), nn.ReLU(inplace=True))
        self.body = nn.Sequential(*(Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(4)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(channels, channels, 2, stride=2) for _ in range(2))
        self.predict = nn.ModuleList(nn.Conv2d(channels, 1, kernel_size=1) for _ in range(3))
        self.refine = nn.ModuleList(Refinement() for _ in range(3))

    def forward(self, boxes: Tensor, surroundings: Tensor, images: Tensor) -> list[Tensor]:
        x = self.body(self.fuse(torch.cat([boxes, surroundings, images], dim=1)))
        masks = [self.refine[0](self.predict[0](x))]
        for up, predict, refine in zip(self.up, list(self.predict)[1:], list(self.refine)[1:], strict=True):
            x = F.relu(up(x))  # [B, C, 28, 28], [B, C, 56, 56]
            coarser = F.interpolate(masks[-1], scale_factor=2, mode="bilinear", align_corners=False)
            masks.append(refine(coarser + predict(x)))
        return masks


class Refinement(nn.Module):
    """Boundary refinement (Peng et al. 2017): a residual of two convolutions on logits (B, 1, h, w), kept in shape."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(channels, 1, 3, padding=1)
        )

    def forward(self, logits: Tensor) -> Tensor:
        return logits + self.residual(logits)


class MaskPlus(nn.Module):
    """Detects and segments masks, one class; the prediction is the union of all detections.

    Args:
        width: a quarter of the pyramid's channels (64 as published); below 64 the backbone is a ResNet-18.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = 4 * width
        self.encoder = smp.encoders.get_encoder(backbone_of(width), weights=None)
        self.pyramid = FeaturePyramidNetwork(self.encoder.out_channels[2:], channels, LastLevelMaxPool())
        anchors = AnchorGenerator(tuple((4 * stride,) for stride in STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES))
        kept = {"training": 1000, "testing": 300}
        self.rpn = RegionProposalNetwork(
            anchors, RPNHead(channels, 3), 0.7, 0.3, 256, 0.5, kept, {"training": 200, "testing": 100}, 0.7
        )
        self.boxes = RoIHeads(
            MultiScaleRoIAlign(list(LEVELS), output_size=7, sampling_ratio=2),
            TwoMLPHead(channels * 7**2, channels * 4),
            FastRCNNPredictor(channels * 4, 2),
            *(0.5, 0.5, 64, 0.25, None, SCORE, 0.5, 5),
        )
        self.mask_pool = MultiScaleRoIAlign(list(LEVELS), output_size=14, sampling_ratio=2)
        self.mask_head = MaskHead(channels)

    def forward(self, image: Tensor) -> Tensor:
        images, features = self._features(image)
        with torch.autocast(image.device.type, enabled=False):  # boxes need float32
            return self._union(images, features, (image.shape[-2], image.shape[-1]))

    def _union(self, images: ImageList, features: dict[str, Tensor], shape: tuple[int, int]) -> Tensor:
        proposals = self._proposals(images, features)
        boxes, _, _ = self.boxes.postprocess_detections(
            *self._box_scores(features, proposals, images), proposals, images.image_sizes
        )
        masks = self._masks(features, boxes, shape)[-1].sigmoid()  # [B, 1, 56, 56]
        unions = []
        for single, own in zip(masks.split([len(some) for some in boxes]), boxes, strict=True):
            pasted = paste_masks_in_image(single, own, shape)[:, 0] if len(own) else single.new_zeros(0, *shape)
            unions.append(union(pasted.clamp(1e-5, 1 - 1e-5).logit(), shape))
        return torch.stack(unions)

    def losses(self, image: Tensor, occluded: Tensor) -> dict[str, Tensor]:
        """Losses of proposals, boxes and masks of three sizes; occluded (N, 1, H, W), 0 or 1."""
        images, features = self._features(image)
        with torch.autocast(image.device.type, enabled=False):
            return self._losses(images, features, occluded)

    def _losses(self, images: ImageList, features: dict[str, Tensor], occluded: Tensor) -> dict[str, Tensor]:
        ground_truth = [
            {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64, device=occluded.device)}
            for boxes in boxes_of(occluded)
        ]
        proposals, rpn_losses = self.rpn(images, features, ground_truth)
        proposals, _, labels, offsets = self.boxes.select_training_samples(proposals, ground_truth)
        of_class, of_box = fastrcnn_loss(*self._box_scores(features, proposals, images), labels, offsets)
        positive = [some[kind > 0] for some, kind in zip(proposals, labels, strict=True)]
        masks = self._masks(features, positive, (occluded.shape[-2], occluded.shape[-1]))
        of_masks = [_mask_loss(mask, roi_align(occluded, positive, mask.shape[-1])) for mask in masks]
        return {**rpn_losses, "class": of_class, "box": of_box, "mask": torch.stack(of_masks).sum()}

    def _features(self, image: Tensor) -> tuple[ImageList, dict[str, Tensor]]:
        maps = self.encoder(image)[2:]  # [N, 256, H/4, W/4] ... [N, 2048, H/32, W/32]
        sizes = [(image.shape[-2], image.shape[-1])] * len(image)
        pyramid = self.pyramid(dict(zip(LEVELS, maps, strict=True)))
        return ImageList(image, sizes), {name: level.float() for name, level in pyramid.items()}

    def _proposals(self, images: ImageList, features: dict[str, Tensor]) -> list[Tensor]:
        """Proposals in evaluation mode, also while training: no ground truth is needed."""
        training = self.training
        try:
            return self.rpn.eval()(images, features)[0]
        finally:
            self.rpn.train(training)

    def _box_scores(
        self, features: dict[str, Tensor], proposals: list[Tensor], images: ImageList
    ) -> tuple[Tensor, Tensor]:
        """Logits of the two classes, offsets of the boxes."""
        pooled = self.boxes.box_roi_pool(features, proposals, images.image_sizes)
        return self.boxes.box_predictor(self.boxes.box_head(pooled))

    def _masks(self, features: dict[str, Tensor], boxes: list[Tensor], shape: tuple[int, int]) -> list[Tensor]:
        """Logits of three sizes, for the boxes of all images, concatenated."""
        sizes = [shape] * len(boxes)
        around = [_enlarged(some, shape) for some in boxes]
        pooled = self.mask_pool(features, boxes, sizes), self.mask_pool(features, around, sizes)
        image = F.adaptive_avg_pool2d(features["3"], 1).expand(-1, -1, 14, 14)  # [N, C, 14, 14]
        counts = torch.tensor([len(some) for some in boxes], device=image.device)
        return self.mask_head(*pooled, image.repeat_interleave(counts, dim=0))


def backbone_of(width: int) -> str:
    """The backbone for a width, by its name in segmentation-models-pytorch."""
    return "resnet50" if width >= 64 else "resnet18"


def _enlarged(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes (B, 4) enlarged about their centres by :data:`CONTEXT` and clipped to the image (height, width)."""
    centre, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return clip_boxes_to_image(torch.cat([centre - CONTEXT * half, centre + CONTEXT * half], dim=1), shape)


def _mask_loss(logits: Tensor, ground_truth: Tensor) -> Tensor:
    """Binary cross-entropy over boxes (B, 1, s, s); 0 without boxes."""
    entropy = F.binary_cross_entropy_with_logits(logits.float(), ground_truth, reduction="sum")
    return entropy / max(1, ground_truth.numel())
