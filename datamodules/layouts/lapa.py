"""LaPa as published (Liu et al., AAAI 2020): ``{train,val,test}/{images,labels,landmarks}``, one stem per face.

Pictures have any size; label maps are single-channel PNGs of class ids 0..10; landmarks are optional here. Files are
counted, never assumed: copies of the data set in circulation hold between 18,168 and 18,176 training faces.
"""

from __future__ import annotations

import json
from pathlib import Path

from datamodules.labels import LAPA
from datamodules.layouts.sample import Sample
from engine.errors import DataError

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class LaPa:
    """Reads a folder in LaPa's published layout.

    Args:
        root: the folder that holds ``train``, ``val`` and ``test``.
    """

    name = "lapa"
    labels = LAPA

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def origin(self) -> str:
        """``drawn`` if this project's generator made the pictures, else ``real``."""
        marker = self.root / "dataset.json"
        if marker.is_file() and json.loads(marker.read_text()).get("origin") == "drawn":
            return "drawn"
        return "real"

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, sorted by id.

        Args:
            split: ``train``, ``val`` or ``test``.
            labelled: require a label map for every picture; otherwise only pictures are looked at.

        Raises:
            DataError: if the folder is absent or empty, two pictures share a stem, or a label map is missing.
        """
        folder = self.root / split
        images = _by_stem(folder / "images", IMAGE_SUFFIXES)
        if not images:
            raise DataError(self._missing(folder / "images"))
        if not labelled:
            return [Sample(stem, image) for stem, image in sorted(images.items())]
        labels = _by_stem(folder / "labels", (".png",))
        if not labels:
            raise DataError(self._missing(folder / "labels"))
        unlabelled = sorted(images.keys() - labels.keys())
        if unlabelled:
            raise DataError(
                f"{len(unlabelled)} of {len(images)} pictures in {folder / 'images'} have no label map, the first is "
                f"{images[unlabelled[0]].name}.\n"
                f"Expected: {folder / 'labels' / (unlabelled[0] + '.png')}\n"
                f"Add the label maps, or move the unlabelled pictures out of this split."
            )
        landmarks = _by_stem(folder / "landmarks", (".txt",))
        return [Sample(stem, image, labels[stem], landmarks.get(stem)) for stem, image in sorted(images.items())]

    def _missing(self, folder: Path) -> str:
        state = "is empty" if folder.is_dir() else "does not exist"
        return (
            f"No LaPa faces: {folder} {state}.\n"
            f"Expected under {self.root}:  train|val|test / images/*.jpg, labels/*.png (class ids 0..10)\n"
            f"Do one of:\n"
            f"  - put the data set there: https://github.com/lucia123/lapa-dataset (non-commercial research)\n"
            f"  - say where it lies: datamodule.root=/path/to/LaPa\n"
            f"  - start with drawn faces: make demo, or\n"
            f"    python prepare.py task=synthetic_faces layout=lapa count=2000 out=data/drawn/LaPa"
        )


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    if not folder.is_dir():
        return files
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise DataError(
                f"Two files of one name in {folder}: {files[path.stem].name} and {path.name}.\n"
                f"Expected one file per face; remove one of them."
            )
        files[path.stem] = path
    return files
