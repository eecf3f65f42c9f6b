"""Studies: scores and gains by number of labels, for every method, with the paper's gains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from foundation.recorded_runs import RecordedRun, as_text
from reports.comparisons import FinishedRuns, Pair, Repeats, confidence, grouped, pairs, variants
from reports.limits import newest
from reports.papers import published_gains

MOST_LINES, MOST_STUDIES = 16, 12
"""Lines of a study, and studies: the newest."""


def studies(runs: Iterable[RecordedRun]) -> list[dict[str, Any]]:
    """Every study, the newest first: runs on the same data, scale and recipe.

    Returns:
        Each as plain values: its title, the label fractions in per cent with their numbers of images, and a line for
        each method and variant with mean, deviation and single scores (mIoU in per cent) and gains (points) by
        fraction. The names are text.
    """
    every = list(runs)
    done = FinishedRuns(every)
    scored = [run for run in every if run.tested and not math.isnan(run.metric("test/miou"))]
    scored = [run for run in scored if 0 <= run.number("label_fraction") <= 1]
    found = newest(grouped(scored, _study), MOST_STUDIES, _changed)
    return [_plain(group, done) for group in sorted(found, key=_changed, reverse=True)]


def _study(run: RecordedRun) -> tuple[str, ...] | None:
    values = tuple(run.text(key) for key in ("dataset", "scale", "recipe"))
    # A self-training has another digest with each set of synthetic faces; what it is scored on is the same.
    digest = "" if run.number("synthetic") > 0 else run.text("data_digest")
    return (*values, run.origin, digest, run.text("merging")) if all(values) else None


def _changed(runs: Iterable[RecordedRun]) -> float:
    return max(run.changed for run in runs)


def _plain(runs: list[RecordedRun], done: FinishedRuns) -> dict[str, Any]:
    first = runs[0]
    names = variants(runs)
    paired = {pair.run.path: pair for pair in pairs(runs) if not math.isnan(pair.gain)}
    lines = newest(done.repeats(runs), MOST_LINES, lambda repeats: _changed(repeats.runs))
    printed = published_gains(first.text("dataset"))
    labels = {run.number("label_fraction"): run.fraction for run in runs}
    shown = {100 * share: text for share, text in labels.items()}
    shown |= {share: f"{share:g} %" for share in printed if paired and share not in shown}
    best = max(runs, key=lambda run: run.metric("test/miou"))
    return {
        "title": f"{first.data}, scale {first.text('scale')}, recipe {first.text('recipe')}",
        "fractions": [[share, shown[share]] for share in sorted(shown)],
        "lines": [_line(repeats, names[repeats.runs[0].path], paired) for repeats in lines],
        "paper": [[share, gain] for share, gain in printed.items()] if paired else [],
        "best": best.path.name,
        "score": 100 * best.metric("test/miou"),
    }


def _line(repeats: Repeats, variant: str, paired: dict[Any, Pair]) -> dict[str, Any]:
    first = repeats.runs[0]
    about = ", ".join(filter(None, (variant, repeats.differing)))
    by_fraction = grouped(repeats.runs, lambda run: run.number("label_fraction"))
    by_fraction.sort(key=lambda group: group[0].number("label_fraction"))
    scores, gains = [], []
    for group in by_fraction:
        share = 100 * group[0].number("label_fraction")
        values = [100 * run.metric("test/miou") for run in group]
        scores.append({"at": share, **_spread(values), "runs": [run.path.name for run in group]})
        gaining = [run for run in group if run.path in paired]
        if gaining:
            gained = [paired[run.path].gain for run in gaining]
            reach = confidence(gained)
            gains.append(
                {"at": share, **_spread(gained), "reach": None if math.isnan(reach) else round(reach, 2),
                 "runs": [run.path.name for run in gaining]}
            )
    name = f"{first.method} ({about})" if about else first.method
    return {"name": as_text(name, 200), "method": first.text("method"), "scores": scores, "gains": gains}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "mean": round(float(np.mean(values)), 2),
        "deviation": None if deviation is None else round(deviation, 2),
        "values": [round(value, 2) for value in values],
    }
