"""Predict masks of any image with a trained parser or segmenter: find its faces, predict at the image's own size.

from deploy import load
masks = load("finetune-0123456789ab").predict(image)      # (H, W, 3) uint8 RGB -> masks.label (H, W) uint8
"""

from __future__ import annotations

import copy
import statistics
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from callbacks.checkpoints import load as load_checkpoint
from datamodules.finding.finder import BoxFinder, available, box_finder
from datamodules.finding.names import SMALLEST, FinderName
from datamodules.labels import OCCLUSION, LabelSet
from datamodules.landmarks import NETWORKS, FaceFinder, square_around
from datamodules.reading import shrunk
from datamodules.transforms import FaceTransform
from deploy.images import Photo, enlarged
from deploy.squares import Box, class_id_tiles, find_faces, shrunk_square, within
from foundation.errors import ConfigError, DataError
from lightning_modules.classification import PixelClassification
from lightning_modules.occlusion import OcclusionSegmentation
from lightning_modules.parsing import FaceParsing
from models.layers import folded
from models.uncertainty import expected_error, square_inside
from stages.scoring import require_size, scored_module
from stages.trained import Trained, find

FACES = ("auto", "box", "whole")
MARGIN = 0.45
"""Margin around the box of a face's landmarks, as a share of its longer side; twice as much above."""


@dataclass(frozen=True)
class PredictedFace:
    """One face of an image.

    Args:
        box: left, top and side in pixels of the square around the face; it may extend beyond the image. The
            network sees it white outside, as the paper's crops are, or, of a finder other than dlib, its part within
            the image, stretched as the close crops of training and the images of ``evaluate.py`` are.
        found: how it was found, see :data:`datamodules.landmarks.FOUND`; ``whole`` for the complete image.
        shares: share of what the network saw of each predicted class, 0..1, without the background.
    """

    box: Box
    found: str
    shares: dict[str, float]

    def enlarged(self, factor: int) -> PredictedFace:
        """The face in an image that is ``factor`` times as large."""
        left, top, side = self.box
        return replace(self, box=(factor * left, factor * top, factor * side))


@dataclass(frozen=True)
class Masks:
    """The prediction for one image.

    Args:
        label: class ids of ``labels``, (H, W) uint8.
        faces: the faces, largest first.
        labels: the classes.
        uncertainty: mean over the faces, see :func:`models.uncertainty.expected_error`; None if it is not measured.
    """

    label: np.ndarray
    faces: tuple[PredictedFace, ...]
    labels: LabelSet
    uncertainty: float | None = None

    def enlarged(self, photo: Photo) -> Masks:
        """The masks of :attr:`Photo.pixels` at the size of the image."""
        if photo.factor == 1:
            return self
        label = enlarged(self.label, photo.size, photo.factor)
        faces = tuple(face.enlarged(photo.factor) for face in self.faces)
        return replace(self, label=label, faces=faces)


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
        uncertainty: whether it is measured, of a parser.
    """

    def __init__(
        self,
        module: FaceParsing | PixelClassification | OcclusionSegmentation,
        labels: LabelSet,
        image_size: int,
        finder: FaceFinder | BoxFinder | None,
        faces: str = "auto",
        batch_size: int = 16,
        device: str = "cpu",
        uncertainty: bool = False,
    ) -> None:
        self.module = module.to(device).eval()
        self.labels = labels
        self.finder = finder
        self.faces = faces
        self.batch_size = batch_size
        self.device = device
        self.uncertainty = uncertainty
        self._transform = FaceTransform(image_size, None, labels, seed=0)

    def predict(self, image: np.ndarray) -> Masks:
        """The masks of one image (H, W, 3) uint8 RGB."""
        (masks,) = self.predict_many([image])
        return masks

    def predict_many(self, images: Sequence[np.ndarray]) -> list[Masks]:
        """The masks of several images; the same as image by image."""
        photos = [Photo.of(image) for image in images]
        found = self.stream(photo.pixels for photo in photos)
        return [masks.enlarged(photo) for photo, masks in zip(photos, found, strict=True)]

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[Masks]:
        """The masks of images, in their order; faces of several images share a batch.

        An image is not kept: only its network inputs are, until their batch is complete. Its size must be bounded, see
        :class:`deploy.images.Photo`.
        """
        unfinished: deque[_Unfinished] = deque()
        inputs: list[np.ndarray] = []
        for image in images:
            squares = self.squares(image)
            unfinished.append(_Unfinished((image.shape[0], image.shape[1]), squares, self.labels, self.uncertainty))
            for box, found in squares:
                inputs.append(self._network_input(image, box, found))
                if len(inputs) == self.batch_size:
                    yield from self._finished(inputs, unfinished)
                    inputs.clear()
            del image
        yield from self._finished(inputs, unfinished)

    def squares(self, image: np.ndarray) -> list[tuple[Box, str]]:
        """Left, top and side of each square for the network, and how its face was found."""
        height, width = image.shape[:2]
        side = max(height, width)
        whole = [(((width - side) // 2, (height - side) // 2, side), "whole")]
        if self.faces == "whole" or self.finder is None:
            return whole
        found = [(square_around(face.corners, MARGIN), face.found) for face in find_faces(self.finder, image)]
        return found or ([] if self.faces == "box" else whole)

    def searching(self, smallest: int) -> Predictor:
        """The same predictor, with another size of the smallest faces, in pixels; dlib's detectors have none."""
        if not isinstance(self.finder, BoxFinder):
            return self
        other = copy.copy(self)
        other.finder = BoxFinder(self.finder.detector, smallest)
        return other

    def _finished(self, inputs: Sequence[np.ndarray], unfinished: deque[_Unfinished]) -> Iterator[Masks]:
        """Predict a batch; yields the masks of the images that it completes."""
        for logits in self._logits(inputs) if inputs else ():
            while unfinished[0].is_complete:
                yield unfinished.popleft().masks()
            unfinished[0].add(logits)
        while unfinished and unfinished[0].is_complete:
            yield unfinished.popleft().masks()

    @torch.inference_mode()
    def _logits(self, inputs: Sequence[np.ndarray]) -> Tensor:
        """Network inputs (3, S, S) -> logits (N, C, S, S) float32."""
        return self.module(torch.from_numpy(np.stack(inputs)).to(self.device)).float().cpu()

    def _network_input(self, image: np.ndarray, box: Box, found: str = "whole") -> np.ndarray:
        """The network's input of a face, as in training: a much larger square is first shrunk by averaging."""
        if found in NETWORKS:
            left, top, width, height = within(box, *image.shape[:2])
            photo = shrunk(image[top : top + height, left : left + width], self._transform.least_source)
        else:
            photo = shrunk_square(image, box, self._transform.least_source)
        pixels, _ = self._transform(photo.pixels, None, 0, 0, photo.extent)
        return pixels


class _Unfinished:
    """The masks of an image while its faces are being predicted.

    Args:
        shape: (H, W) of the image.
        squares: of all its faces, largest first.
        labels: the classes.
        uncertainty: whether it is measured.
    """

    def __init__(
        self, shape: tuple[int, int], squares: Sequence[tuple[Box, str]], labels: LabelSet, uncertainty: bool
    ) -> None:
        self.shape, self.squares, self.labels = shape, squares, labels
        self.errors: list[float] | None = [] if uncertainty else None
        self.label: np.ndarray | None = None
        self.faces: list[PredictedFace] = []

    @property
    def is_complete(self) -> bool:
        return len(self.faces) == len(self.squares)

    def masks(self) -> Masks:
        label = np.zeros(self.shape, np.uint8) if self.label is None else self.label
        uncertainty = statistics.fmean(self.errors) if self.errors else None
        return Masks(label, tuple(self.faces), self.labels, uncertainty)

    @torch.inference_mode()
    def add(self, logits: Tensor) -> None:
        """Paste the next face, logits (C, S, S); earlier (larger) faces are not overwritten."""
        if self.label is None:
            self.label = np.zeros(self.shape, np.uint8)
        box, found = self.squares[len(self.faces)]
        closely = found in NETWORKS
        left, top, width, height = within(box, *self.shape) if closely else (*box, box[2])
        if self.errors is not None:
            inside = None if closely else square_inside(box, self.shape, logits.shape[-1])
            self.errors.append(expected_error(logits, inside))
        counts = np.zeros(len(self.labels), np.int64)
        for column, ids in class_id_tiles(logits, height, width):
            counts += np.bincount(ids.ravel(), minlength=len(self.labels))
            _paste(self.label, ids, left + column, top)
        shares = {
            name: round(float(count) / (width * height), 6)
            for name, count in zip(self.labels.classes[1:], counts[1:], strict=True)
            if count
        }
        self.faces.append(PredictedFace(box, found, shares))


def _paste(label: np.ndarray, ids: np.ndarray, left: int, top: int) -> None:
    """Paste the part of a label map that lies within the image, where the image has no class yet."""
    rows = slice(max(top, 0), max(0, min(top + ids.shape[0], label.shape[0])))
    columns = slice(max(left, 0), max(0, min(left + ids.shape[1], label.shape[1])))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = ids[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    target = label[rows, columns]
    np.copyto(target, part, where=target == 0)


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
    uncertainty: bool = False,
    finder: FinderName = "auto",
    finder_model: str | None = None,
    smallest_face: int = SMALLEST,
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
        uncertainty: measure it, of a parser.
        finder: the face detector, see :func:`datamodules.finding.available`.
        finder_model: the file of its model, of YuNet or dlib's network.
        smallest_face: size of the smallest faces that are searched for, in pixels; not for dlib's detectors.

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
    opened = None if faces == "whole" else open_finder(finder, finder_model, landmark_model, smallest_face)
    return Predictor(module, classes_of(trained), int(size), opened, faces, batch_size, device, uncertainty)


def open_finder(
    name: FinderName, model: str | None, landmark_model: str | None, smallest: int
) -> FaceFinder | BoxFinder:
    """The face detector of the settings; see :func:`load` for the arguments and errors."""
    chosen = available(name, model)
    return FaceFinder(landmark_model) if chosen == "dlib" else box_finder(chosen, model, smallest)
