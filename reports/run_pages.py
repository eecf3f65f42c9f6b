"""A page for each run: scores, curves, images, provenance and settings."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from foundation.files import atomic_write
from foundation.interruption import checked
from foundation.recorded_runs import RecordedRun, as_text
from reports import panels
from reports.limits import ILLUSTRATED_PAGES, newest

WIDTH, HEIGHT = 240, 60
"""Units of a small curve's SVG; the page scales it."""
MOST_CURVES = 1000
"""Columns of ``metrics.csv`` that a page shows: several for each of 255 classes."""
LONGEST_NAME = 200
"""Bytes of a page's file name without its ending; a file system takes 255, and a draft's name is longer."""


@dataclass(frozen=True)
class SmallCurve:
    """One column of ``metrics.csv``, plotted without axes, with its range.

    Args:
        name: the column.
        path: attribute ``d`` of an SVG ``<path>``, in WIDTH x HEIGHT.
        first: first value, in the metric's own unit.
        last: last value.
        low: least value, at the bottom of the image.
        high: largest value, at its top.
        steps: optimiser steps from the first point to the last.
    """

    name: str
    path: str
    first: float
    last: float
    low: float
    high: float
    steps: tuple[int, int]


def write_run_pages(runs: Sequence[RecordedRun], folder: Path, templates: Environment, **shared: Any) -> None:
    """Write ``<folder>/<stage>-<id>.html``, a self-contained page for each run.

    Args:
        runs: all runs of an output folder, so that a page can list the runs that use its run.
        folder: folder of the pages; pages of deleted runs are removed.
        templates: environment with ``run.html``.
        shared: the template's other variables.
    """
    by_id = {run.id: run for run in runs}
    made_from: dict[str, list[RecordedRun]] = {}
    for run in runs:
        for upstream in run.upstreams:
            made_from.setdefault(upstream, []).append(run)
    page = templates.get_template("run.html")
    illustrated = {run.path for run in newest(runs, ILLUSTRATED_PAGES, lambda run: run.changed)}
    left_out = f"Only the pages of the newest {ILLUSTRATED_PAGES} runs show them."
    for run in checked(runs):
        html = page.render(
            run=run,
            upstreams=[(as_text(name), by_id.get(name)) for name in run.upstreams],
            made_from=made_from.get(run.id, ()),
            settings=sorted((as_text(name), _plain(value)) for name, value in run.setting.items()),
            config=run.config,
            attempts=_attempts(run),
            scores=scores(run),
            by_class=scores_by_class(run),
            curves=small_curves(run),
            panels=panels.of_one_run(run) if run.path in illustrated else [],
            left_out="" if run.path in illustrated else left_out,
            **shared,
        )
        with atomic_write(folder / page_name(run), sync=False) as file:  # it can be written again at any time
            file.write(html.encode("utf-8", "replace"))
    kept = {page_name(run) for run in runs}
    for page_file in folder.glob("*.html"):
        if page_file.name not in kept:
            page_file.unlink()


def page_name(run: RecordedRun) -> str:
    """File name of the run's page: the folder's name, cut off if that is too long for a file with an ending."""
    name = os.fsencode(run.path.name)
    if len(name) > LONGEST_NAME:
        name = name[:LONGEST_NAME] + b"-" + hashlib.sha256(name).hexdigest()[:16].encode()
    return f"{os.fsdecode(name)}.html"


def scores(run: RecordedRun) -> list[tuple[str, str]]:
    """Names and values of all metrics except per-class ones, as stored."""
    return [(as_text(name), _value(run.metric(name))) for name in sorted(run.metrics) if name.count("/") == 1]


def scores_by_class(run: RecordedRun) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Metrics per class or group: their kinds, and a row for each class."""
    cells = {tuple(name.rsplit("/", 1)): run.metric(name) for name in run.metrics if name.count("/") >= 2}
    kinds = tuple(sorted({kind for kind, _ in cells}))
    classes = dict.fromkeys(name for _, name in cells)
    rows = [(as_text(name), *(_value(cells.get((kind, name), math.nan)) for kind in kinds)) for name in classes]
    return tuple(map(as_text, kinds)), rows


def small_curves(run: RecordedRun) -> dict[str, list[SmallCurve]]:
    """All columns of ``metrics.csv``; the many per-class ones separately."""
    found: dict[str, list[SmallCurve]] = {"": [], "of single classes": []}
    for name in list(run.curves)[:MOST_CURVES]:
        if name in ("epoch", "step"):
            continue
        steps, values = run.curve("step", name)
        if len(values):
            found["of single classes" if name.count("/") > 1 else ""].append(small_curve(name, steps, values))
    return {head: curves for head, curves in found.items() if curves}


def small_curve(name: str, steps: np.ndarray, values: np.ndarray) -> SmallCurve:
    """The curve of one column, values (N,) at steps (N,), with at most :data:`WIDTH` points."""
    low, high = float(values.min()), float(values.max())
    span, reach = high - low or 1.0, steps[-1] - steps[0] or 1.0
    every = slice(None, None, math.ceil(len(values) / WIDTH))
    x = (steps[every] - steps[0]) / reach * WIDTH
    y = (HEIGHT - 2) - (values[every] - low) / span * (HEIGHT - 4)
    points = " ".join(f"{across:.1f},{down:.1f}" for across, down in zip(x.tolist(), y.tolist(), strict=True))
    # A single point is a line of no length, which a round cap turns into a dot.
    path = f"M{points}" + ("h0" if len(x) == 1 else "")
    reached = int(steps[0]), int(steps[-1])
    return SmallCurve(as_text(name), path, float(values[0]), float(values[-1]), low, high, reached)


def _attempts(run: RecordedRun) -> list[tuple[str, str, str, str]]:
    """Number, device, commit and versions of each attempt."""
    history = run.status.get("history")
    attempts: Iterable[Any] = history if isinstance(history, list) else ()
    rows = []
    for attempt in attempts:
        if isinstance(attempt, Mapping):
            versions = attempt.get("versions")
            known = versions.items() if isinstance(versions, Mapping) else ()
            named = as_text(", ".join(f"{name} {version}" for name, version in known))
            number, device, commit = (as_text(attempt.get(key)) for key in ("attempt", "device", "git_sha"))
            rows.append((number, device, commit, named))
    return rows


def _plain(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else as_text(value)


def _value(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"
