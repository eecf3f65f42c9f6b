"""Predict masks of any image with a trained parser or segmenter: find its faces, predict at the image's own size.

from deploy import load
masks = load("finetune-0123456789ab").predict(image)      # (H, W, 3) uint8 RGB -> masks.label (H, W) uint8
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from callbacks.checkpoints import load as load_checkpoint
from datamodules.labels import OCCLUSION, LabelSet
from datamodules.landmarks import FaceFinder, crop_box, square
from datamodules.reading import shrunk
from datamodules.transforms import FaceTransform
from foundation.errors import ConfigError, DataError
from lightning_modules.classification import PixelClassification
from lightning_modules.occlusion import OcclusionSegmentation
from lightning_modules.parsing import FaceParsing
from models.layers import folded
from stages.evaluation import Trained, find
from stages.scoring import require_size, scored_module

FACES = ("auto", "box", "whole")
MARGIN = 0.45
"""Margin around the box of a face's landmarks, as a share of its longer side; twice as much above."""


@dataclass(frozen=True)
class PredictedFace:
    """One face of an image.

    Args:
        box: left, top and side in pixels of the square that the network saw; it may extend beyond the image.
        found: how it was found, see :data:`datamodules.landmarks.FOUND`; ``whole`` for the complete image.
        shares: share of the square of each predicted class, 0..1, without the background.
    """

    box: tuple[int, int, int]
    found: str
    shares: dict[str, float]


@dataclass(frozen=True)
class Masks:
    """The prediction for one image.

    Args:
        label: class ids of ``labels``, (H, W) uint8.
        faces: the faces, largest first.
        labels: the classes.
    """

    label: np.ndarray
    faces: tuple[PredictedFace, ...]
    labels: LabelSet


class Predictor:
    """Predicts masks; see :func:`load`.

    Args:
        module: the parser or segmenter.
        labels: its classes.
        image_size: side of its input, in pixels.
        finder: the face detector; None: the complete image is the face.
        faces: ``auto``, ``box`` or ``whole``, see ``conf/predict.yaml``.
        batch_size: faces in a batch.
        device: torch device.
    """

    def __init__(
        self,
        module: FaceParsing | PixelClassification | OcclusionSegmentation,
        labels: LabelSet,
        image_size: int,
        finder: FaceFinder | None,
        faces: str = "auto",
        batch_size: int = 16,
        device: str = "cpu",
    ) -> None:
        self.module = module.to(device).eval()
        self.labels = labels
        self.finder = finder
        self.faces = faces
        self.batch_size = batch_size
        self.device = device
        self._transform = FaceTransform(image_size, None, labels, seed=0)

    def predict(self, image: np.ndarray) -> Masks:
        """The masks of one image (H, W, 3) uint8 RGB."""
        (masks,) = self.predict_many([image])
        return masks

    def predict_many(self, images: Sequence[np.ndarray]) -> list[Masks]:
        """The masks of several images; the same as image by image."""
        places = [self.squares(image) for image in images]
        jobs = [(index, *place) for index, found in enumerate(places) for place in found]
        label_maps = self._label_maps([square(images[index], *box) for index, box, _ in jobs])
        labels = [np.zeros(image.shape[:2], np.uint8) for image in images]
        faces: list[list[PredictedFace]] = [[] for _ in images]
        for (index, box, found), label_map in zip(jobs, label_maps, strict=True):
            self._paste(labels[index], box, label_map)
            counts = np.bincount(label_map.ravel(), minlength=len(self.labels))
            shares = {
                name: round(float(count) / label_map.size, 6)
                for name, count in zip(self.labels.classes[1:], counts[1:], strict=True)
                if count
            }
            faces[index].append(PredictedFace(box, found, shares))
        return [Masks(label, tuple(some), self.labels) for label, some in zip(labels, faces, strict=True)]

    def squares(self, image: np.ndarray) -> list[tuple[tuple[int, int, int], str]]:
        """Left, top and side of each square for the network, and how its face was found."""
        height, width = image.shape[:2]
        side = max(height, width)
        whole = [(((width - side) // 2, (height - side) // 2, side), "whole")]
        if self.faces == "whole" or self.finder is None:
            return whole
        found = [(crop_box(face.landmarks, MARGIN), face.found) for face in self.finder(image)]
        return found or ([] if self.faces == "box" else whole)

    @torch.inference_mode()
    def _label_maps(self, crops: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The label map (side, side) of each crop."""
        for start in range(0, len(crops), self.batch_size):
            some = crops[start : start + self.batch_size]
            images = np.stack([self._network_input(crop) for crop in some])
            logits = self.module(torch.from_numpy(images).to(self.device)).float().cpu()
            for single, crop in zip(logits, some, strict=True):
                yield _class_ids(single, len(crop))

    def _network_input(self, crop: np.ndarray) -> np.ndarray:
        """The network's input of a square, as in training: a much larger square is first shrunk by averaging."""
        photo = shrunk(crop, self._transform.least_source)
        image, _ = self._transform(photo.pixels, None, 0, 0, photo.extent)
        return image

    def _paste(self, label: np.ndarray, box: tuple[int, int, int], label_map: np.ndarray) -> None:
        """Paste a face's label map into that of its image; earlier (larger) faces are not overwritten."""
        left, top, side = box
        height, width = label.shape
        rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
        part = label_map[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        target = label[rows, columns]
        target[target == 0] = part[target == 0]


def _class_ids(logits: Tensor, side: int) -> np.ndarray:
    """Logits (C, S, S) -> class ids (side, side) uint8; one channel is the logit of occlusion."""
    full = F.interpolate(logits[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    ids = (full[0] > 0) if len(full) == 1 else full.argmax(dim=0)
    return ids.to(torch.uint8).numpy()


def classes_of(trained: Trained) -> LabelSet:
    """The classes of a parser or segmenter.

    Raises:
        DataError: if its checkpoint does not contain them.
    """
    labels = OCCLUSION if trained.stage == "segment" else trained.labels
    if labels is None:
        raise DataError(f"{trained.best} does not contain its classes.\nIt must be a checkpoint of this project.")
    return labels


def load(
    checkpoint: str,
    output_dir: str | Path = "outputs",
    image_size: int | None = None,
    faces: str = "auto",
    batch_size: int = 16,
    device: str = "cpu",
    landmark_model: str | None = None,
    trust: str | None = None,
) -> Predictor:
    """Load a predictor from a run or a checkpoint.

    Args:
        checkpoint: a run's name, its folder, or a ``best.ckpt``.
        output_dir: the folder with ``runs/``, for a name.
        image_size: side of the network's input in pixels; None: as trained.
        faces: ``auto``, ``box`` or ``whole``, see ``conf/predict.yaml``.
        batch_size: faces in a batch.
        device: torch device.
        landmark_model: see :func:`datamodules.landmarks.landmark_model`.
        trust: package whose code the checkpoint may use, see :func:`engine.plugins.require_trusted`.

    Raises:
        ConfigError: if the checkpoint does not exist, or an argument is invalid.
        DataError: if the checkpoint cannot be read, or is not a parser or segmenter.
    """
    if faces not in FACES:
        raise ConfigError(f"faces={faces} is invalid.\nIt must be one of {', '.join(FACES)}.")
    trained = find(checkpoint, Path(output_dir))
    content = load_checkpoint(trained.best)
    module = scored_module(content, "literature", path=trained.best, trust=trust)
    module.model = folded(module.model)  # same output, 12 % faster
    size = image_size or trained.settings.get("datamodule.image_size")
    if size is None:
        raise ConfigError(
            f"{trained.best} does not record its training image size.\nSet image_size=480 or the actual size."
        )
    require_size(module, int(size), trained.best)
    finder = None if faces == "whole" else FaceFinder(landmark_model)
    return Predictor(module, classes_of(trained), int(size), finder, faces, batch_size, device)
