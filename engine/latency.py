"""How long a network takes, as it was trained and as it was exported, side by side in processes of their own."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from callbacks.throughput import peak_memory_mb
from engine.checkpoints import load
from engine.scoring import scored_module

BATCHES, THREADS = (1, 8), (1, 2)
WARM_UP, BLOCK = 3, 10
"""Answers that do not count, and that do, whenever a network takes its turn: the threads of the one before it go on
looking for work for a while."""


def latencies(trained: Path, exported: Path, rounds: int, console: Console) -> list[dict[str, Any]]:
    """Milliseconds of both networks for batches of 1 and 8 pictures, on 1 and 2 threads (1 where there is one core).

    Args:
        trained: a ``best.ckpt``.
        exported: what was exported from it.
        rounds: how often each answers; both take turns of ten, so that a busy machine is busy for both.
        console: shows progress.

    Returns:
        Rows of ``network``, ``batch``, ``threads``, ``median_ms``, ``p95_ms``, ``ratio`` to the trained one's median
        and ``memory_mib`` that loading it and its first answer took.
    """
    cases = list(itertools.product((n for n in THREADS if n <= (os.cpu_count() or 1)), BATCHES))
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    for threads, batch in track(cases, "measuring", console=console, transient=True):
        # A process for each: memory is not given back, and neither are threads.
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            rows += pool.submit(measure, (trained, exported), batch, threads, rounds).result()
    return rows


def measure(paths: tuple[Path, ...], batch: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each network; see :func:`latencies`."""
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    names = {path: "PyTorch, as trained" if path.suffix == ".ckpt" else path.name for path in paths}
    networks: dict[str, nn.Module] = {}
    memory: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in names.values()}
    with torch.inference_mode():
        for path in reversed(paths):  # a checkpoint leaves room behind, which would hide what the other takes
            before = peak_memory_mb(cpu)
            content = load(path)
            network = scored_module(content, as_lapa=False, background="literature").model.eval()
            size = int(content["settings"]["datamodule.image_size"])
            pictures = torch.zeros(batch, 3, size, size)
            network(pictures)
            networks[names[path]] = network
            memory[names[path]] = peak_memory_mb(cpu) - before
        for start in range(0, rounds, BLOCK):
            for name, taken in times.items():
                for turn in range(WARM_UP + min(BLOCK, rounds - start)):
                    started = time.perf_counter()
                    networks[name](pictures)
                    if turn >= WARM_UP:
                        taken.append(1000 * (time.perf_counter() - started))
    first = float(np.median(next(iter(times.values()))))
    return [
        {
            "network": name,
            "batch": batch,
            "threads": threads,
            "median_ms": round(float(np.median(taken)), 2),
            "p95_ms": round(float(np.percentile(taken, 95)), 2),
            "ratio": round(float(np.median(taken)) / first, 3),
            "memory_mib": round(memory[name], 1),
        }
        for name, taken in times.items()
    ]
