"""Images per second of predict.py on a folder, compared with a plain PyTorch loop.

    python -m benchmarks.predicting --checkpoint best.ckpt --exported fp32.onnx int8.onnx --source photos/

Photographs are first resized to CelebA's 178x218 px and repeated up to --count. Timed is everything that
`predict.py faces=whole overlays=false` does: reading, resizing, the network, pasting, writing PNG files. The plain loop
passes image by image through the network as trained. All take turns on slices of the folder, so that other load affects
all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from torch.nn import functional as F

from benchmarks import parser, seconds, table
from callbacks.checkpoints import load as load_checkpoint
from datamodules.layouts.photographs import photographs
from datamodules.reading import read_photograph
from datamodules.transforms import FaceTransform
from deploy.prediction import _write, predict_images
from deploy.predictor import load
from deploy.settings import PredictionSettings
from stages.scoring import scored_module

SLICE, PHOTOGRAPHS = 50, 120


class PlainLoop:
    """The simplest loop: one image after the other."""

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
    arguments = parser(__doc__)
    arguments.add_argument("--checkpoint", required=True)
    arguments.add_argument("--exported", nargs="+", required=True)
    arguments.add_argument("--source", type=Path, required=True)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--threads", type=int, default=1)
    chosen = arguments.parse_args()
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
            predictor, out = load(exported, faces="whole"), Path(place) / Path(exported).stem
            ways[f"predict.py, {Path(exported).name}"] = lambda some, predictor=predictor, out=out: list(  # type: ignore[misc]
                predict_images(predictor, some, partial(_write, out=out, settings=settings), quiet, [])
            )
        took = dict.fromkeys(ways, 0.0)
        for start in range(0, len(files), SLICE):
            some = dict(list(files.items())[start : start + SLICE])
            for way, run in ways.items():
                took[way] += seconds(partial(run, some))
    caption = f"{len(files)} photographs of 178x218 px, {chosen.threads} thread(s)"
    speeds = table("", "images/s", "of the plain loop", caption=caption)
    for way, total in took.items():
        speeds.add_row(way, f"{len(files) / total:.1f}", f"{took['plain loop, PyTorch as trained'] / total:.2f}")
    Console(highlight=False).print(speeds)


if __name__ == "__main__":
    main()
