"""Speed of rendering masks on photographs, per stage, and contact sheets.

    python -m benchmarks.masked_faces [--source CelebA] [--linear 20000] [--sheets FOLDER] [--seed 0]

Stages are those of `prepare.py task=masked_faces`, in one of its processes and on photographs of 178x218 px: those of
--source, or synthetic faces. Times are medians of rounds. --linear builds increasingly large sets from the same
photographs with all cores. --sheets writes contact sheets by mask type, wearing style, tilt and distractor, at 128 and
512 px, the second half of each row with the ground truth overlaid.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from benchmarks import in_turns, parser, seconds, table
from datamodules.landmarks import FaceFinder
from datamodules.layouts.photographs import photographs
from datamodules.reading import read_photograph
from synthesis.dataset_build import processes, tune_process
from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
from synthesis.masked_faces.face_search import CHUNK
from synthesis.masks.choices import (
    DISTRACTORS,
    MASK_TYPES,
    STYLES,
    TILTS,
    TYPES_OF_STYLE,
    FaceMask,
    MaskChoices,
    choose_mask,
    tilt_of,
)
from synthesis.masks.rendering import render_mask
from synthesis.masks.textures import TEXTURES
from synthesis.synthetic_faces import write_synthetic_faces

PHOTOGRAPHS, ROUNDS, COLUMNS = 120, 7, 16
WIDTH, HEIGHT = 178, 218  # of CelebA's aligned images

Face = tuple[np.ndarray, np.ndarray]
"""Image (H, W, 3) uint8 and landmarks (68, 2)."""


def synthetic_source(folder: Path, count: int, size: int, seed: int) -> Path:
    """Synthetic faces as a source of photographs."""
    source = folder / "synthetic"
    write_synthetic_faces(source, layout="celeba", count=count, size=size, seed=seed, workers=os.cpu_count() or 1)
    return source


def aligned(source: Path, root: Path) -> Path:
    """The first photographs of a source in CelebA's layout and at its size."""
    folder = root / "img_align_celeba"
    folder.mkdir(parents=True)
    for index, photo in enumerate(photographs(source)[:PHOTOGRAPHS]):
        image = ImageOps.fit(Image.fromarray(read_photograph(photo.image)), (WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        image.save(folder / f"{index:06d}.jpg", quality=92)
    return root


def measured(files: list[Path], seed: int) -> tuple[dict[str, list[float]], int]:
    """Seconds per image of each stage, and of a build (detection, then rendering), in each round; faces found."""
    finder, choices = FaceFinder(fallbacks=("padded",), aligned=True), MaskChoices()
    images = [read_photograph(file) for file in files]
    found = [finder(image)[:1] for image in images]
    faces = [(image, one[0].landmarks) for image, one in zip(images, found, strict=True) if one]
    rng = np.random.default_rng(seed)
    masks = [choose_mask(rng, landmarks, choices) for _, landmarks in faces]
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image, _ in faces]
    boxes = [(float(p[:, 0].min()), float(p[:, 1].min()), float(p[:, 0].max()), float(p[:, 1].max())) for _, p in faces]
    rendered = [render_mask(*face, mask, choices) for face, mask in zip(faces, masks, strict=True)]

    def write(image: np.ndarray, ground_truth: np.ndarray) -> None:
        Image.fromarray(image).save(io.BytesIO(), format="JPEG", quality=95)
        Image.fromarray(ground_truth).save(io.BytesIO(), format="PNG", compress_level=1)

    def both_passes() -> None:
        parts = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
        seen = [
            faces
            for part in parts
            for faces in finder.of_all([read_photograph(file, grey=True) for file in part], [None] * len(part))
        ]
        for index, (file, faces_of) in enumerate(zip(files, seen, strict=True)):
            for one in faces_of:
                mask = choose_mask(np.random.default_rng(index), one.landmarks, choices)
                write(*render_mask(read_photograph(file), one.landmarks, mask, choices))

    def all_of(way: Callable[..., object], *columns: Iterable[object]) -> Callable[[], object]:
        rows = list(zip(*columns, strict=True))
        return lambda: [way(*row) for row in rows]

    ways: dict[str, Callable[[], object]] = {
        "read": all_of(read_photograph, files),
        "detect": all_of(finder.boxes_in_the_middle, greys),
        "landmarks": all_of(finder.landmarks, greys, boxes),
        "render": all_of(lambda face, mask: render_mask(face[0], face[1], mask, choices), faces, masks),
        "write": all_of(lambda pair: write(*pair), rendered),
        "all in": both_passes,
    }
    counts = dict.fromkeys(ways, len(faces)) | {"read": len(files), "all in": len(files)}
    times = in_turns(ways, ROUNDS)
    return {name: [took / counts[name] for took in rounds] for name, rounds in times.items()}, len(faces)


def stages(times: dict[str, list[float]], caption: str) -> Table:
    """Milliseconds per image and images per second."""
    title = f"On one core, {WIDTH}x{HEIGHT} px"
    result = table("stage", "ms", "images/s", "in the best round", title=title, caption=caption)
    for name, took in times.items():
        middle = statistics.median(took)
        result.add_row(name, f"{1000 * middle:.2f}", f"{1 / middle:.0f}", f"{1 / min(took):.0f}")
    return result


def linear(source: Path, most: int, folder: Path, seed: int) -> Table:
    """Seconds of complete builds, each twice as large as the one before."""
    result = table("samples", "seconds", "ms per sample", title="Complete builds, all cores")
    for part in (8, 4, 2, 1):
        count = most // part
        config = MaskedFacesConfig(source, count, seed, MaskChoices(), fallbacks=("padded", "image"))
        took = seconds(partial(write_masked_faces, folder / f"set_{count}", config, os.cpu_count() or 1))
        result.add_row(str(count), f"{took:.1f}", f"{1000 * took / count:.2f}")
    return result


def sheets(source: Path, folder: Path, seed: int) -> None:
    """Contact sheets of everything that can be rendered."""
    folder.mkdir(parents=True, exist_ok=True)
    finder, rng = FaceFinder(), np.random.default_rng(seed)
    images = (read_photograph(photo.image) for photo in photographs(source))
    faces = list(islice(((image, one.landmarks) for image in images for one in finder(image)[:1]), 160))
    tilts = {tilt: [face for face in faces if tilt_of(face[1]) == tilt] for tilt in TILTS}
    sheet: dict[str, dict[str, Choice]] = {
        "types": {kind: ((kind,), "proper", None) for kind in MASK_TYPES},
        "styles": {style: (TYPES_OF_STYLE[style], style, None) for style in STYLES},
        "distractors": {thing: ((), "proper", thing) for thing in DISTRACTORS},
        "tilts": dict.fromkeys(TILTS, (MASK_TYPES, "proper", None)),
    }
    for name, rows in sheet.items():
        pairs = {}
        for place, (row, choice) in enumerate(rows.items()):
            some = tilts[row] if name == "tilts" else faces[len(faces) * place // len(rows) :]
            pairs[row] = [(face, sampled_mask(rng, face, choice)) for face in some[:COLUMNS]]
        write_sheets(folder, name, pairs)


Choice = tuple[tuple[str, ...], str, str | None]
"""Mask types, of which one is sampled, or none; wearing style; distractor."""


def sampled_mask(rng: np.random.Generator, face: Face, choice: Choice) -> FaceMask:
    kinds, style, thing = choice
    tilt, seed = tilt_of(face[1]), int(rng.integers(2**31))
    if not kinds:
        return FaceMask(None, None, None, tilt, thing, seed)
    return FaceMask(str(rng.choice(kinds)), str(rng.choice(TEXTURES)), style, tilt, thing, seed)


def write_sheets(folder: Path, name: str, rows: dict[str, list[tuple[Face, FaceMask]]]) -> None:
    """One sheet with one row per entry, at two sizes; half of a row shows the ground truth."""
    choices = MaskChoices(occluders=True)
    for size, columns in ((128, COLUMNS), (512, COLUMNS // 4)):
        strips = []
        for pairs in rows.values():
            tiles = [
                tile(*render_mask(*face, mask, choices), size, shown=place >= columns // 2)
                for place, (face, mask) in enumerate(pairs[:columns])
            ]
            tiles += [np.zeros((size, size, 3), np.uint8)] * (columns - len(tiles))
            strips.append(np.concatenate(tiles, axis=1))
        Image.fromarray(np.concatenate(strips)).save(folder / f"{name}_{size}.png")


def tile(image: np.ndarray, ground_truth: np.ndarray, size: int, shown: bool) -> np.ndarray:
    """An image in a square of a sheet, with the ground truth in red over it if it is to be shown."""
    if shown:
        image = np.where(ground_truth[..., None] > 0, image // 2 + np.array([127, 0, 0], np.uint8), image)
    return np.asarray(ImageOps.pad(Image.fromarray(image), (size, size), centering=(0, 0)))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--source", type=Path, help="CelebA's folder, or any of photographs (default: synthetic faces)"
    )
    arguments.add_argument("--linear", type=int, help="samples of the largest build")
    arguments.add_argument("--sheets", type=Path, help="folder for contact sheets")
    arguments.add_argument("--seed", type=int, default=0)
    choice = arguments.parse_args()
    tune_process()
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        if choice.sheets is not None:
            sheets(choice.source or synthetic_source(Path(folder), 200, 512, choice.seed), choice.sheets, choice.seed)
            console.print(f"Sheets: {choice.sheets}")
            return
        source = choice.source or synthetic_source(Path(folder), PHOTOGRAPHS, HEIGHT, choice.seed)
        root = aligned(source, Path(folder) / "aligned")
        files = sorted((root / "img_align_celeba").iterdir())
        with processes(1) as pool:
            times, found = pool.submit(measured, files, choice.seed).result()
        console.print(stages(times, f"faces found in {found} of {len(files)}"))
        if choice.linear:
            console.print(linear(root, choice.linear, Path(folder), choice.seed))


if __name__ == "__main__":
    main()
