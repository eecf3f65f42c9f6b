"""Latency of a network, as trained and as exported, each in its own process."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import cpu_count
from rich.console import Console
from rich.progress import track
from torch import nn

from callbacks.checkpoints import load
from callbacks.throughput import peak_memory_mb
from datamodules.transforms import MEAN, STD
from deploy.torchscript_files import as_network, trace
from foundation.child_processes import end_with_parent
from models.deployed import Deployed
from stages.scoring import scored_module

CPU = torch.device("cpu")
BATCHES, THREADS = (1, 8), (1, 2)
WARM_UP, BLOCK = 3, 10
"""Untimed and timed forward passes per turn of a network."""


@dataclass(frozen=True)
class Measured:
    """A network to measure.

    Args:
        name: of its row.
        path: a ``best.ckpt`` or an ``.onnx`` file.
        traced: side of the input and whether in float16, to measure the checkpoint as TorchScript: each process traces
            it again, since TorchScript files are not loaded. None measures the file as it is.
        trust: package whose network the checkpoint may use.
    """

    name: str
    path: Path
    traced: tuple[int, bool] | None = None
    trust: str | None = None


def latencies(
    trained: Path,
    exported: Path,
    rounds: int,
    console: Console,
    trust: str | None = None,
    traced: tuple[int, bool] | None = None,
) -> list[dict[str, Any]]:
    """Milliseconds of both networks for batches of 1 and 8 images, on 1 and 2 threads (1 where there is one core).

    Args:
        trained: a ``best.ckpt``.
        exported: what was exported from it.
        rounds: timed forward passes of each; the networks take turns of ten, so that other load hits both.
        console: shows progress.
        trust: package whose network the checkpoint may use.
        traced: of a TorchScript file, see :class:`Measured`.

    Returns:
        Rows of ``network``, ``batch``, ``threads``, ``median_ms``, ``p95_ms``, ``ratio`` to the trained median,
        and ``memory_mib`` of loading it and one forward pass (None for TorchScript, which is traced instead).
    """
    networks = (
        Measured("PyTorch, as trained", trained, trust=trust),
        Measured(exported.name, trained if traced else exported, traced, trust),
    )
    cases = [threads for threads in THREADS if threads <= cpu_count()]
    rows: list[dict[str, Any]] = []
    for threads in track(cases, "measuring", console=console, transient=True):
        rows += measure(networks, threads, rounds)
    return rows


def measure(networks: tuple[Measured, ...], threads: int, rounds: int) -> list[dict[str, Any]]:
    """One row per batch size and network, see :func:`latencies`.

    Each network has its own process: in one process, the threads of a network would spin for a while after its turn,
    and a network could reuse memory that another freed.
    """
    context, rows = multiprocessing.get_context("spawn"), []
    with ExitStack() as stack:
        processes = {
            network: stack.enter_context(ProcessPoolExecutor(1, context, _start, (network, threads)))
            for network in networks
        }
        for batch in BATCHES:
            memory = {network: process.submit(_memory, batch).result() for network, process in processes.items()}
            times: dict[Measured, list[float]] = {network: [] for network in networks}
            for start in range(0, rounds, BLOCK):
                for network, process in processes.items():
                    times[network] += process.submit(_milliseconds, batch, min(BLOCK, rounds - start)).result()
            reference = float(np.median(times[networks[0]]))
            rows += [
                {
                    "network": network.name,
                    "batch": batch,
                    "threads": threads,
                    "median_ms": round(float(np.median(taken)), 2),
                    "p95_ms": round(float(np.percentile(taken, 95)), 2),
                    "ratio": round(float(np.median(taken)) / reference, 3),
                    "memory_mib": None if network.traced else round(memory[network], 1),
                }
                for network, taken in times.items()
            ]
    return rows


class _Own:
    """The network of this process."""

    network: nn.Module
    size: int
    before: float


def _start(measured: Measured, threads: int) -> None:
    end_with_parent()
    torch.set_num_threads(threads)
    _Own.before = peak_memory_mb(CPU)
    content = load(measured.path)
    _Own.network = scored_module(content, "literature", trust=measured.trust).model.eval()
    _Own.size = int(content["settings"]["datamodule.image_size"])
    if measured.traced is not None:
        _Own.size, half = measured.traced
        graph = Deployed(_Own.network, _Own.size, MEAN, STD, half=half).eval()
        _Own.network = as_network(trace(graph), _Own.size, measured.name)


def _memory(batch: int) -> float:
    """Memory in MiB after the first forward passes."""
    _milliseconds(batch, 0)
    return peak_memory_mb(CPU) - _Own.before


@torch.inference_mode()
def _milliseconds(batch: int, count: int) -> list[float]:
    """Milliseconds of ``count`` forward passes."""
    images, times = torch.zeros(batch, 3, _Own.size, _Own.size), []
    for _ in range(WARM_UP + count):
        started = time.perf_counter()
        _Own.network(images)
        times.append(1000 * (time.perf_counter() - started))
    return times[WARM_UP:]
