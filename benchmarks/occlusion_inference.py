"""What one image costs the occlusion segmenter, next to the paper's 55 ms (i5, forward pass alone).

    python -m benchmarks.occlusion_inference [--threads 1 2] [--rounds 30] [--compile]

One 128x128 image, the full network: as trained, with spectral norms folded, in channels-last memory, on request
compiled; and folded without attention and without batch-instance norm, which says what they cost; and the base UNet.
All variants take turns, so that a slow moment slows all; times are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from models.layers import BatchInstanceNorm2d, SelfAttention, folded
from models.unet import BaseUNet, ModifiedUNet

SIZE, WARM_UP = 128, 5
PAPER_MS = 55.0


def without(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A folded copy in which layers of one kind hand their input on."""
    plain = folded(model)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, nn.Identity())
    return plain


def variants(compiled: bool) -> dict[str, tuple[Callable[[Tensor], Tensor], torch.memory_format]]:
    """Name -> network and the memory format of its image."""
    torch.manual_seed(0)
    model = ModifiedUNet().eval()
    for layer in model.modules():
        if isinstance(layer, BatchInstanceNorm2d):
            nn.init.uniform_(layer.rho)  # as after training
    plain, last = torch.contiguous_format, torch.channels_last
    turned = folded(model)
    turned.to(memory_format=last)  # type: ignore[call-overload] # in place; the hints know of tensors' alone
    found: dict[str, tuple[Callable[[Tensor], Tensor], torch.memory_format]] = {
        "as trained": (model, plain),
        "folded": (folded(model), plain),
        "folded, channels-last": (turned, last),
        "folded, without attention": (without(model, SelfAttention), plain),
        "folded, without batch-instance norm": (without(model, BatchInstanceNorm2d), plain),
        "base UNet": (BaseUNet().eval(), plain),
    }
    if compiled:
        found["folded, channels-last, compiled"] = (torch.compile(turned), last)
    return found


def milliseconds(networks: dict[str, tuple[Callable[[Tensor], Tensor], torch.memory_format]], rounds: int) -> dict:
    """Name -> median of a forward pass."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    photo = torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        for turn in range(WARM_UP + rounds):
            for name, (network, form) in networks.items():
                image = photo.contiguous(memory_format=form)
                started = time.perf_counter()
                network(image)
                if turn >= WARM_UP:
                    times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--compile", action="store_true", help="with torch.compile too, which needs a C++ compiler")
    chosen = parser.parse_args()
    found = {}
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        found[threads] = milliseconds(variants(chosen.compile), chosen.rounds)
    table = Table(box=SIMPLE_HEAD, caption=f"Milliseconds, one {SIZE}x{SIZE} image; the paper: {PAPER_MS:g} on an i5.")
    table.add_column("network")
    for threads in chosen.threads:
        table.add_column(f"{threads} thread{'s' if threads > 1 else ''}", justify="right")
        table.add_column("of as trained", justify="right")
    for name in found[chosen.threads[0]]:
        cells = [
            cell
            for times in found.values()
            for cell in (f"{times[name]:.1f}", f"{times[name] / times['as trained']:.2f}")
        ]
        table.add_row(name, *cells)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
