"""Curves of runs for the page: fewer points, and what they say about overfitting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from foundation.recorded_runs import RecordedRun, as_text

PLACES = ("epoch", "step")
MOST_POINTS, ALL_POINTS = 240, 40_000
"""Points of a curve, and of the training curves of all runs together."""
FEWEST_POINTS = 40
MOST_COLUMNS = 60
"""Curves of a run; those of single classes come last."""
WORSE = 0.05
"""Share by which the validation loss must have risen from its lowest value for a run to overfit."""


def points(count: int) -> int:
    """Points of each curve in a report of a number of runs."""
    return max(FEWEST_POINTS, min(MOST_POINTS, ALL_POINTS // max(1, count)))


def curves(run: RecordedRun, most: int, of_classes: bool) -> list[dict[str, Any]]:
    """The curves of a run, those with values in the same rows together.

    Args:
        run: the run.
        most: points of a curve; the training loss of several steps becomes their mean, validations are left out evenly.
        of_classes: whether to include the scores of single classes.

    Returns:
        ``{"step": [...], "epoch": [...], "y": {name: [...]}}`` for each group.
    """
    columns = run.curves
    names = [name for name in columns if name not in PLACES and (of_classes or name.count("/") < 2)]
    names.sort(key=lambda name: name.count("/") > 1)
    if "step" not in columns:
        return []
    groups: dict[bytes, list[str]] = {}
    steps = columns["step"]
    for name in names[:MOST_COLUMNS]:
        present = np.isfinite(columns[name]) & np.isfinite(steps)
        if present.any():
            groups.setdefault(np.packbits(present).tobytes(), []).append(name)
    return [_group(columns, group, most) for group in groups.values()]


def _group(columns: dict[str, np.ndarray], names: list[str], most: int) -> dict[str, Any]:
    present = np.isfinite(columns[names[0]]) & np.isfinite(columns["step"])
    steps = columns["step"][present]
    epochs = columns["epoch"][present] if "epoch" in columns else np.zeros_like(steps)
    starts = np.unique(np.linspace(0, len(steps), min(most, len(steps)), endpoint=False).astype(int))
    ends = np.append(starts[1:], len(steps)) - 1  # the last row of each part, so that a curve ends where the run does
    counts = ends - starts + 1
    averaged = [name.startswith("train/") and not name.endswith("/lr") for name in names]
    values = {
        as_text(name): rounded(
            np.add.reduceat(columns[name][present], starts) / counts if mean else columns[name][present][ends]
        )
        for name, mean in zip(names, averaged, strict=True)
    }
    return {"step": _integers(steps[ends]), "epoch": _integers(epochs[ends]), "y": values}


def _integers(values: np.ndarray) -> list[int | None]:
    return [int(value) if math.isfinite(value) else None for value in values.tolist()]


def rounded(values: np.ndarray) -> list[float | None]:
    """Numbers with five digits; None for NaN."""
    return [shortened(value) for value in values.tolist()]


def shortened(value: float) -> float | None:
    """A number with five digits; None for NaN."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.5g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def overfitting(run: RecordedRun) -> str:
    """One sentence that says whether the validation loss rises while the training loss falls; "" without both."""
    epochs, losses = run.curve("epoch", "val/loss")
    trained_at, trained = run.curve("epoch", "train/loss")
    if len(losses) < 3 or not len(trained):
        return ""
    lowest = int(losses.argmin())
    rise = losses[-1] / losses[lowest] - 1 if losses[lowest] > 0 else 0.0
    then, now = (trained[trained_at == epochs[place]] for place in (lowest, len(losses) - 1))
    falls = bool(len(then) and len(now) and now.mean() < then.mean())
    where = f"lowest in epoch {epochs[lowest] + 1:.0f} of {epochs[-1] + 1:.0f}"
    if rise > WORSE and falls:
        return (
            f"Overfits: the validation loss is {where}, {rise:.0%} higher at the end, while the training loss "
            f"fell from {then.mean():.3g} to {now.mean():.3g}.".replace("%", " %")
        )
    if rise > WORSE:
        return f"The validation loss is {where}, {rise:.0%} higher at the end; so is the training loss.".replace(
            "%", " %"
        )
    return f"No sign of overfitting: the validation loss is {where}, {rise:.1%} higher at the end.".replace("%", " %")
