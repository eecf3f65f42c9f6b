"""Status of the runs of an output folder: ``python report.py view=status``."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from foundation.recorded_runs import RecordedRun, as_number
from foundation.shown_text import printable
from reports.comparisons import VARIANT

ORDER = ("running", "failed", "interrupted", "unreadable", "unknown", "done")
FEW = 12
"""Number of finished runs that are listed, the newest."""


def status_table(runs: Sequence[RecordedRun], now: float | None = None) -> Table:
    """A row per run, running ones first: state, progress, times, or the error."""
    now = time.time() if now is None else now
    states = {run.path: run.state for run in runs}
    ranked = sorted(runs, key=lambda run: (_rank(states[run.path]), -run.changed))
    done = [run for run in ranked if states[run.path] == "done"]
    shown = [run for run in ranked if states[run.path] != "done"] + done[:FEW]
    table = Table(box=SIMPLE, pad_edge=False)
    for column in ("run", "what", "state", "epoch", "best so far", "time", "left"):
        words = column in ("run", "what", "state")
        table.add_column(column, justify="left" if words else "right", no_wrap=column not in ("what", "state"))
    for run in shown:
        state = states[run.path]
        error = run.text("error") if state in ("failed", "unreadable") else ""
        shown_state = f"{state}: {error.splitlines()[0]}" if error.strip() else state
        table.add_row(
            Text(printable(run.path.name)),
            Text(described(run)),
            Text(shown_state),
            _epoch(run),
            best(run),
            *_times(run, now),
        )
    counts = Counter(states.values())
    summary = ", ".join(f"{counts[state]} {state}" for state in sorted(counts, key=_rank))
    if len(done) > FEW:
        summary += f"; of the done ones the newest {FEW} are shown"
    table.caption, table.caption_justify = Text(summary), "left"
    return table


def _rank(state: str) -> int:
    return ORDER.index(state) if state in ORDER else len(ORDER) - 1


def described(run: RecordedRun) -> str:
    """Experiment, method and variant, labels, their subset, and seed."""
    variant = " ".join(filter(None, (run.method, *map(run.text, VARIANT))))
    subset = f"subset {run.text('subset')}" if run.text("subset") else ""
    return ", ".join(filter(None, (run.text("experiment"), variant, run.fraction, subset, f"seed {run.text('seed')}")))


def progress(run: RecordedRun, now: float) -> dict[str, float | None]:
    """Epochs done and to do, seconds so far and left; None for what is unknown or has ended."""
    seconds, epoch, total = run.number("seconds"), run.number("epoch"), _total(run)
    known = {"done": epoch, "total": total, "seconds": seconds, "left": math.nan}
    if run.state == "running" and not math.isnan(seconds):
        since = max(0.0, now - run.changed)  # the status is written after each validation
        known["seconds"] = seconds + since
        if epoch > 0 and not math.isnan(total):
            known["left"] = max(0.0, seconds / epoch * (total - epoch) - since)
    return {name: None if math.isnan(value) else value for name, value in known.items()}


def _total(run: RecordedRun) -> float:
    total = run.number("epochs")
    return as_number(run.setting.get(f"{run.stage}.epochs")) if math.isnan(total) else total


def _epoch(run: RecordedRun) -> str:
    done, total = run.number("epoch"), _total(run)
    if math.isnan(total):
        return ""
    return f"{0 if math.isnan(done) else done:.0f} of {total:.0f}"


def best(run: RecordedRun) -> str:
    """The best validation score so far."""
    for name, shown in (("val/miou", "{:.1%} mIoU"), ("val/psnr", "{:.1f} dB")):
        value = run.metric(name)
        if math.isnan(value) and run.curves:
            _, curve = run.curve("epoch", name)
            value = float(curve.max()) if len(curve) else math.nan
        if not math.isnan(value):
            return shown.format(value)
    return ""


def _times(run: RecordedRun, now: float) -> tuple[str, str]:
    """Time taken, and estimated time left."""
    known = progress(run, now)
    return clock(known["seconds"]), clock(known["left"])


def clock(seconds: float | None) -> str:
    """A duration, as 11 min; "" for None."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
