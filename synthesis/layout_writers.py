"""The published layouts that synthetic faces are written in, to the byte format: LaPa, CelebAMask-HQ, CelebA.

Each writer defines the file of a face that is written last (a face with this file is complete), the files of a face,
and the list files at the end. In addition to the published files, each writes the 68 landmarks of
iBUG and dlib into folders `landmarks_68`, as text like LaPa's own.
"""

from __future__ import annotations

import abc
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from synthesis.dataset_build import encoded, write_file

if TYPE_CHECKING:
    import numpy as np

    from synthesis.faces import SyntheticFace

SPLITS = ("train", "val", "test")
FACES_PER_FOLDER = 2000
"""Number of faces whose part masks share a folder in CelebAMask-HQ."""
LARGEST_MASK = 512
"""Pixels. CelebAMask-HQ's masks are half as wide as its images of 1024; masks of smaller images have full size."""


@dataclass(frozen=True)
class LayoutWriter(abc.ABC):
    """A data set of `count` faces at `root`; `seed` fixes what a layout shuffles."""

    root: Path
    count: int
    seed: int

    default_folder: ClassVar[str]

    def split(self, index: int) -> str:
        """80 % train, 10 % val, 10 % test, in the order of the indices; each has at least one face."""
        held_out = self.count // 10
        return SPLITS[(index >= self.count - 2 * held_out) + (index >= self.count - held_out)]

    @abc.abstractmethod
    def last_file(self, index: int) -> Path:
        """The file of a face that is written last."""

    @abc.abstractmethod
    def write(self, index: int, face: SyntheticFace) -> None:
        """Writes one face."""

    def finish(self) -> None:  # noqa: B027 - not every layout has list files
        """Writes the list files, if there are any, from the files of the faces."""


class LaPaWriter(LayoutWriter):
    """`{train,val,test}/{images/*.jpg, labels/*.png, landmarks/*.txt}`: ids 0..10 and 106 landmarks."""

    default_folder = "LaPa"

    def _file(self, index: int, folder: str, ending: str) -> Path:
        return self.root / self.split(index) / folder / f"drawn_{index:06d}{ending}"

    def last_file(self, index: int) -> Path:
        return self._file(index, "labels", ".png")

    def write(self, index: int, face: SyntheticFace) -> None:
        write_file(self._file(index, "images", ".jpg"), _jpeg(face))
        write_file(self._file(index, "landmarks", ".txt"), _points(face.landmarks))
        write_file(self._file(index, "landmarks_68", ".txt"), _points(face.landmarks_68))
        write_file(self.last_file(index), encoded(face.label, "PNG"))


class CelebAMaskHQWriter(LayoutWriter):
    """Images, one RGB mask of 0 and 255 for each visible part, the mapping to CelebA, CelebA's partition.

    Faces correspond to images of CelebA in shuffled order, and CelebA's order has three consecutive splits, as
    published: a reader must join mapping and partition. Masks are as wide as the image, above `LARGEST_MASK` half.
    """

    default_folder = "CelebAMask-HQ"

    def last_file(self, index: int) -> Path:
        return self.root / "CelebA-HQ-img" / f"{index}.jpg"

    def write(self, index: int, face: SyntheticFace) -> None:
        folder = self.root / "CelebAMask-HQ-mask-anno" / str(index // FACES_PER_FOLDER)
        for part, seen in face.parts.items():
            mask = _part_mask(seen)
            if mask.any():  # a part that is not visible has no file
                write_file(folder / f"{index:05d}_{part}.png", encoded(mask, "PNG"))
        write_file(self.root / "landmarks_68" / f"{index}.txt", _points(face.landmarks_68))
        write_file(self.last_file(index), _jpeg(face))

    def finish(self) -> None:
        originals = list(range(self.count))
        random.Random(self.seed).shuffle(originals)  # noqa: S311 - an order, no secret
        rows = [f"{'idx':<12}{'orig_idx':<12}{'orig_file':<15}{'proc_md5':<34}final_md5"]
        split_of = {}
        for index, original in enumerate(originals):
            digest = hashlib.md5(self.last_file(index).read_bytes(), usedforsecurity=False).hexdigest()
            name = f"{original + 1:06d}.jpg"
            rows.append(f"{index:<12}{original:<12}{name:<15}{digest:<34}{digest}")
            split_of[name] = SPLITS.index(self.split(original))
        _write_lines(self.root / "CelebA-HQ-to-CelebA-mapping.txt", rows)
        partition = [f"{name} {split}" for name, split in sorted(split_of.items())]
        _write_lines(self.root / "list_eval_partition.txt", partition)


class CelebAWriter(LayoutWriter):
    """Square images without labels, and CelebA's lists: partition, five landmarks, boxes (x, y, width, height).

    Landmarks and boxes are in the images' own coordinates; left is the left of the image, as in CelebA.
    """

    default_folder = "CelebA"

    def last_file(self, index: int) -> Path:
        return self.root / "img_align_celeba" / f"{index + 1:06d}.jpg"

    def write(self, index: int, face: SyntheticFace) -> None:
        write_file(self.root / "landmarks_68" / f"{index + 1:06d}.txt", _points(face.landmarks_68))
        write_file(self.last_file(index), _jpeg(face))

    def finish(self) -> None:
        import numpy as np
        from PIL import Image

        partition, landmarks, boxes = [], [], []
        for index in range(self.count):
            file = self.last_file(index)
            points = np.loadtxt(self.root / "landmarks_68" / f"{file.stem}.txt", skiprows=1)
            with Image.open(file) as image:
                size = image.size
            partition.append(f"{file.name} {SPLITS.index(self.split(index))}")
            five = (points[36:42].mean(axis=0), points[42:48].mean(axis=0), *points[[30, 48, 54]])
            landmarks.append(file.name + "".join(f" {round(value):4d}" for point in five for value in point))
            (left, top), (right, low) = points.min(axis=0), points.max(axis=0)
            top -= 0.35 * (low - top)  # the points end at the brows, CelebA's boxes at the hairline
            left, top = max(round(left), 0), max(round(top), 0)
            box = left, top, min(round(right), size[0]) - left, min(round(low), size[1]) - top
            boxes.append("{} {:5d} {:3d} {:3d} {:3d}".format(file.name, *box))
        names = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
        header = " ".join(f"{name}_{axis}" for name in names for axis in "xy")
        _write_lines(self.root / "list_eval_partition.txt", partition)
        _write_lines(self.root / "list_landmarks_align_celeba.txt", [str(self.count), header, *landmarks])
        _write_lines(self.root / "list_bbox_celeba.txt", [str(self.count), "image_id x_1 y_1 width height", *boxes])


LAYOUT_WRITERS: dict[str, type[LayoutWriter]] = {
    "lapa": LaPaWriter,
    "celebamask_hq": CelebAMaskHQWriter,
    "celeba": CelebAWriter,
}


def _write_lines(path: Path, lines: list[str]) -> None:
    write_file(path, ("\n".join(lines) + "\n").encode())


def as_filed(face: SyntheticFace) -> np.ndarray:
    """A face's image (size, size, 3) uint8 RGB as it is read from its file."""
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(_jpeg(face))) as image:
        return np.asarray(image)


def _jpeg(face: SyntheticFace) -> bytes:
    return encoded(face.image, "JPEG", quality=face.quality)


def _part_mask(mask: np.ndarray) -> np.ndarray:
    """A mask as published: RGB of 0 and 255, half as wide where the image is wider than `LARGEST_MASK`."""
    import cv2

    pixels = mask.view("uint8") * 255
    if len(mask) > LARGEST_MASK:
        half = (len(mask) // 2, len(mask) // 2)
        pixels = cv2.threshold(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA), 127, 255, cv2.THRESH_BINARY)[1]
    return cv2.merge([pixels] * 3)


def _points(points: np.ndarray) -> bytes:
    lines = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points)
    return f"{len(points)}\n{lines}\n".encode()
