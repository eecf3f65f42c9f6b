"""A trained parser or segmenter that takes any image: finds its faces, and gives masks at the image's own size.

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
from stages.scoring import scored_module

FACES = ("auto", "box", "whole")
MARGIN = 0.45
"""What is cut out beyond the box of a face's landmarks, on every side, in shares of its longer side; twice on top."""


@dataclass(frozen=True)
class PredictedFace:
    """One face of an image.

    Args:
        box: left, top and side of the square that the network saw, in pixels; it may reach beyond the image.
        found: how, see :data:`datamodules.landmarks.FOUND`; ``whole`` where the image was taken as it is.
        shares: the share of the square that each class takes, of those that are there but for the background.
    """

    box: tuple[int, int, int]
    found: str
    shares: dict[str, float]


@dataclass(frozen=True)
class Masks:
    """What was found in an image.

    Args:
        label: ids of ``labels``, (H, W) uint8.
        faces: the faces, the largest first.
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
        finder: finds faces.
        faces: ``auto``, ``box`` or ``whole``, see ``conf/predict.yaml``.
        batch_size: faces that pass the network at once.
        device: where the network runs.
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
        """The masks of images, each as if it were alone."""
        places = [self.squares(image) for image in images]
        jobs = [(index, *place) for index, found in enumerate(places) for place in found]
        answers = self._answers([square(images[index], *box) for index, box, _ in jobs])
        labels = [np.zeros(image.shape[:2], np.uint8) for image in images]
        faces: list[list[PredictedFace]] = [[] for _ in images]
        for (index, box, found), answer in zip(jobs, answers, strict=True):
            self._paste(labels[index], box, answer)
            counts = np.bincount(answer.ravel(), minlength=len(self.labels))
            shares = {
                name: round(float(count) / answer.size, 6)
                for name, count in zip(self.labels.classes[1:], counts[1:], strict=True)
                if count
            }
            faces[index].append(PredictedFace(box, found, shares))
        return [Masks(label, tuple(some), self.labels) for label, some in zip(labels, faces, strict=True)]

    def squares(self, image: np.ndarray) -> list[tuple[tuple[int, int, int], str]]:
        """Left, top and side of each square that the network is to see, and how its face was found."""
        height, width = image.shape[:2]
        side = max(height, width)
        whole = [(((width - side) // 2, (height - side) // 2, side), "whole")]
        if self.faces == "whole" or self.finder is None:
            return whole
        found = [(crop_box(face.landmarks, MARGIN), face.found) for face in self.finder(image)]
        return found or ([] if self.faces == "box" else whole)

    @torch.inference_mode()
    def _answers(self, crops: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The label map (side, side) of each crop."""
        for start in range(0, len(crops), self.batch_size):
            some = crops[start : start + self.batch_size]
            images = np.stack([self._seen(crop) for crop in some])
            logits = self.module(torch.from_numpy(images).to(self.device)).float().cpu()
            for single, crop in zip(logits, some, strict=True):
                yield _decided(single, len(crop))

    def _seen(self, crop: np.ndarray) -> np.ndarray:
        """A square as in training: what is far larger than the network's input is averaged first."""
        photo = shrunk(crop, self._transform.least_source)
        image, _ = self._transform(photo.pixels, None, 0, 0, photo.extent)
        return image

    def _paste(self, label: np.ndarray, box: tuple[int, int, int], answer: np.ndarray) -> None:
        """Bring a face's label map into its image; faces that came before, which are larger, stay."""
        left, top, side = box
        height, width = label.shape
        rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
        part = answer[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        there = label[rows, columns]
        there[there == 0] = part[there == 0]


def _decided(logits: Tensor, side: int) -> np.ndarray:
    """Logits (C, S, S) -> ids (side, side) uint8; one channel says "occluded"."""
    full = F.interpolate(logits[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    ids = (full[0] > 0) if len(full) == 1 else full.argmax(dim=0)
    return ids.to(torch.uint8).numpy()


def classes_of(trained: Trained) -> LabelSet:
    """The classes of a parser, or those of a segmenter.

    Raises:
        DataError: if its checkpoint does not hold them.
    """
    labels = OCCLUSION if trained.stage == "segment" else trained.labels
    if labels is None:
        raise DataError(f"{trained.best} does not hold its classes.\nExpected: a checkpoint of this project.")
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
    """A predictor from a run or a checkpoint.

    Args:
        checkpoint: a run's name, its folder, or a ``best.ckpt``.
        output_dir: the folder that holds ``runs/``, for a name.
        image_size: side of the network's input; None as it was trained.
        faces: ``auto``, ``box`` or ``whole``.
        batch_size: faces that pass the network at once.
        device: as torch names it.
        landmark_model: see :func:`datamodules.landmarks.landmark_model`.
        trust: package whose code the checkpoint may name, see :func:`engine.plugins.require_trusted`.

    Raises:
        ConfigError: if there is no such checkpoint, or a setting cannot be.
        DataError: if the checkpoint cannot be read, or is none of a parser or segmenter.
    """
    if faces not in FACES:
        raise ConfigError(f"faces={faces} cannot be.\nExpected: one of {', '.join(FACES)}.")
    trained = find(checkpoint, Path(output_dir))
    content = load_checkpoint(trained.best)
    module = scored_module(content, "literature", path=trained.best, trust=trust)
    module.model = folded(module.model)  # equal outputs, an eighth faster
    size = image_size or trained.settings.get("datamodule.image_size")
    if size is None:
        raise ConfigError(
            f"{trained.best} does not say at which size it was trained.\nExpected: image_size=480, or so."
        )
    finder = None if faces == "whole" else FaceFinder(landmark_model)
    return Predictor(module, classes_of(trained), int(size), finder, faces, batch_size, device)
