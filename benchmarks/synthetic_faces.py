"""Synthetic faces: rendering speed, memory growth, and how well dlib detects them.

    python -m benchmarks.synthetic_faces [--only speed memory dlib] [--faces 2000] [--frontal 300] [--workers N] [--seed
    0] python -m benchmarks.synthetic_faces --only --sheets FOLDER

Claims: rendering uses every core, and memory does not grow with the number of faces. Also reported, without claim: the
share of faces that a detector trained on photographs finds, and the distance of its landmarks from ours. `--sheets`
writes contact sheets of the same 64 faces: images, images under their label maps, images with their 68 landmarks.
Speeds are medians of interleaved rounds; compare the ratios, absolute values depend on the machine. Memory needs Linux.
"""

from __future__ import annotations

import os
import re
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import dlib
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import in_turns, parser, table
from datamodules.labels import LAPA
from datamodules.landmarks import landmark_model
from synthesis.dataset_build import processes, tune_process
from synthesis.faces import FaceScene, SyntheticFace, render, render_random_face, sample_scene

ROUNDS = 9
PER_ROUND = 24  # faces of each process
SIZES = (128, 256, 512)
SIZE = 256
MEMORY_SIZE = 128  # many faces matter more than large ones
WARM_UP = 100  # faces until all buffers are allocated
ROWS = 8  # of a contact sheet; as many columns
LIMITS = {"yaw": 20, "pitch": 12, "roll": 15}  # degrees that still count as nearly frontal
NOSE_TIP, LEFT_EYE, RIGHT_EYE = 30, slice(36, 42), slice(42, 48)
GROUPS = {
    "jaw": slice(17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
    "all": slice(68),
}


def draw_one(seed: tuple[int, int]) -> None:
    render_random_face(np.random.default_rng(seed), SIZE)


def draw_on_one_core(seed: int, size: int) -> None:
    for index in range(PER_ROUND):
        render_random_face(np.random.default_rng((seed, index)), size)


def draw_in_processes(pool: ProcessPoolExecutor, seed: int, count: int) -> None:
    for _ in pool.map(draw_one, [(seed, index) for index in range(count)]):
        pass


def speed(workers: int, seed: int) -> list[Table]:
    """Faces per second by size on one core, and with one and with all processes."""
    by_size = table("size", "faces/s", "in the best round", "ms per face", title="Drawing on one core")
    for name, took in in_turns({f"{size} px": partial(draw_on_one_core, seed, size) for size in SIZES}, ROUNDS).items():
        middle = statistics.median(took) / PER_ROUND
        by_size.add_row(name, f"{1 / middle:.1f}", f"{PER_ROUND / min(took):.1f}", f"{1000 * middle:.1f}")
    with processes(1) as one, processes(workers) as many:
        counts = {"1": PER_ROUND, f"{workers} (all)": workers * PER_ROUND}
        draws = [partial(draw_in_processes, pool, seed) for pool in (one, many)]
        ways = {name: partial(draw, count) for draw, (name, count) in zip(draws, counts.items(), strict=True)}
        medians = {name: counts[name] / statistics.median(took) for name, took in in_turns(ways, ROUNDS).items()}
    by_processes = table("processes", "faces/s", "ratio", title=f"Drawing at {SIZE} px in processes")
    for name, rate in medians.items():
        by_processes.add_row(name, f"{rate:.1f}", f"{rate / medians['1']:.2f} x")
    return [by_size, by_processes]


def resident() -> dict[str, float]:
    """Current and peak memory of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    # Not ru_maxrss: a process inherits that from the one that started it.
    kinds = {"now": "VmRSS", "peak": "VmHWM"}
    return {name: int(re.findall(rf"{key}:\s+(\d+) kB", status)[0]) / 1024 for name, key in kinds.items()}


def draw_many(faces: int, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Memory after a warm-up, and after `faces` further ones."""
    rng = np.random.default_rng(seed)
    for _ in range(WARM_UP):
        render_random_face(rng, MEMORY_SIZE)
    before = resident()
    for _ in range(faces):
        render_random_face(rng, MEMORY_SIZE)
    return before, resident()


def memory(faces: int, seed: int) -> Table:
    """Memory growth of a separate process over many faces."""
    title = f"Memory in MiB over {faces} faces at {MEMORY_SIZE} px"
    result = table("resident", f"after {WARM_UP}", f"after {faces} more", "growth", title=title)
    with processes(1) as one:
        before, after = one.submit(draw_many, faces, seed).result()
    for name in before:
        growth = f"{after[name] - before[name]:+.1f}"
        result.add_row(name, f"{before[name]:.1f}", f"{after[name]:.1f}", growth)
    return result


def frontal(rng: np.random.Generator, count: int) -> list[FaceScene]:
    """The next scenes with a nearly frontal face."""
    scenes: list[FaceScene] = []
    while len(scenes) < count:
        scene = sample_scene(rng)
        if all(abs(getattr(scene.pose, angle)) <= limit for angle, limit in LIMITS.items()):
            scenes.append(scene)
    return scenes


def deviations(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """From our to their landmarks, (68, 2) each: complex (68,), outwards from the middle of the face + i downwards.

    The line of our eyes is level, and their distance the unit.
    """
    own, other = (points[:, 0] + 1j * points[:, 1] for points in (ours, theirs))
    left, right = own[LEFT_EYE].mean(), own[RIGHT_EYE].mean()
    away = (other - own) / (right - left)
    side = np.sign(((own - (left + right) / 2) / (right - left)).real)
    return side * away.real + 1j * away.imag


def realism(count: int, seed: int) -> list[Table | str]:
    """How many nearly frontal faces dlib finds, and how far its landmarks are from ours on those."""
    detect, predict = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(landmark_model()))
    found = []
    for scene in frontal(np.random.default_rng(seed), count):
        face = render(scene, SIZE)
        tip = dlib.point(*(int(value) for value in np.rint(face.landmarks_68[NOSE_TIP])))
        box = next((box for box in detect(face.image, 1) if box.contains(tip)), None)
        if box is not None:
            theirs = np.array([(point.x, point.y) for point in predict(face.image, box).parts()])
            found.append(deviations(face.landmarks_68, theirs))
    angles = ", ".join(f"{angle} ±{limit}°" for angle, limit in LIMITS.items())
    seen = f"{len(found)} of {count} faces ({100 * len(found) / count:.1f} %)"
    seen = f"dlib finds {seen} from nearly in front ({angles}) at {SIZE} px.\n"
    if not found:
        return [seen]
    title = "From our landmarks to dlib's, % of the distance of the eyes"
    away = table("landmarks", "mean distance", "outwards", "downwards", title=title)
    for name, rows in GROUPS.items():
        part = 100 * np.stack(found)[:, rows]
        away.add_row(name, f"{abs(part).mean():.1f}", f"{part.real.mean():+.1f}", f"{part.imag.mean():+.1f}")
    return [seen, away]


def sheet(images: list[np.ndarray]) -> Image.Image:
    """Images of one size (H, W, 3) as a square of rows."""
    rows = [np.concatenate(images[start : start + ROWS], axis=1) for start in range(0, len(images), ROWS)]
    return Image.fromarray(np.concatenate(rows))


def with_labels(face: SyntheticFace) -> np.ndarray:
    return cv2.addWeighted(face.image, 0.5, LAPA.colorize(face.label), 0.5, 0)


def with_landmarks(face: SyntheticFace) -> np.ndarray:
    image, bits = face.image.copy(), 4  # positions are given in 1/16 pixels
    for point in np.rint(face.landmarks_68 * 2**bits).astype(int).tolist():
        cv2.circle(image, point, 20, (0, 255, 0), -1, cv2.LINE_AA, bits)
    return image


def write_sheets(folder: Path, seed: int) -> None:
    """The same faces at each size."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng) for _ in range(ROWS * ROWS)]
    folder.mkdir(parents=True, exist_ok=True)
    for size, ending in ((128, "png"), (512, "jpg")):
        faces = [render(scene, size) for scene in scenes]
        sheet([face.image for face in faces]).save(folder / f"faces-{size}.{ending}")
        sheet([with_labels(face) for face in faces]).save(folder / f"labels-{size}.{ending}")
    sheet([with_landmarks(render(scene, SIZE)) for scene in scenes]).save(folder / f"landmarks-{SIZE}.png")


def main() -> None:
    arguments = parser(__doc__)
    sections = ("speed", "memory", "dlib")
    arguments.add_argument(
        "--only", nargs="*", choices=sections, default=sections, help="what to measure; all if absent"
    )
    arguments.add_argument("--faces", type=int, default=2000, help="faces rendered for the memory measurement")
    arguments.add_argument("--frontal", type=int, default=300, help="faces shown to dlib")
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="rendering processes")
    arguments.add_argument("--sheets", type=Path, help="write contact sheets to this folder")
    arguments.add_argument("--seed", type=int, default=0)
    choice = arguments.parse_args()
    tune_process()
    console = Console()
    if "speed" in choice.only:
        console.print(*speed(choice.workers, choice.seed))
    if "memory" in choice.only:
        console.print(memory(choice.faces, choice.seed))
    if "dlib" in choice.only:
        console.print(*realism(choice.frontal, choice.seed))
    if choice.sheets:
        write_sheets(choice.sheets, choice.seed)
        print(f"contact sheets in {choice.sheets}")


if __name__ == "__main__":
    main()
