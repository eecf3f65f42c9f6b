"""Panels: saved images of runs, side by side."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, replace

from datamodules.labels import recorded_classes
from foundation.errors import UserError
from foundation.reading import MEBIBYTE
from foundation.recorded_runs import RecordedRun, as_text
from foundation.shown_text import printable
from reports.comparisons import VARIANT, grouped, setting, variants

MOST, FEWEST, MOST_GROUPS = 6, 3, 10
"""Samples per panel: many for a single panel, few for several; all are in the run folders."""
MOST_COLUMNS = 12
"""Images in a row of a panel: input, ground truth and the predictions of compared runs."""
TILE_SIZE, TILE_PIXELS = 4 * MEBIBYTE, 4096
"""Largest size of an image's file in bytes, and largest side; a browser would need gigabytes for some tiny files."""


@dataclass(frozen=True)
class Tile:
    """One image: alternative text, source for an ``<img>``, and width and height in pixels."""

    alt: str
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Panel:
    """A grid of images, one row for each sample.

    Args:
        title: settings that the runs share.
        columns: head of each column.
        rows: sample id and its tiles; None for a missing one.
        legend: class names with their colours as CSS; empty without label maps.
        runs: the runs whose images these are.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tile | None, ...]], ...]
    legend: tuple[tuple[str, str], ...]
    runs: tuple[RecordedRun, ...]


def predictions(runs: Iterable[RecordedRun]) -> list[Panel]:
    """Input, ground truth and predictions of comparable runs: for each label fraction, its first subset and seed."""
    panels = []
    tested = [run for run in runs if run.tested and _samples(run, "test", "prediction")]
    groups = grouped(tested, lambda run: setting(run, repeat=False))
    shown = max(FEWEST, MOST // max(1, len(groups)))
    for group in groups:
        repeats = grouped(group, setting)
        # The subset and seed with the most methods.
        compared = max(repeats, key=len)[: MOST_COLUMNS - 2]
        first = compared[0]
        names = variants(compared)
        # Equal heads are distinguished by the run's id.
        heads = [f"{run.method} {names[run.path]}".strip() for run in compared]
        heads = [
            f"{head} {run.id}" if heads.count(head) > 1 else head for head, run in zip(heads, compared, strict=True)
        ]
        shared = set.intersection(*(set(_samples(run, "test", "prediction")) for run in compared))
        images = [(first, "image"), (first, "ground_truth"), *((run, "prediction") for run in compared)]
        title = f"{first.data}, {first.fraction} labelled, "
        title += f"scale {first.text('scale')}, subset {first.text('subset')}, seed {first.text('seed')}"
        panels.append(
            _panel(title, "test", sorted(shared)[:shown], images, ["image", "ground_truth", *heads], _legend(first))
        )
    return panels


def reconstructions(runs: Iterable[RecordedRun]) -> list[Panel]:
    """Input, masked or noisy input and reconstruction of every finished pre-training run."""
    pretrainings = (run for run in runs if run.stage == "pretrain" and run.state == "done")
    return [
        panel
        for run in pretrainings
        for panel in _each(
            [run], "val", ["image", "noisy" if _samples(run, "val", "noisy") else "masked", "reconstruction"]
        )
    ]


def masks(runs: Iterable[RecordedRun]) -> list[Panel]:
    """Input, ground truth if any, prediction and cleaned prediction of every segmenter and its evaluations."""
    columns = ["image", "ground_truth", "prediction", "cleaned"]
    scored = (run for run in runs if run.of_masks and not run.in_a_fold)
    return [
        panel
        for run in scored
        for panel in _each(
            [run], "test", columns if _samples(run, "test", "ground_truth") else [columns[0], *columns[2:]]
        )
    ]


def masks_by_group(runs: Iterable[RecordedRun]) -> list[Panel]:
    """A face of each group (mask type, wearing style, pose), of the first run of each network and data set."""
    scored = (run for run in runs if run.of_masks and not run.in_a_fold)
    grouped_faces = [run for run in scored if any(split.startswith("groups/") for split in run.panels)]
    panels = []
    for first, *_ in grouped(grouped_faces, lambda run: (run.stage, run.data, run.text("network"))):
        for split in first.panels:
            top, _, kind = split.partition("/")
            if top != "groups" or not kind or "/" in kind:
                continue
            faces = [face for face in _samples(first, split, "prediction") if face.endswith("_1")][:MOST_GROUPS]
            columns = ["image", "ground_truth", "prediction", "cleaned"]
            columns = [column for column in columns if _samples(first, split, column)]
            title = f"By {kind}: {first.data}, {first.text('network')}".replace("_", " ")
            panel = _panel(title, split, faces, [(first, column) for column in columns], columns, ())
            rows = tuple((face.removesuffix("_1").replace("_", " "), tiles) for face, tiles in panel.rows)
            panels.append(replace(panel, rows=rows))
    return panels


KINDS = ("image", "ground_truth", "masked", "noisy", "reconstruction", "prediction", "cleaned")
"""Kinds of images of a sample, in their order in a panel."""
FORMER_KINDS = {"ground_truth": "truth"}
"""Names of kinds in panels of older runs."""


def of_one_run(run: RecordedRun) -> list[Panel]:
    """All panels of a run with their first samples, and single images."""
    found = []
    for split, names in run.panels.items():
        columns = [kind for kind in KINDS if _samples(run, split, kind)]
        title = split or "."
        if columns:
            samples = _samples(run, split, columns[-1])[:MOST]
            panel = _panel(title, split, samples, [(run, kind) for kind in columns], columns, _legend(run))
            found.append(replace(panel, runs=()))
        for name in names:
            stem = name.removesuffix(".png")
            if name.count(".") == 1 and (tile := _tile(run, split, name, stem)):
                title = f"{split}: {stem}" if split else stem
                found.append(Panel(title, ("",), (("", (tile,)),), (), ()))
    return found


def _each(runs: Iterable[RecordedRun], split: str, columns: list[str]) -> list[Panel]:
    """A panel for every run that has images of the last column."""
    panels = []
    for run in runs:
        if samples := _samples(run, split, columns[-1]):
            title = ", ".join(filter(None, (run.data, f"scale {run.text('scale')}", *map(run.text, VARIANT))))
            panels.append(_panel(title, split, samples[:FEWEST], [(run, kind) for kind in columns], columns, ()))
    return panels


def _panel(
    title: str,
    split: str,
    samples: list[str],
    images: list[tuple[RecordedRun, str]],
    columns: list[str],
    legend: tuple[tuple[str, str], ...],
) -> Panel:
    rows = tuple(
        (
            sample,
            tuple(
                _tile(run, split, _file(run, split, sample, kind), f"{column} of {sample}")
                for (run, kind), column in zip(images, columns, strict=True)
            ),
        )
        for sample in samples
    )
    return Panel(title, tuple(columns), rows, legend, tuple(dict.fromkeys(run for run, _ in images)))


def _samples(run: RecordedRun, split: str, kind: str) -> list[str]:
    """Samples with an image of a kind, sorted."""
    suffixes = tuple(f".{name}.png" for name in (kind, FORMER_KINDS.get(kind)) if name)
    names = run.panels.get(split, ())
    return sorted({name.removesuffix(suffix) for name in names for suffix in suffixes if name.endswith(suffix)})


def _file(run: RecordedRun, split: str, sample: str, kind: str) -> str:
    name = f"{sample}.{kind}.png"
    return name if name in run.panels.get(split, ()) else f"{sample}.{FORMER_KINDS.get(kind, kind)}.png"


def _tile(run: RecordedRun, split: str, name: str, alt: str) -> Tile | None:
    data = run.panel(split, name, TILE_SIZE)
    if data is None:
        return None
    # A PNG file gives its width and height in bytes 16 to 23.
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if not (0 < width <= TILE_PIXELS and 0 < height <= TILE_PIXELS):
        return None
    return Tile(printable(alt), f"data:image/png;base64,{base64.b64encode(data).decode()}", width, height)


def _legend(run: RecordedRun) -> tuple[tuple[str, str], ...]:
    try:
        label_set = recorded_classes({**run.status, "dataset": run.text("classes") or run.text("dataset")})
        if label_set is None or label_set.binary:
            return ()
        names = [as_text(name.replace("_", " ")) for name in label_set.classes]
        colours = [f"rgb({red:d}, {green:d}, {blue:d})" for red, green, blue in label_set.palette]
        return tuple(zip(names, colours, strict=True))
    except (UserError, KeyError, TypeError, ValueError, AttributeError, IndexError):  # an edited status
        return ()
