"""Training steps of UNet++ on the CPU: single precision, bfloat16, channels-last and torch.compile, alone and together.

    python -m benchmarks.cpu_training [--encoder resnet18] [--sizes 64 128 480] [--threads 2] [--rounds 5]
                                      [--kinds supervised semi] [--eager]

A step is forward, loss, backward and AdamW; ``semi`` is a step of self-training, in which a teacher also predicts the
unlabelled half of the batch. All ways take turns in one process, so that other load affects all; compare the ratios.
Compiling is not timed, but printed: a training has to be long enough to earn it back. For UNet++ it takes minutes;
--eager leaves it out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks import in_turns, parser, seconds, table
from datamodules.labels import LAPA
from datamodules.strong_views import strong_view
from foundation.processor import multiplies_bfloat16
from lightning_modules.self_training import SelfTraining

WAYS = {
    "single precision": (False, False, False),
    "channels-last": (False, True, False),
    "bfloat16": (True, False, False),
    "compile": (False, False, True),
    "bfloat16, channels-last": (True, True, False),
    "all": (True, True, True),
}
"""Name -> bfloat16, channels-last, compile; the last but one is trainer=auto with bfloat16 instructions."""
KINDS = ("supervised", "semi")
BATCH = {64: 8, 128: 8, 480: 2}


def parsing_module(encoder: str) -> SelfTraining:
    """The parser with its loss, and a teacher, as the stage ``semi`` builds it."""
    module = SelfTraining(
        classes=LAPA.classes,
        encoder=encoder,
        features=16,
        loss="focal_dice",
        lambda_ce=0.5,
        lambda_dice=0.5,
        alpha=0.5,
        gamma=2.0,
        optimizer={"name": "adamw", "lr": 1e-3},
        schedule={},
        steps=1000,
        ema_decay=0.99,
        threshold=0.0,
        weight=1.0,
        wait=0.0,
        ramp=0.0,
        views=1,
        cutmix=0.5,
    )
    module.setup("fit")
    module.train()
    return module


def steps(encoder: str, size: int, way: str) -> dict[str, Callable[[], None]]:
    """A step of supervised training and one of self-training, on random images."""
    bfloat16, channels_last, compiled = WAYS[way]
    torch.manual_seed(0)
    batch = BATCH.get(size, 4)
    module = parsing_module(encoder)
    image = torch.randn(batch, 3, size, size)
    label = torch.randint(0, len(LAPA.classes), (batch, size, size))
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    if compiled:
        module.model.compile()
        assert module.average is not None  # noqa: S101
        module.average.network.compile()
    optimizer = torch.optim.AdamW(module.model.parameters())
    outside = torch.zeros(batch, size, size, dtype=torch.bool)

    def supervised() -> torch.Tensor:
        return module.loss(module(image), label)

    def semi() -> torch.Tensor:
        pseudo, confidence = module.teach(image, outside)
        view = strong_view(image, pseudo, confidence)
        ours, strong = module(torch.cat([image, view.image])).split(batch)
        return module.loss(ours, label) + module.consistency(strong, view)

    def step(loss_of: Callable[[], torch.Tensor]) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = loss_of()
        loss.backward()
        optimizer.step()
        if loss_of is semi:
            module.average.update(module.model)  # type: ignore[union-attr]

    return {"supervised": functools.partial(step, supervised), "semi": functools.partial(step, semi)}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--encoder", default="resnet18", help="of segmentation-models-pytorch")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 480], help="sides of the input, in pixels")
    arguments.add_argument("--threads", type=int, default=2, help="torch threads")
    arguments.add_argument("--rounds", type=int, default=5, help="timed steps of each way")
    arguments.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    arguments.add_argument("--eager", action="store_true", help="without torch.compile")
    choice = arguments.parse_args()
    torch.set_num_threads(choice.threads)
    print(f"{choice.encoder}, {choice.threads} threads, bfloat16 instructions: {multiplies_bfloat16()}; median step")
    console = Console()
    for size in choice.sizes:
        for kind in choice.kinds:
            named = [way for way, (_, _, compiled) in WAYS.items() if not (choice.eager and compiled)]
            console.print(measured(choice.encoder, size, kind, choice.rounds, named))


def measured(encoder: str, size: int, kind: str, rounds: int, named: Sequence[str]) -> Any:
    """A table of one kind of step at one size."""
    ways = {way: steps(encoder, size, way)[kind] for way in named}
    first = {way: seconds(step) for way, step in ways.items()}  # compiles
    median = {way: float(np.median(times)) for way, times in in_turns(ways, rounds).items()}
    result = table("way", "ms a step", "speed", "first step, s", title=f"{kind}, {size} px, {BATCH.get(size, 4)} faces")
    for way, took in median.items():
        speed = median["single precision"] / took
        result.add_row(way, f"{1000 * took:.0f}", f"{speed:.2f}", f"{first[way]:.1f}")
    return result


if __name__ == "__main__":
    main()
