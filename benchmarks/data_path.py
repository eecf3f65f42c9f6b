"""Samples per second of the training data path, beside the same work as a PIL + torchvision chain, in one run.

    python benchmarks/data_path.py [--root FOLDER] [--size 480]

Both read a picture and its label map from disk, rotate, scale and resize them, and normalise the picture. Medians of
seven interleaved rounds in one process; look at the ratio, absolute figures are this machine's.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import v2

from datamodules.faces import LabelledFaces
from datamodules.layouts import Sample, open_layout
from datamodules.synthesis.dataset import write_drawn_faces
from datamodules.transforms import MEAN, STD, Augmentation, FaceTransform


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


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    face_data = Path(os.environ.get("FACE_DATA") or "../shared/data")
    arguments.add_argument("--root", type=Path, default=face_data / "real" / "LaPa", help="a folder in LaPa's layout")
    arguments.add_argument("--size", type=int, default=480, help="side of the network's input, in pixels")
    choice = arguments.parse_args()
    if not choice.root.is_dir():
        choice.root = Path("data/drawn/benchmark")
        write_drawn_faces(choice.root, layout="lapa", count=80, size=512, seed=0, workers=os.cpu_count() or 1)
    layout = open_layout("lapa", choice.root)
    samples = layout.samples("train")[:48]
    move = Augmentation(rotation=15, scale=(0.8, 1.2))
    ours = LabelledFaces(samples, FaceTransform(choice.size, move, layout.labels, seed=0), layout, full=False)
    paths = {"ours": lambda index: ours[(0, index, index)], "PIL + torchvision": chain(samples, choice.size)}
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(7):
        for name, load in paths.items():
            start = time.perf_counter()
            for index in range(len(samples)):
                load(index)
            times[name].append((time.perf_counter() - start) / len(samples))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:>18}  {1 / seconds:7.1f} samples/s  {1000 * seconds:6.2f} ms")
    print(f"{'ratio':>18}  {medians['PIL + torchvision'] / medians['ours']:7.2f} x, at {choice.size} px, {choice.root}")


if __name__ == "__main__":
    main()
