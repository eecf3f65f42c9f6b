"""YOLOv8-seg as Ultralytics publishes it, by which :mod:`models.comparators.yolo` can be checked.

**The package is under AGPL-3.0**, which asks more of those who pass on or serve what is built with it than this
project's own licence. It is therefore no dependency: nothing of it is here, and it is imported only where somebody has
installed it and chosen ``model=yolo_ultralytics``.

From the original: network, losses and their weights, all of the package. Choices, as of our own: one class, YOLOv8-s's
channels as the published width, a detection counts from a score of 0.25 on, prediction is the union of what is found.
Left out: mosaics, its own schedule and trainer, as all comparators share one; its weights, which come as pickles.
"""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.comparators.instances import boxes_of
from models.comparators.yolo import BINS, decided, places_of
from models.comparators.yolo_loss import Found


class UltralyticsSegmenter(nn.Module):
    """Detection of masks, one class, and their shape; prediction is the union of what is found.

    Args:
        width: channels of the first convolution (16 of YOLOv8-n, 32 of YOLOv8-s); sixteen times as many in the last.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.

    Raises:
        ImportError: if the package is not installed, with what to do.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        os.environ.setdefault("YOLO_OFFLINE", "true")  # it would look for updates of itself, and tell that it is used
        os.environ.setdefault("YOLO_AUTOINSTALL", "false")
        os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # not the home folder
        try:
            from ultralytics.cfg import get_cfg
            from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

            if tuple(int(part) for part in version("ultralytics").split(".")[:2]) < (8, 4):
                raise ImportError("8.4 or later")
        except ImportError as error:
            raise ImportError(
                f"model=yolo_ultralytics wants the package ultralytics ({error}).\nIt is under AGPL-3.0, a licence "
                "that asks more of you than this project's own, and therefore none of its dependencies.\n"
                "If that suits you: pip install 'ultralytics>=8.4'. If not: model=yolo, our own code in its manner."
            ) from error
        scale = {"scales": {"own": [0.33, width / 64, 1024]}, "scale": "own"}  # depth, width, most channels
        described = yaml_model_load("yolov8s-seg.yaml") | scale | {"nc": 1}
        self.network = SegmentationModel(described, ch=3, nc=1, verbose=False)
        self.network.args = get_cfg()  # where its losses look up their weights

    def forward(self, image: Tensor) -> Tensor:
        return decided(self._found(image), (image.shape[-2], image.shape[-1]))

    def losses(self, image: Tensor, occluded: Tensor) -> dict[str, Tensor]:
        """Those of boxes, masks, scores and sides, by the package's own code; occluded (N, 1, H, W), 0 or 1."""
        from ultralytics.utils.loss import v8SegmentationLoss

        boxes = boxes_of(occluded)
        place = torch.cat([torch.full((len(its),), float(n), device=occluded.device) for n, its in enumerate(boxes)])
        corners = torch.cat(boxes) / occluded.new_tensor([occluded.shape[-1], occluded.shape[-2]]).repeat(2)  # 0..1
        batch = {
            "batch_idx": place,
            "cls": torch.zeros_like(place)[:, None],
            "bboxes": torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1),
            "masks": (F.avg_pool2d(occluded, 4)[:, 0] >= 0.5).float(),  # [N, H/4, W/4], the number of the instance
        }
        said = _floats(self._said(image))
        with torch.autocast(image.device.type, enabled=False):
            total, parts = v8SegmentationLoss(self.network).loss(said, batch)
        return {name: loss / len(image) for name, loss in zip(parts, total, strict=True)}

    def _said(self, image: Tensor) -> dict[str, Any]:
        answer = self.network(image)
        return answer if self.network.training else answer[1]

    def _found(self, image: Tensor) -> Found:
        said = self._said(image)
        sides = said["boxes"].float().transpose(1, 2).unflatten(2, (4, BINS))  # [N, A, 4, BINS]
        places, strides = places_of(said["feats"], image.shape[-1])
        coefficients = said["mask_coefficient"].transpose(1, 2)  # [N, A, 32]
        return Found(said["scores"][:, 0].float(), sides, coefficients, said["proto"], places, strides)


def _floats(said: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [level.float() for level in value] if isinstance(value, list) else value.float()
        for name, value in said.items()
    }
