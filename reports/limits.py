"""What the page leaves out when there are many runs: it stays small enough to open, and states what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from foundation.recorded_runs import RecordedRun
from reports.panels import Panel
from reports.tables import Table

ILLUSTRATED = 40
"""Runs of each stage whose curves and images the page shows."""
ILLUSTRATED_PAGES = 500
"""Runs whose own page has images."""
IMAGES_SIZE = 6_000_000
"""Characters of all images of the page."""
MOST_ROWS = 1000
"""Rows of a table on the page."""
MOST_FINDINGS = 50

Item = TypeVar("Item")


def newest(items: Sequence[Item], most: int, changed: Callable[[Item], float]) -> list[Item]:
    """The items that changed last, in their given order."""
    if len(items) <= most:
        return list(items)
    ranked = sorted(range(len(items)), key=lambda place: changed(items[place]), reverse=True)
    return [items[place] for place in sorted(ranked[:most])]


def illustrated(runs: Sequence[RecordedRun], most: int = ILLUSTRATED) -> list[RecordedRun]:
    """The newest runs of each stage."""
    stages = dict.fromkeys(run.stage for run in runs)
    kept = {
        run.path
        for stage in stages
        for run in newest([run for run in runs if run.stage == stage], most, lambda run: run.changed)
    }
    return [run for run in runs if run.path in kept]


def with_fewer_rows(table: Table, file: str) -> Table:
    """A table as the page shows it: the rows of the newest runs, or the first rows if a row is no run.

    Args:
        table: the table.
        file: the file that has all rows, for the note.
    """
    count = len(table.rows)
    if count <= MOST_ROWS:
        return table
    if is_of_runs := any(column.kind == "run" for column in table.columns):
        places = newest(range(count), MOST_ROWS, lambda place: table.runs[place].changed)
    else:
        places = list(range(MOST_ROWS))
    which = "newest" if is_of_runs else "first"
    return replace(
        table,
        rows=tuple(table.rows[place] for place in places),
        runs=tuple(table.runs[place] for place in places) if table.runs else (),
        note=f"{table.note} The {which} {MOST_ROWS} of {count} rows are shown; all are in {file}.".strip(),
    )


def within_size(groups: Sequence[list[Panel]]) -> tuple[list[list[Panel]], int]:
    """The first panels of each group, as many as fit in :data:`IMAGES_SIZE`, and the number of those left out.

    The groups take turns, so that each kind of image is shown.
    """
    kept: list[list[Panel]] = [[] for _ in groups]
    size = left_out = 0
    for turn in range(max(map(len, groups), default=0)):
        for place, group in enumerate(groups):
            if turn >= len(group):
                continue
            panel = group[turn]
            needed = sum(len(tile.source) for _, tiles in panel.rows for tile in tiles if tile)
            if size + needed > IMAGES_SIZE:
                left_out += 1
            else:
                kept[place].append(panel)
                size += needed
    return kept, left_out


def left_out(runs: Sequence[RecordedRun], shown: Sequence[RecordedRun], findings: int, panels: int) -> list[str]:
    """Sentences that state what the page leaves out.

    Args:
        runs: all runs.
        shown: the runs with curves and images on the page.
        findings: number of findings that are left out.
        panels: number of panels that are left out.
    """
    sentences = []
    if len(shown) < len(runs):
        sentences.append(
            f"Curves and images are of the newest {ILLUSTRATED} runs of each stage; the others have theirs on their "
            "own pages."
        )
    if len(runs) > ILLUSTRATED_PAGES:
        sentences.append(f"The pages of the newest {ILLUSTRATED_PAGES} runs have images.")
    if panels:
        sentences.append(f"{panels} groups of images are left out for their size.")
    if findings:
        sentences.append(f"{findings} further findings are left out.")
    return sentences
