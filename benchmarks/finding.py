"""Found faces, false finds and processor time of each face finder, on photographs and on composed group photographs.

    python -m benchmarks.finding [--data FOLDER] [--count 60] [--slow 12] [--yunet MODEL] [--only auto ...]
                                 [--sheets FOLDER] [--seed 0]

FOLDER holds native/photos/{with_mask,without_mask}, real/MFSD/images, native/CelebA and real/CelebA; what is missing is
left out, and without any, rendered faces are searched. Images show one face each. Ten group photographs show ten masked
faces each, crops of MFSD and with_mask (without those, of rendered faces) of 32 to 192 px, in which faces are 24 px and
more. --count is the number of images of a set, --slow that for dlib_cnn. --sheets writes the group photographs and the
images in which a face is missed or more are found, with the boxes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks import parser, table
from datamodules.image_files import is_image
from datamodules.landmarks import FaceFinder
from datamodules.layouts.sample import Box
from datamodules.reading import read_photograph
from deploy.predictor import open_finder
from foundation.errors import ConfigError
from synthesis.faces import render_random_face

SETS = {
    "with_mask": "native/photos/with_mask",
    "without_mask": "native/photos/without_mask",
    "MFSD": "real/MFSD/images",
    "CelebA": "native/CelebA",
    "real faces": "real/CelebA",
}
MASKED = ("with_mask", "MFSD")
GROUPS, WIDTH, HEIGHT = 10, 1024, 768
CROPS = (32, 32, 40, 48, 56, 64, 80, 96, 128, 192)
"""Longer sides, in pixels, of the crops of a group photograph: their faces are about 0.8 as wide."""

Crop = tuple[int, int, int, int]
"""Left, top, right and bottom of a crop that one face fills."""
Scene = tuple[np.ndarray, list[Crop]]


def images_of(folder: Path, count: int) -> list[np.ndarray]:
    """Evenly spread images of a folder."""
    files = sorted(path for path in folder.rglob("*") if is_image(path))
    return [read_photograph(files[place]) for place in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]


def background(rng: np.random.Generator) -> np.ndarray:
    """Blurred patches of all sizes: (HEIGHT, WIDTH, 3) uint8."""
    canvas = np.full((HEIGHT, WIDTH, 3), 120, np.float32)
    for cells, strength in ((4, 40), (12, 25), (48, 12), (200, 6)):
        noise = rng.normal(0, strength, (cells * 3 // 4, cells, 3)).astype(np.float32)
        canvas += cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def group_photograph(rng: np.random.Generator, crops: Sequence[np.ndarray]) -> Scene:
    """A group photograph of ten faces, none of which touch."""
    canvas = background(rng)
    placed: list[Crop] = []
    for side in sorted(CROPS, reverse=True):
        crop = crops[int(rng.integers(len(crops)))]
        scale = side / max(crop.shape[:2])
        size = (max(1, round(scale * crop.shape[1])), max(1, round(scale * crop.shape[0])))
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        while True:
            left, top = int(rng.integers(8, WIDTH - size[0] - 8)), int(rng.integers(8, HEIGHT - size[1] - 8))
            placed_at = (left, top, left + size[0], top + size[1])
            if all(_apart(placed_at, other) for other in placed):
                break
        canvas[top : placed_at[3], left : placed_at[2]] = crop
        placed.append(placed_at)
    return canvas, placed


def _apart(one: Crop, other: Crop) -> bool:
    return one[0] > other[2] + 8 or other[0] > one[2] + 8 or one[1] > other[3] + 8 or other[1] > one[3] + 8


def found_in(crops: Sequence[Crop], boxes: Sequence[Box]) -> tuple[int, int]:
    """Number of faces that are found, and of boxes that are none or a second one of a face.

    A box is a face's if its centre lies in the middle 0.7 of the crop and its side is 0.25 to 1.5 of the crop's.
    """
    taken: set[int] = set()
    for left, top, right, bottom in boxes:
        for place, (x0, y0, x1, y1) in enumerate(crops):
            across, down = ((left + right) / 2 - x0) / (x1 - x0), ((top + bottom) / 2 - y0) / (y1 - y0)
            share = ((right - left) * (bottom - top) / ((x1 - x0) * (y1 - y0))) ** 0.5
            if place not in taken and max(abs(across - 0.5), abs(down - 0.5)) <= 0.35 and 0.25 <= share <= 1.5:
                taken.add(place)
                break
    return len(taken), len(boxes) - len(taken)


def searcher(name: str, yunet: str | None) -> Callable[[np.ndarray], list[Box]]:
    """Image -> boxes of the landmarks of its faces."""
    finder = open_finder(name, yunet if name in ("yunet", "auto") else None, None, 24)  # type: ignore[arg-type]
    if isinstance(finder, FaceFinder):
        return lambda image: [face.corners for face in finder(image)]
    return lambda image: [face.corners for face in finder(image)]


def boxed(scene: Scene, boxes: Sequence[Box]) -> np.ndarray:
    """An image with the boxes in green and, in a group, the crops in blue."""
    shown = scene[0].copy()
    thick = max(1, round(max(shown.shape) / 400))
    for left, top, right, bottom in boxes:
        cv2.rectangle(shown, (round(left), round(top)), (round(right), round(bottom)), (0, 255, 0), thick)
    for left, top, right, bottom in scene[1] if len(scene[1]) > 1 else ():
        cv2.rectangle(shown, (left, top), (right, bottom), (60, 120, 255), 1)
    return shown


def scenes(data: Path, count: int, seed: int) -> dict[str, list[Scene]]:
    """The sets of images, and the group photographs."""
    images = {name: images_of(data / place, count) for name, place in SETS.items() if (data / place).is_dir()}
    if not images:
        images["rendered"] = [render_random_face(np.random.default_rng([seed, k]), 160).image for k in range(count)]
    sets = {name: [(image, [(0, 0, *image.shape[1::-1])]) for image in several] for name, several in images.items()}
    crops = [image for name in MASKED for image in images.get(name, [])] or images.get("rendered", [])
    if crops:
        rng = np.random.default_rng([seed, 1])
        sets["groups"] = [group_photograph(rng, crops) for _ in range(GROUPS)]
    return sets


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, default=Path(os.environ.get("FACE_DATA") or "data"))
    arguments.add_argument("--count", type=int, default=60)
    arguments.add_argument("--slow", type=int, default=12)
    arguments.add_argument("--yunet")
    arguments.add_argument("--only", nargs="+", default=["auto", "libfacedetection", "yunet", "dlib", "dlib_cnn"])
    arguments.add_argument("--sheets", type=Path)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    console = Console()
    sets = scenes(given.data, given.count, given.seed)
    rows = []
    for name in given.only:
        try:
            find = searcher(name, given.yunet)
        except ConfigError as error:
            console.print(f"{name}: {str(error).splitlines()[0]}")
            continue
        cells = []
        for title, several in sets.items():
            some = several[: max(1, given.slow // (10 if title == "groups" else 1))] if name == "dlib_cnn" else several
            hits = false = total = 0
            spent = 0.0
            for place, scene in enumerate(some):
                started = time.process_time()
                boxes = find(scene[0])
                spent += time.process_time() - started
                right, wrong = found_in(scene[1], boxes)
                hits, false, total = hits + right, false + wrong, total + len(scene[1])
                if given.sheets and (title == "groups" or right < len(scene[1]) or wrong):
                    folder = given.sheets / name / title.replace(" ", "_")
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(boxed(scene, boxes)).save(folder / f"{place:03d}.png")
            cells.append(f"{hits}/{total}, {false}, {1000 * spent / len(some):.0f}")
        rows.append([name, *cells])
        console.print(f"{name}: {dict(zip(sets, cells, strict=True))}")
    result = table("found/all, false, ms", *sets)
    for row in rows:
        result.add_row(*row)
    console.print(result)


if __name__ == "__main__":
    main()
