"""Samples per second of the training data path, compared with the same work as a PIL + torchvision chain, in one run.

    python -m benchmarks.data_path [--root FOLDER] [--size 480]

Both read an image and its label map from disk, rotate, scale and resize them, and normalise the image; with a cache,
the project's path reads the same pixels, decoded. Medians of seven interleaved rounds in one process; compare the
ratios, absolute values depend on the machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks import parser, seconds
from datamodules import transforms
from datamodules.cache import Cache
from datamodules.faces import LabelledFaces, open_images, open_labels
from datamodules.labels import LabelSet
from datamodules.layouts import Sample, open_layout
from datamodules.transforms import MEAN, STD, Augmentation, FaceTransform, WarpToSize
from foundation.digests import digest_of_files
from synthesis.synthetic_faces import write_synthetic_faces

ROUNDS = 7
CHAIN = "PIL + torchvision"
TOTAL = "total"


def chain(samples: list[Sample], size: int) -> Callable[[int], None]:
    """The work as a chain of ready-made transforms: resize, then rotate and scale, then to a tensor."""
    normalize = v2.Normalize(MEAN, STD)

    def load(index: int) -> None:
        sample = samples[index]
        assert sample.label is not None  # noqa: S101
        image = v2.functional.resize(Image.open(sample.image).convert("RGB"), [size, size])
        label = v2.functional.resize(Image.open(sample.label), [size, size], v2.InterpolationMode.NEAREST)
        move = {
            "angle": random.uniform(-15, 15),
            "translate": [0, 0],
            "shear": [0.0],
            "scale": random.uniform(0.8, 1.2),
        }
        image = v2.functional.affine(image, interpolation=v2.InterpolationMode.BILINEAR, **move)
        label = v2.functional.affine(label, interpolation=v2.InterpolationMode.NEAREST, fill=255, **move)
        normalize(v2.functional.to_dtype(v2.functional.to_image(image), torch.float32, scale=True))
        v2.functional.pil_to_tensor(label).long()

    return load


class Clocks:
    """Seconds of each stage of a round."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    def around(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call with a timer."""

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments, **named)
            self.spent[stage] += time.perf_counter() - start
            return result

        return timed

    def on_transforms(self) -> contextlib.ExitStack:
        """Timers around the stages of all transforms that are created before the stack is closed."""
        stack = contextlib.ExitStack()
        for owner, name, stage in (
            (WarpToSize, "apply", "warp image"),
            (WarpToSize, "apply_to_mask", "warp label map"),
            (transforms, "normalize", "normalise, to planes"),
        ):
            stack.enter_context(patch.object(owner, name, self.around(stage, getattr(owner, name))))
        return stack


def ours(
    samples: list[Sample], size: int, labels: LabelSet, cache: Cache | None, clocks: Clocks
) -> Callable[[int], object]:
    """The project's own path."""
    transform = FaceTransform(size, Augmentation(rotation=15, scale=(0.8, 1.2)), labels, seed=0)
    images = clocks.around("read image", open_images(samples, transform.least_source, cache))
    maps = clocks.around("read label map", open_labels(samples, labels, cache))
    faces = LabelledFaces(samples, transform, images, maps, full=False)
    return lambda index: faces[(0, index, index)]


def main() -> None:
    arguments = parser(__doc__)
    face_data = Path(os.environ.get("FACE_DATA") or "../shared/data")
    arguments.add_argument("--root", type=Path, default=face_data / "real" / "LaPa", help="a folder in LaPa's layout")
    arguments.add_argument("--size", type=int, default=480, help="side of the network's input, in pixels")
    choice = arguments.parse_args()
    if not choice.root.is_dir():
        choice.root = Path("data/synthetic/benchmark")
        write_synthetic_faces(choice.root, layout="lapa", count=80, size=512, seed=0, workers=os.cpu_count() or 1)
    layout = open_layout("lapa", choice.root)
    samples = layout.samples("train")[:48]
    torch.set_num_threads(1)
    clocks = Clocks()
    paths: dict[str, Callable[[int], object]] = {CHAIN: chain(samples, choice.size)}
    with tempfile.TemporaryDirectory() as folder, clocks.on_transforms():
        digest = partial(digest_of_files, Path(folder) / "digests.sqlite")
        for cache in (None, Cache("disk", Path(folder), digest), Cache("ram", Path(folder), digest)):
            name = f"ours, cache={cache.kind if cache else 'none'}"
            paths[name] = ours(samples, choice.size, layout.labels, cache, clocks)
        rounds = [{name: one_round(load, len(samples), clocks) for name, load in paths.items()} for _ in range(ROUNDS)]

    def median(name: str, stage: str) -> float:
        return statistics.median(row[name][stage] for row in rounds)

    print(f"{choice.root} at {choice.size} px, one thread")
    for name in paths:
        total = median(name, TOTAL)
        print(f"{name:>18} {1000 / total:8.1f} samples/s {total:7.2f} ms {median(CHAIN, TOTAL) / total:6.2f} x")
    print("\nWhere the time goes, ms per sample")
    own = [name for name in paths if name != CHAIN]
    print(" " * 26 + "".join(f"{name:>18}" for name in own))
    for stage in rounds[0][own[0]]:
        print(f"{stage:>26}" + "".join(f"{median(name, stage):18.2f}" for name in own))


def one_round(load: Callable[[int], object], count: int, clocks: Clocks) -> dict[str, float]:
    """Milliseconds per sample of each timed stage, of the rest, and in total."""
    clocks.spent.clear()
    total = 1000 * seconds(lambda: [load(index) for index in range(count)]) / count
    row = {stage: 1000 * spent / count for stage, spent in clocks.spent.items()}
    return row | {"rest (label to long, ...)": total - sum(row.values()), TOTAL: total}


if __name__ == "__main__":
    main()
