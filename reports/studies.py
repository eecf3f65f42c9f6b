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
    """Every study: runs on the same data, scale and recipe; those of real faces first, then the largest.

    Returns:
        Each as plain values: its title, the label fractions in per cent with their numbers of images, and a line for
        each method and variant with mean, deviation and single scores (mIoU in per cent) and gains (points) by
        fraction. The names are text.
    """
    every = list(runs)
    done = FinishedRuns(every)
    scored = [run for run in every if run.tested and not math.isnan(run.metric("test/miou"))]
    scored = [run for run in scored if 0 <= run.number("label_fraction") <= 1]
    digests = _digests(scored)
    groups = grouped(scored, lambda run: None if _about(run) is None else (_about(run), digests[run.path]))
    found = newest(groups, MOST_STUDIES, _changed)
    found.sort(key=lambda group: (group[0].origin != "real", -_size(group), -_changed(group)))
    plain = [_plain(group, done) for group in found]
    titles = [study["title"] for study in plain]
    for study, group in zip(plain, found, strict=True):
        if titles.count(study["title"]) > 1:
            study["title"] += f", data {digests[group[0].path][:6]}"
    return plain


def _about(run: RecordedRun) -> tuple[str, ...] | None:
    values = tuple(run.text(key) for key in ("dataset", "scale", "recipe"))
    return (*values, run.origin, run.text("merging")) if all(values) else None


def _digests(runs: Sequence[RecordedRun]) -> dict[Any, str]:
    """Digest of the data on which runs are scored, by the run's path.

    A self-training with synthetic faces records one of these too: that of other runs with the same labels counts, or
    the only one that other runs on its data set have.
    """
    alone = [run for run in runs if not run.number("synthetic") > 0]
    of_labels = {run.labels_digest: run.text("data_digest") for run in alone if run.labels_digest}
    of_data: dict[Any, set[str]] = {}
    for run in alone:
        of_data.setdefault(_about(run), set()).add(run.text("data_digest"))
    found = {run.path: run.text("data_digest") for run in runs}
    for run in runs:
        if run.number("synthetic") > 0:
            (only,) = known if len(known := of_data.get(_about(run), set())) == 1 else {run.text("data_digest")}
            found[run.path] = of_labels.get(run.labels_digest, only)
    return found


def _size(runs: Sequence[RecordedRun]) -> int:
    return len({(run.text("method"), run.text("label_fraction")) for run in runs})


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
    if len(shown) > 1:  # with one number of labels the methods stand side by side
        shown |= {share: f"{share:g} %" for share in printed if paired and share not in shown}
    best = max(runs, key=lambda run: run.metric("test/miou"))
    return {
        "title": f"{first.data}, scale {first.text('scale')}, recipe {first.text('recipe')}",
        "fractions": [[share, shown[share]] for share in sorted(shown)],
        "lines": _joined([_line(repeats, names[repeats.runs[0].path], paired) for repeats in lines]),
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
                {
                    "at": share,
                    **_spread(gained),
                    "reach": None if math.isnan(reach) else round(reach, 2),
                    "runs": [run.path.name for run in gaining],
                }
            )
    name = f"{first.method} ({about})" if about else first.method
    return {"name": as_text(name, 200), "method": first.text("method"), "scores": scores, "gains": gains}


def _joined(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of one name with different label fractions as one line: without labels other data enter the training."""
    found: list[dict[str, Any]] = []
    for line in lines:
        at = {score["at"] for score in line["scores"]}
        same = next((one for one in found if one["name"] == line["name"]), None)
        if same is None or at & {score["at"] for score in same["scores"]}:
            found.append(line)
            continue
        for kind in ("scores", "gains"):
            same[kind] = sorted(same[kind] + line[kind], key=lambda point: float(point["at"]))
    return found


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "mean": round(float(np.mean(values)), 2),
        "deviation": None if deviation is None else round(deviation, 2),
        "values": [round(value, 2) for value in values],
    }
