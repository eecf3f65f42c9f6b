"""YOLOv8-seg of the package ultralytics, a reference for :mod:`models.comparators.yolo`.

**The package is under AGPL-3.0**, which obliges those who distribute or serve software built with it to more than this
project's licence does. It is therefore not a dependency: none of its code is here, and it is imported only if it is
installed and ``model=yolo_ultralytics`` is chosen.

From the original: network, losses and their weights, all by the package. Choices, as in our own: one class, YOLOv8-s's
channels as the published width, a minimum score of 0.25, the union of all detections as the prediction. Left out:
mosaics, its own schedule and trainer, since all comparators share one; its weights, which are published as pickles.
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
from models.comparators.yolo import BINS, anchor_points, union_of_detections
from models.comparators.yolo_loss import Predictions


class UltralyticsSegmenter(nn.Module):
    """Detects and segments masks, one class; the prediction is the union of all detections.

    Args:
        width: channels of the first convolution (16 of YOLOv8-n, 32 of YOLOv8-s); sixteen times as many in the last.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.

    Raises:
        ImportError: with instructions, if the package is not installed.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        os.environ.setdefault("YOLO_OFFLINE", "true")  # no update checks, no usage reports
        os.environ.setdefault("YOLO_AUTOINSTALL", "false")
        os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # not the home folder
        try:
            from ultralytics.cfg import get_cfg
            from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

            if tuple(int(part) for part in version("ultralytics").split(".")[:2]) < (8, 4):
                raise ImportError("8.4 or later")
        except ImportError as error:
            raise ImportError(
                f"model=yolo_ultralytics needs the package ultralytics ({error}).\nIt is under AGPL-3.0, which "
                "obliges you to more than this project's licence; it is therefore not among the dependencies.\n"
                "Install it with: pip install 'ultralytics>=8.4'; or use model=yolo, our own implementation."
            ) from error
        scale = {"scales": {"own": [0.33, width / 64, 1024]}, "scale": "own"}  # depth, width, most channels
        description = yaml_model_load("yolov8s-seg.yaml") | scale | {"nc": 1}
        self.network = SegmentationModel(description, ch=3, nc=1, verbose=False)
        self.network.args = get_cfg()  # its losses read their weights there

    def forward(self, image: Tensor) -> Tensor:
        return union_of_detections(self._predict(image), (image.shape[-2], image.shape[-1]))

    def losses(self, image: Tensor, occluded: Tensor) -> dict[str, Tensor]:
        """Losses of boxes, masks, scores and sides, by the package's own code; occluded (N, 1, H, W), 0 or 1."""
        from ultralytics.utils.loss import v8SegmentationLoss

        boxes = boxes_of(occluded)
        place = torch.cat([torch.full((len(box),), float(n), device=occluded.device) for n, box in enumerate(boxes)])
        corners = torch.cat(boxes) / occluded.new_tensor([occluded.shape[-1], occluded.shape[-2]]).repeat(2)  # 0..1
        batch = {
            "batch_idx": place,
            "cls": torch.zeros_like(place)[:, None],
            "bboxes": torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1),
            "masks": (F.avg_pool2d(occluded, 4)[:, 0] >= 0.5).float(),  # [N, H/4, W/4], the number of the instance
        }
        outputs = _floats(self._outputs(image))
        with torch.autocast(image.device.type, enabled=False):
            total, parts = v8SegmentationLoss(self.network).loss(outputs, batch)
        return {name: loss / len(image) for name, loss in zip(parts, total, strict=True)}

    def _outputs(self, image: Tensor) -> dict[str, Any]:
        outputs = self.network(image)
        return outputs if self.network.training else outputs[1]

    def _predict(self, image: Tensor) -> Predictions:
        outputs = self._outputs(image)
        sides = outputs["boxes"].float().transpose(1, 2).unflatten(2, (4, BINS))  # [N, A, 4, BINS]
        anchors, strides = anchor_points(outputs["feats"], image.shape[-1])
        coefficients = outputs["mask_coefficient"].transpose(1, 2)  # [N, A, 32]
        return Predictions(outputs["scores"][:, 0].float(), sides, coefficients, outputs["proto"], anchors, strides)


def _floats(outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [level.float() for level in value] if isinstance(value, list) else value.float()
        for name, value in outputs.items()
    }
