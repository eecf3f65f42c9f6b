"""Latency of the occlusion segmenter, compared with the paper's 55 ms (i5, forward pass only).

    python -m benchmarks.occlusion_inference [--threads 1 2] [--rounds 30] [--compile]

One 128x128 image, the full network: as trained, with spectral norms folded, in channels-last memory, optionally
compiled; folded without attention or without batch-instance norm, which gives their cost; and the base UNet. The
variants take turns, so that other load affects all; times are medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks import in_turns, parser, table
from models.layers import BatchInstanceNorm2d, SelfAttention, folded
from models.unet import BaseUNet, ModifiedUNet

SIZE, WARM_UP = 128, 5
PAPER_MS = 55.0


def without(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A folded copy in which layers of one type are the identity."""
    plain = folded(model)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, nn.Identity())
    return plain


def variants(compiled: bool) -> dict[str, Callable[[], Tensor]]:
    """Name -> a forward pass of an image in the network's memory format."""
    torch.manual_seed(0)
    model = ModifiedUNet().eval()
    for layer in model.modules():
        if isinstance(layer, BatchInstanceNorm2d):
            nn.init.uniform_(layer.rho)  # as after training
    turned = folded(model)
    turned.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # in place; the type hints cover tensors only
    networks: dict[str, Callable[[Tensor], Tensor]] = {
        "as trained": model,
        "folded": folded(model),
        "folded, channels-last": turned,
        "folded, without attention": without(model, SelfAttention),
        "folded, without batch-instance norm": without(model, BatchInstanceNorm2d),
        "base UNet": BaseUNet().eval(),
    }
    if compiled:
        networks["folded, channels-last, compiled"] = torch.compile(turned)
    plain = torch.randn(1, 3, SIZE, SIZE)
    last = plain.contiguous(memory_format=torch.channels_last)
    return {name: partial(network, last if "channels-last" in name else plain) for name, network in networks.items()}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--compile", action="store_true", help="with torch.compile too, which needs a C++ compiler")
    chosen = arguments.parse_args()
    found = {}
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            times = in_turns(variants(chosen.compile), chosen.rounds, WARM_UP)
        found[threads] = {name: 1000 * statistics.median(took) for name, took in times.items()}
    columns = [
        column
        for threads in chosen.threads
        for column in (f"{threads} thread{'s' if threads > 1 else ''}", "of as trained")
    ]
    caption = f"Milliseconds, one {SIZE}x{SIZE} image; the paper: {PAPER_MS:g} on an i5."
    result = table("network", *columns, caption=caption)
    for name in found[chosen.threads[0]]:
        cells = [
            cell
            for medians in found.values()
            for cell in (f"{medians[name]:.1f}", f"{medians[name] / medians['as trained']:.2f}")
        ]
        result.add_row(name, *cells)
    Console(highlight=False).print(result)


if __name__ == "__main__":
    main()
