"""Paired augmentation of an image and its label map: a pure function of (seed, epoch, position).

The paper augments by rotation and scale alone. Both are folded, with the resize and the flip, into one affine warp,
so that an image is interpolated once (linear) and a label map once (nearest).
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look up its newest version online

import albumentations as A
import cv2
import numpy as np
from PIL import Image

from datamodules.labels import IGNORE, OCCLUSION, LabelSet
from datamodules.layouts.sample import RelativeBox
from datamodules.photometric import Photometric

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's colour statistics, which the encoders' published weights expect."""

_mean, _std = (255 * np.array(values, dtype=np.float32)[:, None] for values in (MEAN, STD))
NORMALIZED = (np.arange(256, dtype=np.float32) - _mean) * np.reciprocal(_std)
"""Look-up table of normalised values for each byte of each channel: (3, 256) float32."""

cv2.setNumThreads(0)  # the loader's worker processes are the parallelism


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the augmentation of training images.

    Args:
        rotation: largest angle to either side, in degrees (30 in pre-training, 15 in fine-tuning).
        scale: smallest and largest zoom ((0.75, 1.25) and (0.8, 1.2)).
        flip: probability of a mirror image, left and right classes exchanged (0 in the paper).
        color: strength of brightness, contrast and saturation changes, 0..1 (0 in the paper).
        shift: largest move to either side, as a fraction of the image's side.
        degrade: strength of blur, coarse resolution, grain and JPEG artefacts, 0..1.
        crop: probability of a close crop in place of zoom and shift: the box of the face's landmarks with a random
            margin on each side (:data:`MARGINS`), stretched to the output, like a detector's crop. Only for data sets
            with landmarks.
        recolour: probability of recolouring the occlusion, see :class:`Recolour`.
        photometric: strength of light and camera, 0..1, see :class:`datamodules.photometric.Photometric`.
    """

    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    color: float = 0.0
    shift: float = 0.0
    degrade: float = 0.0
    crop: float = 0.0
    recolour: float = 0.0
    photometric: float = 0.0


MARGINS = (-0.05, 0.4)
"""Least and largest margin on a side of a close crop, as a fraction of the box of the face's landmarks: the paper's
crop has 0.25, face detectors have tighter boxes."""

CLOSEST = 2.5
"""Approximate magnification of a close crop; images are decoded finely enough for it."""

FULL: RelativeBox = (0.0, 0.0, 1.0, 1.0)


def affine_matrix(
    source: tuple[float, float],
    size: int,
    angle: float,
    zoom: float,
    mirror: bool,
    shift: tuple[float, float] = (0, 0),
    window: RelativeBox = FULL,
) -> np.ndarray:
    """The 2x3 matrix that takes pixel centres of an image of (H, W) pixels to those of a ``size`` x ``size`` one.

    The image's ``window`` fills the output; angle (degrees, counter-clockwise) and zoom turn about its centre, which
    then moves by ``shift`` (right, down) of the output's side. At angle 0, zoom 1 and the whole image this is exactly
    the resize that ``interpolate(align_corners=False)`` undoes.
    """
    left, top, right, bottom = np.array(window) * (source[1], source[0], source[1], source[0])
    width, height = right - left, bottom - top
    radians = np.deg2rad(angle)
    cosine, sine = zoom * np.cos(radians), zoom * np.sin(radians)
    turn = np.array([[cosine, sine], [-sine, cosine]])  # y points down
    if mirror:
        turn = turn @ np.diag([-1.0, 1.0])
    linear = turn @ np.diag([size / width, size / height])
    offset = size / 2 + size * np.array(shift) - linear @ (left + width / 2, top + height / 2)
    centres = offset + linear @ (0.5, 0.5) - 0.5  # from pixel edges to pixel centres
    return np.column_stack([linear, centres])


class WarpToSize(A.DualTransform):
    """Rotation, zoom, flip and resize as one warp; pixels outside the image get the mean colour and are ignored."""

    def __init__(self, size: int, augmentation: Augmentation, labels: LabelSet | None = None) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.augmentation = augmentation
        self.flip_table = None if labels is None else labels.flip_table

    @property
    def targets_as_params(self) -> list[str]:
        return ["extent", "face"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        move = self.augmentation
        moves = {
            "extent": data["extent"],
            "angle": self.py_random.uniform(-move.rotation, move.rotation),
            "zoom": self.py_random.uniform(*move.scale),
            "mirror": self.py_random.random() < move.flip,
            "shift": tuple(self.py_random.uniform(-move.shift, move.shift) for _ in range(2)) if move.shift else (0, 0),
            "window": FULL,
        }
        if move.crop and data["face"] is not None and self.py_random.random() < move.crop:
            left, top, right, bottom = data["face"]
            sides = np.array([left - right, top - bottom, right - left, bottom - top])
            margins = np.array([self.py_random.uniform(*MARGINS) for _ in sides])
            moves |= {"zoom": 1.0, "shift": (0, 0), "window": tuple(np.array(data["face"]) + margins * sides)}
        return moves

    def apply(self, img: np.ndarray, extent: tuple, **move: Any) -> np.ndarray:
        # Images are decoded for the largest zoom; at a smaller one they are shrunk first, so that no pixel is skipped.
        left, top, right, bottom = move["window"]
        seen = (extent[0] * (bottom - top), extent[1] * (right - left))
        down, across = (max(1, int(side // (self.size * move["zoom"]))) for side in seen)
        if max(down, across) > 1:
            img = np.asarray(Image.fromarray(img).reduce((across, down)))
            extent = (extent[0] / down, extent[1] / across)
        border = (*(round(255 * mean) for mean in MEAN), 0)
        # OpenCV warps four channels to the same values as three, in half the time.
        padded = cv2.cvtColor(img, cv2.COLOR_RGB2RGBA)
        return cv2.cvtColor(self._warp(padded, extent, move, cv2.INTER_LINEAR, border), cv2.COLOR_RGBA2RGB)

    def apply_to_mask(self, mask: np.ndarray, mirror: bool, **move: Any) -> np.ndarray:
        label = self._warp(mask, mask.shape[:2], {"mirror": mirror} | move, cv2.INTER_NEAREST, (IGNORE,))
        return self.flip_table[label] if mirror and self.flip_table is not None else label

    def _warp(self, array: np.ndarray, extent: tuple, move: dict[str, Any], flag: int, border: tuple) -> np.ndarray:
        chosen = {name: move[name] for name in ("angle", "zoom", "mirror", "shift", "window")}
        matrix = affine_matrix(extent, self.size, **chosen)
        size = (self.size, self.size)
        return cv2.warpAffine(array, matrix, size, flags=flag, borderMode=cv2.BORDER_CONSTANT, borderValue=border)


class Recolour(A.ImageOnlyTransform):
    """Recolours the occlusion with a random plain or printed texture; its folds and shadows stay.

    Real masks have more colours than any list of textures, and a network that was trained on a list takes others for
    skin or clothes.
    """

    @property
    def targets_as_params(self) -> list[str]:
        return ["mask"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        texture = printed_texture(self.random_generator, data["mask"].shape)
        return {"occluded": data["mask"] == OCCLUSION.classes.index("occluded"), "texture": texture}

    def apply(self, img: np.ndarray, occluded: np.ndarray, texture: np.ndarray, **params: Any) -> np.ndarray:  # noqa: ARG002
        if not occluded.any():
            return img
        grey = cv2.cvtColor(img, cv2.COLOR_RGB2GRAY).astype(np.float32)
        light = np.clip(grey / max(grey[occluded].mean(), 1), 0.3, 1.7)[..., None]
        share = cv2.GaussianBlur(occluded.astype(np.float32), (0, 0), 0.7)[..., None]  # soft edges, as in the image
        return (img + share * (np.clip(texture * light, 0, 255) - img)).round().astype(np.uint8)


def printed_texture(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A texture of one to five colours in patches, bands or blots of any size: (H, W, 3) float32, 0..255."""
    height, width = shape
    colours = rng.uniform(0, 255, (int(rng.integers(1, 6)), 3)).astype(np.float32)
    grid = rng.integers(1, 12, 2)
    smooth = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_NEAREST
    strength = [
        cv2.resize(rng.standard_normal(grid).astype(np.float32), (width, height), interpolation=smooth) for _ in colours
    ]
    return colours[np.argmax(strength, axis=0)]


CENTRED = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
"""Albumentations' default, nearest neighbours, shifts an image by up to three pixels against its label map."""


def degradations(strength: float) -> list[A.BasicTransform]:
    """Random degradations as by cameras and the web: blur, coarse resolution, grain, JPEG artefacts."""
    return [
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 0.3 + 1.7 * strength), p=0.3 * strength),
        A.Downscale(
            scale_range=(1 - 0.75 * strength, 1.0 - 0.25 * strength),
            interpolation_pair=CENTRED,
            p=0.3 * strength,
        ),
        A.GaussNoise(std_range=(0.0, 0.08 * strength), p=0.3 * strength),
        A.ImageCompression(quality_range=(round(95 - 70 * strength), 95), p=0.4 * strength),
        A.ToGray(p=0.05 * strength),
    ]


class FaceTransform:
    """Image and label map at training size, normalised, augmented by (seed, epoch, position).

    Args:
        size: side of the output, in pixels.
        augmentation: strengths; None only resizes.
        labels: the classes, whose left and right are exchanged in mirror images.
        seed: the stage's seed.
    """

    def __init__(self, size: int, augmentation: Augmentation | None, labels: LabelSet, seed: int) -> None:
        self.size = size
        self.seed = seed
        move = augmentation or Augmentation()
        self.warp = WarpToSize(size, move, labels)
        steps: list[A.BasicTransform] = [self.warp]
        if move.recolour > 0:
            steps.append(Recolour(move.recolour))
        if move.color > 0:
            change = 0.4 * move.color
            steps.append(A.ColorJitter(change, change, change, hue=0.05 * move.color, p=0.8))
        if move.photometric > 0:
            steps.append(Photometric(move.photometric))
        if move.degrade > 0:
            steps += degradations(move.degrade)
        # Image and label map may differ in size: images are decoded no larger than needed.
        self.compose = A.Compose(steps, is_check_shapes=False)

    @property
    def least_source(self) -> int:
        """Least side of a decoded image, in pixels: smaller ones are magnified at the largest zoom."""
        move = self.warp.augmentation
        return round(self.size * max(move.scale[1], CLOSEST if move.crop else 0))

    def __call__(
        self,
        image: np.ndarray,
        label: np.ndarray | None,
        epoch: int,
        position: int,
        extent: tuple[float, float] | None = None,
        face: RelativeBox | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (H, W, 3) uint8 -> (3, size, size) float32; label map (h, w) -> (size, size) uint8.

        ``extent`` is the image's height and width if they are not integers, see
        :class:`datamodules.reading.DecodedImage`; ``face`` is the box of its landmarks.
        """
        self.compose.set_random_state(
            np.random.default_rng([self.seed, epoch, position]),
            random.Random(f"{self.seed}/{epoch}/{position}"),  # noqa: S311
        )
        data: dict[str, Any] = {"image": image, "extent": extent or image.shape[:2], "face": face}
        if label is not None:
            data["mask"] = label
        moved = self.compose(**data)
        return normalize(moved["image"]), moved.get("mask")


def normalize(image: np.ndarray) -> np.ndarray:
    """RGB image (H, W, 3) uint8 -> (3, H, W) float32 by ImageNet's colour statistics, in one pass over each plane."""
    planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for plane, pixels, table in zip(planes, cv2.split(image), NORMALIZED, strict=True):
        cv2.LUT(pixels, table, dst=plane)
    return planes


def denormalize(image: np.ndarray) -> np.ndarray:
    """Normalised image (3, H, W) -> (H, W, 3) uint8 RGB."""
    pixels = image.transpose(1, 2, 0) * np.array(STD, np.float32) + np.array(MEAN, np.float32)
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)
