"""Console tables of a training command: its planned runs (``dry_run=true``) and its results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from foundation.recorded_runs import read_run

SCORES = (
    ("test/miou",),
    ("test/mean_f1", "test/dice"),
    ("test/pixel_accuracy", "test/accuracy", "test/balanced_accuracy"),
)
"""Metrics of a parser, of a segmenter, and of a segmenter on faces without pixel ground truth."""


def plan_table(rows: Iterable[Sequence[str]]) -> Table:
    """Rows of run folder, its state, and what the command does."""
    table = Table(box=SIMPLE)
    for column in ("run folder", "state", "action"):
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def results_table(folders: Iterable[Path]) -> Table:
    """The scores of finished runs, one row per run folder."""
    table = Table(
        box=SIMPLE,
        pad_edge=False,
        caption="mIoU, mean F1 (masks: Dice), pixel accuracy (without pixel ground truth: balanced accuracy of faces) "
        "on the test set (evaluate.py: on its split), %. PSNR: validation set, dB.",
    )
    runs = [read_run(folder) for folder in folders]
    heads = any(run.text("head") for run in runs)
    # A head has no training speed, and a narrow screen has no room for both columns.
    head, rate = (["head"], []) if heads else ([], ["img/s"])
    for column in ("run", *head, "labels", "mIoU", "F1", "acc.", "PSNR", *rate, "time"):
        table.add_column(column, justify="left" if column in ("run", "head") else "right", no_wrap=True)
    for run in runs:
        speed, seconds = (
            0.0 if math.isnan(run.number(key)) else run.number(key) for key in ("images_per_second", "seconds")
        )
        table.add_row(
            escape(run.path.name),
            *([escape(run.text("head"))] if heads else []),
            escape(run.text("labelled")) if run.number("labelled") else "none",
            *(_shown([run.metric(name) for name in names], 100) for names in SCORES),
            _shown([run.metric("val/psnr")]),
            *([] if heads else [f"{speed:.1f}"]),
            f"{round(seconds) // 60}:{round(seconds) % 60:02}",
        )
    return table


def _shown(values: Iterable[float], factor: float = 1) -> str:
    """The first value that is not NaN."""
    return next((f"{factor * value:.2f}" for value in values if not math.isnan(value)), "")
