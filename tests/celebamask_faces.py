"""Faces in the layout of CelebAMask-HQ for tests: names of its files, masks written in code, merging, copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.labels import CELEBAMASK_HQ
from datamodules.layouts import Parts, Sample
from datamodules.merging import Merging

ID = {name: index for index, name in enumerate(CELEBAMASK_HQ.classes)}
MASKS = "CelebAMask-HQ-mask-anno"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION = "list_eval_partition.txt"
OVERLAPS = 32


@pytest.fixture
def copied_faces(celebamask: Path, tmp_path: Path) -> Path:
    """The synthetic faces in a folder that a test may change."""
    return Path(shutil.copytree(celebamask, tmp_path / "CelebAMask-HQ"))


def merging(folder: Path, order: str = "official") -> Merging:
    return Merging(order, CELEBAMASK_HQ, folder / "merged", folder / "digests.sqlite")


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification times and sizes of files."""
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def face_of(folder: Path, **parts: np.ndarray) -> Sample:
    """A face of such masks, (H, W) bool."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in parts.items():
        Image.fromarray(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255).save(folder / f"00000_{name}.png")
    return Sample("0", folder / "0.jpg", parts=Parts(folder, "00000", tuple(parts)))


def half(start: int, stop: int, size: int = OVERLAPS) -> np.ndarray:
    """The rows from start to stop of a square mask."""
    mask = np.zeros((size, size), dtype=bool)
    mask[start:stop] = True
    return mask
