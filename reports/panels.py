"""Panels: saved images of runs, side by side."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from datamodules.labels import recorded_classes
from foundation.errors import UserError
from foundation.reading import MEBIBYTE
from foundation.recorded_runs import RecordedRun, as_text
from foundation.shown_text import printable

MOST = 6
"""Samples per panel; all are in the run folders."""
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


KINDS = ("image", "ground_truth", "masked", "noisy", "reconstruction", "prediction", "cleaned")
"""Kinds of images of a sample, in their order in a panel."""
FORMER_KINDS = {"ground_truth": "truth"}
"""Names of kinds in panels of older runs."""


def of_one_run(run: RecordedRun) -> list[Panel]:
    """All panels of a run with their first samples, and single images."""
    found = []
    for split, names in run.panels.items():
        columns = [kind for kind in KINDS if samples_of(run, split, kind)]
        title = split or "."
        if columns:
            samples = samples_of(run, split, columns[-1])[:MOST]
            panel = _panel(title, split, samples, [(run, kind) for kind in columns], columns, _legend(run))
            found.append(replace(panel, runs=()))
        for name in names:
            stem = name.removesuffix(".png")
            if name.count(".") == 1 and (tile := _tile(run, split, name, stem)):
                title = f"{split}: {stem}" if split else stem
                found.append(Panel(title, ("",), (("", (tile,)),), (), ()))
    return found


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
                _tile(run, split, file_of(run, split, sample, kind), f"{column} of {sample}")
                for (run, kind), column in zip(images, columns, strict=True)
            ),
        )
        for sample in samples
    )
    return Panel(title, tuple(columns), rows, legend, tuple(dict.fromkeys(run for run, _ in images)))


def samples_of(run: RecordedRun, split: str, kind: str) -> list[str]:
    """Samples with an image of a kind, sorted."""
    suffixes = tuple(f".{name}.png" for name in (kind, FORMER_KINDS.get(kind)) if name)
    names = run.panels.get(split, ())
    return sorted({name.removesuffix(suffix) for name in names for suffix in suffixes if name.endswith(suffix)})


def file_of(run: RecordedRun, split: str, sample: str, kind: str) -> str:
    """The name of an image; older runs have other names."""
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
