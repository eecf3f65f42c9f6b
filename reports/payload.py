"""The data of the report's page as plain values: columns of settings and metrics, and what single runs hold."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from datamodules.labels import recorded_classes
from foundation.errors import UserError
from foundation.interruption import checked
from foundation.reading import MEBIBYTE, UnreadableError, read_bytes
from foundation.recorded_runs import RecordedRun, as_number, as_text
from foundation.shown_text import printable
from reports import curves, limits
from reports.commands import command
from reports.comparisons import pairs
from reports.embedded_images import EmbeddedImages, embed
from reports.run_pages import page_name
from reports.status import progress
from reports.studies import studies

TEXTS = (
    *("state", "stage", "method", "experiment", "data", "scale", "recipe", "subset", "seed", "ablation", "split"),
    *("sweep", "network", "git_sha", "device"),
)
NUMBERS = (
    *("label_fraction", "labelled", "validation_labels", "epoch", "seconds", "images_per_second", "peak_memory_mb"),
    "parameters",
)
"""Columns of every run besides settings and metrics; empty ones are left out."""
DETAILED = 300
"""Runs with images, a confusion matrix and a command: the newest."""
CURVED = 2000
"""Runs with curves: the newest."""
MOST_SETTINGS, MOST_METRICS = 600, 400
"""Columns of settings and of metrics, those that most runs have."""
MOST_CLASSES = 40
"""Classes of a confusion matrix."""
CLASSES_OF = 60
"""With more runs than this, the curves of single classes are on the runs' own pages."""


def payload(runs: Sequence[RecordedRun], now: float, every: float) -> dict[str, Any]:
    """Everything that the page shows of runs.

    Args:
        runs: the runs, sorted.
        now: the time, seconds since 1970.
        every: seconds after which a served page asks for new data; 0: never.

    Returns:
        Plain values, of which every text is to be shown as text.
    """
    newest_first = sorted(runs, key=lambda run: -run.changed)
    detailed = newest_first[:DETAILED]
    images = EmbeddedImages()
    shown = embed(detailed, images)
    curved = {run.path for run in newest_first[:CURVED]}
    paired = {pair.run.path: pair for pair in pairs(runs)}
    places = {run.path: place for place, run in enumerate(runs)}
    gains = {path: curves.shortened(pair.gain) for path, pair in paired.items()}
    in_detail = {run.path for run in detailed}
    most = curves.points(min(len(runs), CURVED))
    entries = []
    for run in checked(runs):
        entry = _entry(run, now)
        if run.path in paired:
            entry["baseline"] = places[paired[run.path].baseline.path]
        if run.path in curved and run.has_curves:
            entry["curves"] = curves.curves(run, most, len(runs) <= CLASSES_OF)
            entry["overfitting"] = curves.overfitting(run)
        if run.path in in_detail:
            entry |= {"command": command(run), "confusion": _confusion(run), "attempts": _attempts(run)}
            entry |= shown[run.path.name]
        entries.append({name: value for name, value in entry.items() if value not in (None, "", [], {})})
    return {
        "written": now,
        "every": every,
        "runs": entries,
        "columns": columns(runs, gains),
        "studies": _placed(studies(runs), {run.path.name: place for place, run in enumerate(runs)}),
        "images": images.images,
        "left_out": _left_out(runs, detailed, images),
    }


def as_script(value: Any) -> str:
    """A value as JSON that may be the content of a ``<script>``: no text can end the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def key_of(run: RecordedRun) -> str:
    """The name by which the page's address calls a run."""
    return printable(run.path.name)


def _entry(run: RecordedRun, now: float) -> dict[str, Any]:
    return {
        "key": key_of(run),
        "id": run.id,
        "stage": run.stage,
        "state": run.state,
        "method": run.text("method"),
        "name": _short_name(run),
        "error": run.text("error"),
        "page": f"runs/{quote(os.fsencode(page_name(run)))}",
        "folder": f"../runs/{quote(os.fsencode(run.path.name))}/",
        "upstreams": [as_text(name, 100) for name in run.upstreams[:20]],
        "changed": round(run.changed),
        "progress": progress(run, now),
        "classes": _palette(run),
    }


def _short_name(run: RecordedRun) -> str:
    """What a legend calls a run, before its settings distinguish it from others."""
    fraction = run.number("label_fraction")
    labels = "" if math.isnan(fraction) else f"{100 * fraction:g} %"
    parts = (
        run.method or run.stage,
        labels,
        run.text("network"),
        *(f"{key} {run.text(key)}" for key in ("subset", "seed") if run.text(key)),
    )
    return as_text(" · ".join(filter(None, parts)), 80)


def columns(runs: Sequence[RecordedRun], gains: Mapping[Any, float | None]) -> list[dict[str, Any]]:
    """The columns of the table of runs: what every run has, then settings, then metrics.

    A column of texts holds its distinct values and the place of each run's; -1 for none. A column of numbers holds
    them; None for none.
    """
    found = [_texts("about", key, [_about(run, key) for run in runs]) for key in TEXTS]
    found += [_numbers("about", key, [run.number(key) for run in runs]) for key in NUMBERS]
    found.append({"kind": "about", "name": "gain", "values": [gains.get(run.path) for run in runs]})
    settings = _all_settings(runs)
    for name in _most_common(settings, MOST_SETTINGS):
        found.append(_texts("setting", name, [_plain(own.get(name, UNSET)) for own in settings]))
    for name in _most_common([run.metrics for run in runs], MOST_METRICS):
        found.append(_numbers("metric", name, [run.metric(name) for run in runs]))
    return [
        column for column in found if column.get("distinct") or any(v is not None for v in column.get("values", []))
    ]


UNSET: Any = object()


def _about(run: RecordedRun, key: str) -> str | None:
    value = getattr(run, key) if key in ("state", "stage", "method", "data") else run.text(key)
    return as_text(value, 200) or None


def _plain(value: Any) -> str | None:
    if value is UNSET:
        return None
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return as_text(value, 300)


def _texts(kind: str, name: str, values: list[str | None]) -> dict[str, Any]:
    distinct = list(dict.fromkeys(value for value in values if value is not None))
    place = {value: number for number, value in enumerate(distinct)}
    at = [-1 if value is None else place[value] for value in values]
    numeric = all(_is_number(value) for value in distinct if value != "null")
    column = {"kind": kind, "name": as_text(name, 200), "distinct": distinct, "numeric": numeric}
    return column | ({"at": at} if any(at) else {})


def _is_number(text: str) -> bool:
    return not math.isnan(as_number(text))


def _numbers(kind: str, name: str, values: list[float]) -> dict[str, Any]:
    return {"kind": kind, "name": as_text(name, 200), "values": list(map(curves.shortened, values))}


def _all_settings(runs: Sequence[RecordedRun]) -> list[dict[str, Any]]:
    """Settings of every run, with those of the runs that it started from where it has none of that name."""
    by_id = {run.id: run for run in runs}
    found: list[dict[str, Any]] = []
    for run in runs:
        own, seen, waiting = dict(run.setting), {run.id}, list(run.upstreams)
        while waiting:
            upstream = by_id.get(waiting.pop())
            if upstream is not None and upstream.id not in seen:
                seen.add(upstream.id)
                waiting += upstream.upstreams
                own = {**upstream.setting, **own}
        found.append(own)
    return found


def _most_common(named: Iterable[Mapping[str, Any]], most: int) -> list[str]:
    counts: dict[str, int] = {}
    for names in named:
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    kept = sorted(counts, key=lambda name: -counts[name])[:most]
    return [name for name in counts if name in set(kept)] if len(kept) < len(counts) else list(counts)


def _placed(found: list[dict[str, Any]], places: Mapping[str, int]) -> list[dict[str, Any]]:
    """Studies with the places of their runs instead of the names of their folders."""
    for study in found:
        study["best"] = places[study["best"]]
        for line in study["lines"]:
            for point in (*line["scores"], *line["gains"]):
                point["runs"] = [places[name] for name in point["runs"]]
    return found


def _confusion(run: RecordedRun) -> dict[str, Any] | None:
    """Pixels by true and predicted class; None without a readable ``confusion.csv``."""
    try:
        text = read_bytes(run.path, "confusion.csv", MEBIBYTE).decode("utf-8", "replace")
        header, *rows = csv.reader(text.splitlines())
        counts = [[as_number(cell) for cell in row[1:]] for row in rows]
    except (UnreadableError, ValueError, csv.Error):
        return None
    names = [as_text(name, 60) for name in header[1:]]
    square = len(names) == len(counts) <= MOST_CLASSES and all(len(row) == len(names) for row in counts)
    if not square or not all(0 <= count < math.inf for row in counts for count in row):
        return None
    return {"classes": names, "pixels": [[int(count) for count in row] for row in counts]}


def _attempts(run: RecordedRun) -> list[list[str]]:
    history = run.status.get("history") or []
    keys = ("attempt", "device", "git_sha")
    versions = [attempt.get("versions") for attempt in history[:20]]
    shown = [
        ", ".join(f"{name} {v}" for name, v in known.items()) if isinstance(known, dict) else "" for known in versions
    ]
    return [
        [*(as_text(attempt.get(key), 100) for key in keys), as_text(text, 500)]
        for attempt, text in zip(history, shown, strict=False)
    ]


def _palette(run: RecordedRun) -> list[list[str]] | None:
    """Names and colours of a run's classes; None if they are not known."""
    return _colours(json.dumps(run.status.get("class_set"), sort_keys=True), run.text("classes") or run.text("dataset"))


@functools.lru_cache(maxsize=64)
def _colours(class_set: str, dataset: str) -> list[list[str]] | None:
    try:
        label_set = recorded_classes({"class_set": json.loads(class_set), "dataset": dataset})
        if label_set is None or label_set.binary:
            return None
        colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in label_set.palette]
        return [list(pair) for pair in zip(map(as_text, label_set.classes), colours, strict=True)]
    except (UserError, KeyError, TypeError, ValueError, AttributeError, IndexError):  # an edited status
        return None


def _left_out(runs: Sequence[RecordedRun], detailed: Sequence[RecordedRun], images: EmbeddedImages) -> list[str]:
    sentences = []
    if len(detailed) < len(runs):
        sentences.append(f"Images, confusion matrices and commands are of the newest {DETAILED} of {len(runs)} runs.")
    if len(runs) > CURVED:
        sentences.append(f"Curves are of the newest {CURVED} runs.")
    if images.full:
        sentences.append(
            f"Some images of {len(images.full)} runs are left out to keep the page below "
            f"{(limits.IMAGES_SIZE + 7_000_000) / 1e6:.0f} MB; their own pages have them."
        )
    return sentences
