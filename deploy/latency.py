"""How long a network takes, as it was trained and as it was exported, side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
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
from stages.scoring import scored_module

CPU = torch.device("cpu")
BATCHES, THREADS = (1, 8), (1, 2)
WARM_UP, BLOCK = 3, 10
"""Answers that do not count, and that do, whenever a network takes its turn."""


def latencies(
    trained: Path, exported: Path, rounds: int, console: Console, trust: str | None = None
) -> list[dict[str, Any]]:
    """Milliseconds of both networks for batches of 1 and 8 images, on 1 and 2 threads (1 where there is one core).

    Args:
        trained: a ``best.ckpt``.
        exported: what was exported from it.
        rounds: how often each answers; both take turns of ten, so that a busy machine is busy for both.
        console: shows progress.
        trust: package whose code the checkpoint may name.

    Returns:
        Rows of ``network``, ``batch``, ``threads``, ``median_ms``, ``p95_ms``, ``ratio`` to the trained one's median
        and ``memory_mib`` that loading it and its answers took.
    """
    cases = [threads for threads in THREADS if threads <= cpu_count()]
    rows: list[dict[str, Any]] = []
    for threads in track(cases, "measuring", console=console, transient=True):
        rows += measure((trained, exported), threads, rounds, trust)
    return rows


def measure(paths: tuple[Path, ...], threads: int, rounds: int, trust: str | None = None) -> list[dict[str, Any]]:
    """A row for each batch and network, each network in a process of its own: none waits for the threads of another,
    which go on looking for work for a while, and none has the memory that another gave back. See :func:`latencies`."""
    context, rows = multiprocessing.get_context("spawn"), []
    with ExitStack() as stack:
        processes = {
            path: stack.enter_context(ProcessPoolExecutor(1, context, _start, (path, threads, trust))) for path in paths
        }
        for batch in BATCHES:
            memory = {path: process.submit(_first, batch).result() for path, process in processes.items()}
            times: dict[Path, list[float]] = {path: [] for path in paths}
            for start in range(0, rounds, BLOCK):
                for path, process in processes.items():
                    times[path] += process.submit(_turn, batch, min(BLOCK, rounds - start)).result()
            reference = float(np.median(times[paths[0]]))
            rows += [
                {
                    "network": "PyTorch, as trained" if path.suffix == ".ckpt" else path.name,
                    "batch": batch,
                    "threads": threads,
                    "median_ms": round(float(np.median(taken)), 2),
                    "p95_ms": round(float(np.percentile(taken, 95)), 2),
                    "ratio": round(float(np.median(taken)) / reference, 3),
                    "memory_mib": round(memory[path], 1),
                }
                for path, taken in times.items()
            ]
    return rows


class _Measured:
    """The network of this process."""

    network: nn.Module
    size: int
    before: float


def _start(path: Path, threads: int, trust: str | None) -> None:
    torch.set_num_threads(threads)
    _Measured.before = peak_memory_mb(CPU)
    content = load(path)
    _Measured.network = scored_module(content, "literature", trust=trust).model.eval()
    _Measured.size = int(content["settings"]["datamodule.image_size"])


def _first(batch: int) -> float:
    """Memory in MiB after the first answer."""
    _turn(batch, 0)
    return peak_memory_mb(CPU) - _Measured.before


@torch.inference_mode()
def _turn(batch: int, count: int) -> list[float]:
    """Milliseconds of so many answers."""
    images, times = torch.zeros(batch, 3, _Measured.size, _Measured.size), []
    for _ in range(WARM_UP + count):
        started = time.perf_counter()
        _Measured.network(images)
        times.append(1000 * (time.perf_counter() - started))
    return times[WARM_UP:]
