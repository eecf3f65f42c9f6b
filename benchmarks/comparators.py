"""Cost of one image for each segmenter of the occlusion paper's Table 4 and each parser of model=.

    python -m benchmarks.comparators [--size 128] [--width 16] [--rounds 10] [--threads 1]

Parameters, operations (two per multiply-add, of convolutions and matrix products), size of the weights, median time of
a forward pass; untrained networks, spectral norms folded. A detector also takes time per detected mask.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import torch
from rich.console import Console
from torch import nn

from benchmarks import parser, table
from lightning_modules.occlusion import build_network
from models.cost import flops, megabytes, milliseconds
from models.parser import FaceParser
from stages.finetuning import ARCHITECTURES
from stages.segmentation import NETWORKS

CLASSES = 19
ENCODERS = {"unetplusplus": "resnet50", "deeplabv3plus": "resnet50", "segformer": "mit_b2", "linknet": "mobilenet_v2"}
"""Encoders of ``scale=paper``."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, default=128, help="side of the image, a multiple of 32")
    arguments.add_argument("--width", type=int, help="channels of the first level; as published if not given")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--threads", type=int, default=1)
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    caption = f"One {chosen.size}x{chosen.size} image, threads: {chosen.threads}."
    costs = table("network", "parameters, million", "GFLOPs", "ms", "MB", caption=caption)
    for name in NETWORKS:
        if name == "yolo_ultralytics" and find_spec("ultralytics") is None:
            continue
        costs.add_row(name, *_costs(build_network(name, chosen.width, 1, 3, 3, "all"), chosen))
    costs.add_section()
    for architecture in ARCHITECTURES:
        network = FaceParser(CLASSES, ENCODERS[architecture], architecture=architecture)
        costs.add_row(f"{architecture}, {ENCODERS[architecture]}", *_costs(network, chosen))
    Console(highlight=False).print(costs)


def _costs(network: nn.Module, chosen: argparse.Namespace) -> tuple[str, ...]:
    network = network.eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return (
        f"{parameters / 1e6:.2f}",
        f"{flops(network, chosen.size) / 1e9:.2f}",
        f"{milliseconds(network, chosen.size, chosen.rounds):.1f}",
        f"{megabytes(network):.1f}",
    )


if __name__ == "__main__":
    main()
