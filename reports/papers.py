"""The papers' tables with the comparable results of this code, as ``published.yaml`` defines them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from foundation.recorded_runs import RecordedRun
from reports.comparisons import FinishedRuns, Pair, grouped, pairs, signed
from reports.tables import Column, Table

PUBLISHED = Path(__file__).parent / "published.yaml"
SHOWN_RUNS = 3
"""Largest number of run ids in a row."""


@functools.cache
def published() -> Mapping[str, Any]:
    """The papers' printed results, as plain data."""
    plain = OmegaConf.to_container(OmegaConf.load(PUBLISHED))
    assert isinstance(plain, dict)  # noqa: S101 (for the type checker)
    return {str(name): value for name, value in plain.items()}


def published_gains(dataset: str) -> dict[float, float]:
    """The parsing paper's gains in mIoU points on a data set by label fraction in per cent; {} if it prints none."""
    table = published()["gains"]
    return {
        100 * share: gain
        for row in table["rows"]
        if row["dataset"] == dataset and row["metric"] == "test/miou"
        for share, gain in zip(table["columns"].values(), row["values"], strict=True)
        if gain is not None
    }


def paper_tables(runs: Iterable[RecordedRun]) -> list[Table]:
    """Every table of the papers, in per cent, with means over subsets and seeds of comparable runs below its rows."""
    done = FinishedRuns([run for run in runs if run.state == "done" and not run.in_a_fold])
    return [_gains(published()["gains"], done), *(_table(table, done) for table in published()["tables"])]


def _table(table: Mapping[str, Any], done: FinishedRuns) -> Table:
    metrics = list(table["columns"].values())
    fitting = [run for run in done.runs if _fits(run, table["comparable"])]
    ours = [run for run in fitting if any(name in run.metrics for name in metrics)]
    costs = table.get("costs", {})
    width = len(metrics) + len(costs)
    rows = [
        (name, *map(_printed, [*values, *[None] * (width - len(values))]), "") for name, values in table["rows"].items()
    ]
    shares = {run.text("label_fraction") for run in ours}
    for repeats in itertools.chain(*map(done.repeats, grouped(ours, lambda run: run.text("label_fraction")))):
        fraction = f", {repeats.runs[0].fraction} of the labels" if len(shares) > 1 and repeats.runs[0].fraction else ""
        means = (_mean([100 * run.metric(metric) for run in repeats.runs]) for metric in metrics)
        spent = (_mean([cost["times"] * run.number(cost["of"]) for run in repeats.runs]) for cost in costs.values())
        rows.append((f"here: {repeats.name}{fraction}", *means, *spent, _ids(repeats.runs)))
    return _paper_table(table, rows, measured=bool(ours))


def _gains(table: Mapping[str, Any], done: FinishedRuns) -> Table:
    """Gains of MTL over the baseline by label fraction, in points."""
    rows: list[tuple[str, ...]] = []
    paired = {pair.run.path: pair for pair in pairs(done.runs)}
    for row in table["rows"]:
        printed = ("—" if value is None else signed(value) for value in row["values"])
        rows.append((f"the paper: {row['name']}", *printed, ""))
        ours = [pair.run for pair in paired.values() if _is_mtl_on(pair.run, row["dataset"])]
        for repeats in done.repeats(ours):
            gains = [paired[run.path] for run in repeats.runs]
            cells = [_gain(gains, row["metric"], fraction) for fraction in table["columns"].values()]
            if any(cell != "—" for cell in cells):
                rows.append((f"here: {row['name']}, {repeats.name}", *cells, _ids(repeats.runs)))
    return _paper_table(table, rows, measured=any(row[0].startswith("here") for row in rows))


def _is_mtl_on(run: RecordedRun, dataset: str) -> bool:
    return run.text("method") == "mtl" and run.text("dataset") == dataset


def _gain(group: Sequence[Pair], metric: str, fraction: float) -> str:
    gains = [
        100 * (pair.run.metric(metric) - pair.baseline.metric(metric))
        for pair in group
        if math.isclose(pair.run.number("label_fraction"), fraction)
    ]
    if not gains:
        return "—"
    spread = f" ± {np.std(gains, ddof=1):.2f}" if len(gains) > 1 else ""
    return signed(float(np.mean(gains))) + spread


def _paper_table(table: Mapping[str, Any], rows: Sequence[tuple[str, ...]], measured: bool) -> Table:
    columns = [
        Column("", "words"),
        *(Column(title, "score") for title in (*table["columns"], *table.get("costs", {}))),
        Column("runs", "words"),
    ]
    if not measured:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    own = "Rows of this code are means over subsets and seeds, ± their standard deviation." if measured else ""
    missing = "" if measured else f"Nothing comparable has been measured yet: {table['command']}."
    note = " ".join(filter(None, (own, missing, *table["notes"])))
    title = f"{table['paper']}, {table['where']}: {table['title']}"
    return Table(title, tuple(columns), tuple(rows), (), note, measured)


def _fits(run: RecordedRun, comparable: Mapping[str, Any]) -> bool:
    if run.text("split") in ("train", "val"):  # the papers' figures are of test faces
        return False
    return all(
        run.of_masks
        if key == "of_masks"
        else math.isclose(run.number(key), expected)
        if isinstance(expected, float)
        else (run.stage if key == "stage" else run.text(key)) == expected
        for key, expected in comparable.items()
    )


def _printed(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "—"
    spread = f" ± {np.std(known, ddof=1):.2f}" if len(known) > 1 else ""
    return f"{np.mean(known):.2f}{spread}"


def _ids(runs: Sequence[RecordedRun]) -> str:
    names = [run.id for run in runs]
    return ", ".join(names[:SHOWN_RUNS]) + (f" and {len(names) - SHOWN_RUNS} more" if len(names) > SHOWN_RUNS else "")
