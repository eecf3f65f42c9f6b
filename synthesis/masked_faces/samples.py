"""The second pass: samples and their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.landmarks import crop_box, square
from datamodules.reading import read_photograph
from synthesis.dataset_build import encoded, write_file
from synthesis.masked_faces.config import MaskedFacesConfig
from synthesis.masks.choices import FaceMask, choose_mask
from synthesis.masks.rendering import render_mask


@dataclass(frozen=True)
class MaskedFaceSample:
    """One sample: a photograph, its faces (`row`, as from the search for faces), and the index k that determines their
    masks."""

    config: MaskedFacesConfig
    index: int
    split: str
    row: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.index:06d}"

    def mask_file(self, root: Path) -> Path:
        """The file that is written last."""
        return root / "masks" / f"{self.id}.png"

    def face_masks(self) -> list[FaceMask]:
        """The face mask of each face; chosen before cropping and scaling, so that neither changes it."""
        rng, choices = np.random.default_rng([self.config.seed, self.index]), self.config.choices
        return [choose_mask(rng, np.array(face["landmarks"]), choices) for face in self.row["faces"]]

    def frame(self) -> tuple[list[int] | None, float, list[int]]:
        """Left, top and side of the crop in the photograph, or None; scale; width and height as written."""
        width, height = self.row["size"]
        crop: list[int] | None = None
        if self.config.crop == "paper":
            crop = list(crop_box(np.array(self.row["faces"][0]["landmarks"])))
            width = height = crop[2]
        scale = 1.0 if self.config.size is None else self.config.size / max(width, height)
        return crop, scale, [max(1, round(width * scale)), max(1, round(height * scale))]

    def faces(self) -> list[np.ndarray]:
        """Landmarks (68, 2) of the faces, in pixels of the written image."""
        crop, scale, _ = self.frame()
        corner = np.array(crop[:2] if crop else (0, 0))
        return [(np.array(face["landmarks"]) - corner + 0.5) * scale - 0.5 for face in self.row["faces"]]

    def line(self) -> dict[str, Any]:
        """Its line of the manifest."""
        crop, _, size = self.frame()
        faces = zip(self.row["faces"], self.faces(), self.face_masks(), strict=True)
        return {
            "id": self.id,
            "image": f"images/{self.id}.{self.config.form}",
            "mask": f"masks/{self.id}.png",
            "split": self.split,
            "source": self.row["source"],
            "size": size,
            "crop": crop,
            "faces": [
                {"landmarks": points.round(2).tolist(), "found": face["found"], **asdict(face_mask)}
                for face, points, face_mask in faces
            ],
        }


def render_sample(root: Path, sample: MaskedFaceSample) -> None:
    """Renders a sample and writes its files into the set at `root`."""
    config = sample.config
    crop, _, size = sample.frame()
    image = read_photograph(Path(sample.row["image"]))
    if crop is not None:
        image = square(image, *crop)  # white beyond the photograph's borders
    if (image.shape[1], image.shape[0]) != tuple(size):
        smaller = size[0] < image.shape[1]
        image = cv2.resize(image, tuple(size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    if config.photographs and sample.split == "train":
        write_file(root / "photographs" / f"{sample.id}.{config.form}", _encoded(image, config.form))
    occlusion = np.zeros(image.shape[:2], np.uint8)
    for landmarks, face_mask in zip(sample.faces(), sample.face_masks(), strict=True):
        image, occluded = render_mask(image, landmarks, face_mask, config.choices)
        occlusion |= occluded
    write_file(root / "images" / f"{sample.id}.{config.form}", _encoded(image, config.form))
    write_file(sample.mask_file(root), encoded(occlusion, "PNG", compress_level=1))


def _encoded(image: np.ndarray, form: str) -> bytes:
    return encoded(image, "JPEG", quality=95) if form == "jpg" else encoded(image, "PNG")
