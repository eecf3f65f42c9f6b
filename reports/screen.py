"""What a training command shows on the screen: what it would do, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

SCORES = ("test/miou", "test/mean_f1", "test/pixel_accuracy")


def plan_table(rows: Iterable[Sequence[str]]) -> Table:
    """Rows of run folder, its state, and what a command would do."""
    table = Table(box=SIMPLE)
    for column in ("run folder", "state", "would"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def results_table(folders: Iterable[Path]) -> Table:
    """What finished runs came to, a row a run folder."""
    table = Table(
        box=SIMPLE, pad_edge=False, caption="mIoU, mean F1, pixel accuracy: test set, %. PSNR: validation set, dB."
    )
    for column in ("run", "labels", "mIoU", "F1", "acc.", "PSNR", "img/s", "time"):
        table.add_column(column, justify="left" if column == "run" else "right", no_wrap=True)
    for folder in folders:
        file = folder / "status.json"
        status: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        metrics = status.get("metrics", {})
        scores = [_shown(metrics.get(name), 100) for name in SCORES]
        seconds = round(status.get("seconds", 0))
        table.add_row(
            folder.name,
            str(status.get("labelled") or "none"),
            *scores,
            _shown(metrics.get("val/psnr")),
            f"{status.get('images_per_second', 0):.1f}",
            f"{seconds // 60}:{seconds % 60:02}",
        )
    return table


def _shown(value: float | None, factor: float = 1) -> str:
    return "" if value is None else f"{factor * value:.2f}"
