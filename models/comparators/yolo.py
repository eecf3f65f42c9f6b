"""A segmenter after YOLOv8-seg: anchor-free boxes, masks as mixtures of prototypes (Bolya et al. 2019).

Our own code from public descriptions; none is from the AGPL package. From the original: a backbone of C2f blocks and
pooled pyramid (SPPF) and a path-aggregating neck; at each position of three levels a score, the distribution of its
distances to the box's sides and 32 coefficients of prototypes at 1/4 of the image's size; the losses and their weights
(:mod:`models.comparators.yolo_loss`). Choices: depths of YOLOv8-s, and its 32 channels as the published width, since
the occlusion paper does not name the size that it trained; one class; the published minimum score of 0.25. Left out:
mosaics and its own schedule, since all comparators share one; published weights, which are under AGPL.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation, nms

from models.comparators.instances import boxes_of, union
from models.comparators.yolo_loss import Predictions, detection_losses

BINS = 16
"""Bins of the distribution of a distance, one stride each."""
PROTOTYPES = 32
SCORE, OVERLAP, DETECTIONS = 0.25, 0.7, 5
"""Minimum score of a detection, maximum IoU of two, maximum number per image."""


_conv = partial(Conv2dNormActivation, activation_layer=nn.SiLU)
"""Convolution (3x3 by default), batch normalisation, SiLU."""


Maps = tuple[Tensor, Tensor, Tensor]
"""Features of an image at strides 8, 16 and 32: fine, middle and coarse."""


class C2f(nn.Module):
    """A cross-stage partial block: half of the channels pass ``depth`` bottlenecks; all stages are concatenated."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, residual: bool) -> None:
        super().__init__()
        half = out_channels // 2
        self.first = _conv(in_channels, 2 * half, 1)
        self.bottlenecks = nn.ModuleList(nn.Sequential(_conv(half, half), _conv(half, half)) for _ in range(depth))
        self.last = _conv((2 + depth) * half, out_channels, 1)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        stages = list(self.first(x).chunk(2, dim=1))
        for bottleneck in self.bottlenecks:
            stages.append(bottleneck(stages[-1]) + (stages[-1] if self.residual else 0))
        return self.last(torch.cat(stages, dim=1))


class SPPF(nn.Module):
    """Spatial pyramid pooling: a map concatenated with three max poolings of growing size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = _conv(channels, channels // 2, 1), _conv(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.first(x)]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, stride=1, padding=2))
        return self.last(torch.cat(pooled, dim=1))


class Backbone(nn.Module):
    """Image -> :class:`Maps` of 4, 8 and 16 times ``width`` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, width, stride=2), *_stage(width, 1))
        self.fine = nn.Sequential(*_stage(2 * width, 2))
        self.middle = nn.Sequential(*_stage(4 * width, 2))
        self.coarse = nn.Sequential(*_stage(8 * width, 1), SPPF(16 * width))

    def forward(self, image: Tensor) -> Maps:
        fine = self.fine(self.stem(image))  # [N, 4 w, H/8, W/8]
        middle = self.middle(fine)
        return fine, middle, self.coarse(middle)


def _stage(channels: int, depth: int) -> tuple[nn.Module, nn.Module]:
    """Halves the map's sides and doubles its channels."""
    return _conv(channels, 2 * channels, stride=2), C2f(2 * channels, 2 * channels, depth, True)


class Neck(nn.Module):
    """Path aggregation: from coarse to fine and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        fine, middle, coarse = 4 * width, 8 * width, 16 * width
        self.to_middle = C2f(coarse + middle, middle, 1, False)
        self.to_fine = C2f(middle + fine, fine, 1, False)
        self.down_fine, self.down_middle = _conv(fine, fine, stride=2), _conv(middle, middle, stride=2)
        self.back_to_middle = C2f(fine + middle, middle, 1, False)
        self.back_to_coarse = C2f(middle + coarse, coarse, 1, False)

    def forward(self, maps: Maps) -> Maps:
        fine, middle, coarse = maps
        middle = self.to_middle(torch.cat([_doubled(coarse), middle], dim=1))
        fine = self.to_fine(torch.cat([_doubled(middle), fine], dim=1))
        middle = self.back_to_middle(torch.cat([self.down_fine(fine), middle], dim=1))
        return fine, middle, self.back_to_coarse(torch.cat([self.down_middle(middle), coarse], dim=1))


class YOLOSegmenter(nn.Module):
    """Detects and segments masks, one class; the prediction is the union of all detections.

    Args:
        width: channels of the first convolution (32 of YOLOv8-s); sixteen times as many in the last level. Even.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        levels = (4 * width, 8 * width, 16 * width)
        self.backbone, self.neck = Backbone(width), Neck(width)
        self.score = _heads(levels, max(16, 4 * width), 1)
        self.box = _heads(levels, max(16, width, BINS * 4), 4 * BINS)
        self.coefficients = _heads(levels, max(PROTOTYPES, width), PROTOTYPES)
        self.prototypes = nn.Sequential(
            _conv(levels[0], levels[0]),
            nn.ConvTranspose2d(levels[0], levels[0], kernel_size=2, stride=2),
            _conv(levels[0], levels[0]),
            _conv(levels[0], PROTOTYPES, 1),
        )
        for level, stride in zip(self.score, (8, 16, 32), strict=True):
            # Few positions are foreground.
            nn.init.constant_(level.get_parameter("2.bias"), math.log(5 / (640 / stride) ** 2))

    def forward(self, image: Tensor) -> Tensor:
        return union_of_detections(self._predict(image), (image.shape[-2], image.shape[-1]))

    def losses(self, image: Tensor, occluded: Tensor) -> dict[str, Tensor]:
        """Losses of scores, boxes and masks; occluded (N, 1, H, W), 0 or 1."""
        return detection_losses(self._predict(image), occluded, boxes_of(occluded))

    def _predict(self, image: Tensor) -> Predictions:
        maps = self.neck(self.backbone(image))
        flat = [
            torch.cat([head(level).flatten(2) for head, level in zip(heads, maps, strict=True)], dim=2).transpose(1, 2)
            for heads in (self.score, self.box, self.coefficients)
        ]  # [N, A, 1], [N, A, 4 BINS], [N, A, PROTOTYPES]
        anchors, strides = anchor_points(maps, image.shape[-1])
        sides = flat[1].unflatten(2, (4, BINS)).float()  # [N, A, 4, BINS]
        return Predictions(flat[0].squeeze(2).float(), sides, flat[2], self.prototypes(maps[0]), anchors, strides)


def union_of_detections(predictions: Predictions, shape: tuple[int, int]) -> Tensor:
    """Logits (N, 1, H, W): the union of the detected masks of each image, each cropped to its box."""
    score, boxes = predictions.score.sigmoid(), predictions.boxes()
    images = zip(score, boxes, predictions.coefficients, predictions.prototypes, strict=True)
    return torch.stack([_union_of_image(*image, shape) for image in images])


def _union_of_image(
    score: Tensor, boxes: Tensor, coefficients: Tensor, prototypes: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Logits (1, H, W) of one image; (A,), (A, 4), (A, P), (P, H/4, W/4)."""
    kept = (score > SCORE).nonzero()[:, 0]
    kept = kept[nms(boxes[kept], score[kept], OVERLAP)[:DETECTIONS]]
    masks = torch.einsum("kp,phw->khw", coefficients[kept], prototypes).float()
    if len(kept):
        masks = F.interpolate(masks[None], size=shape, mode="bilinear", align_corners=False)[0]
        masks = torch.where(inside(boxes[kept], shape), masks, -math.inf)
    return union(masks, shape)


def inside(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes (K, 4) -> (K, H, W) bool: whether each pixel's centre lies in the box."""
    rows = torch.arange(shape[0], device=boxes.device).view(1, -1, 1) + 0.5
    columns = torch.arange(shape[1], device=boxes.device).view(1, 1, -1) + 0.5
    left, top, right, bottom = boxes[:, :, None, None].unbind(1)  # [K, 1, 1]
    return (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)


def anchor_points(maps: Iterable[Tensor], side: int) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) of all positions, x and y in pixels, and their strides (A, 1) in pixels."""
    anchors, strides = [], []
    for level in maps:
        rows, columns = level.shape[-2:]
        stride = side // columns
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        anchors.append((torch.stack([x, y], dim=2).reshape(-1, 2).to(level.device) + 0.5) * stride)
        strides.append(torch.full((rows * columns, 1), float(stride), device=level.device))
    return torch.cat(anchors), torch.cat(strides)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _heads(levels: tuple[int, ...], channels: int, out_channels: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(_conv(level, channels), _conv(channels, channels), nn.Conv2d(channels, out_channels, 1))
        for level in levels
    )
