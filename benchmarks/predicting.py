"""How many photographs of a folder get their masks in a second: as exported, and in a plain loop with PyTorch.

    python -m benchmarks.predicting --checkpoint best.ckpt --exported fp32.onnx int8.onnx --source photos/

Photographs are brought to CelebA's 178x218 px first and repeated until there are --count. Everything counts that
`predict.py faces=whole overlays=false` does: reading, resizing, the network, pasting, writing PNG files. The plain loop
takes one image after the other through the network as it was trained. All take turns in slices of the folder, so
that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from callbacks.checkpoints import load as load_checkpoint
from datamodules.layouts.photographs import photographs
from datamodules.reading import read_photograph
from datamodules.transforms import FaceTransform
from deploy.prediction import predict_images
from deploy.predictor import load
from deploy.settings import PredictionSettings
from stages.scoring import scored_module

SLICE, PHOTOGRAPHS = 50, 120


class PlainLoop:
    """What one would write first."""

    def __init__(self, checkpoint: str) -> None:
        content = load_checkpoint(Path(checkpoint))
        self.module = scored_module(content, background="literature").eval()
        size = int(content["settings"]["datamodule.image_size"])
        self.transform = FaceTransform(size, None, load(checkpoint, faces="whole").labels, seed=0)

    @torch.no_grad()
    def __call__(self, files: dict[str, Path], out: Path) -> None:
        for name, file in files.items():
            photo = np.asarray(Image.open(file).convert("RGB"))
            image, _ = self.transform(photo, None, 0, 0)
            logits = self.module(torch.from_numpy(image)[None])
            logits = F.interpolate(logits, photo.shape[:2], mode="bilinear")
            mask = (logits[0, 0] > 0) if logits.shape[1] == 1 else logits[0].argmax(0)
            Image.fromarray(mask.to(torch.uint8).numpy() * 255).save(out / f"{Path(name).stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--exported", nargs="+", required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    settings = PredictionSettings(checkpoint="-", input="-", overlays=False, parts=False)
    quiet = Console(quiet=True)
    with tempfile.TemporaryDirectory() as place:
        seen = []
        for index, photograph in enumerate(photographs(chosen.source)[:PHOTOGRAPHS]):
            seen.append(Path(place) / f"in_{index}.jpg")
            fitted = ImageOps.fit(Image.fromarray(read_photograph(photograph.image)), (178, 218))
            fitted.save(seen[-1], quality=92)
        files = {f"{index:06d}.jpg": seen[index % len(seen)] for index in range(chosen.count)}
        plain = PlainLoop(chosen.checkpoint)
        ways: dict[str, Callable[[dict[str, Path]], object]] = {
            "plain loop, PyTorch as trained": lambda some: plain(some, Path(place))
        }
        for exported in (chosen.checkpoint, *chosen.exported):
            predictor = load(exported, faces="whole")
            name = f"predict.py, {Path(exported).name}"
            out = Path(place) / Path(exported).stem
            ways[name] = lambda some, predictor=predictor, out=out: list(  # type: ignore[misc]
                predict_images(predictor, some, out, settings, quiet, [])
            )
        seconds = dict.fromkeys(ways, 0.0)
        names = list(files)
        for start in range(0, len(names), SLICE):
            some = {name: files[name] for name in names[start : start + SLICE]}
            for way, run in ways.items():
                started = time.perf_counter()
                run(some)
                seconds[way] += time.perf_counter() - started
    table = Table(box=SIMPLE_HEAD, caption=f"{len(names)} photographs of 178x218 px, {chosen.threads} thread(s)")
    for column in ("", "images/s", "of the plain loop"):
        table.add_column(column, justify="right" if column else "left")
    for way, took in seconds.items():
        table.add_row(way, f"{len(names) / took:.1f}", f"{seconds['plain loop, PyTorch as trained'] / took:.2f}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
