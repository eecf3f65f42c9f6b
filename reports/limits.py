"""What the page leaves out when there are many runs: it stays small enough to open, and states what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from foundation.recorded_runs import RecordedRun
from reports.tables import Table

ILLUSTRATED = 40
"""Runs of each stage whose curves are in the figures."""
ILLUSTRATED_PAGES = 500
"""Runs whose own page has images."""
IMAGES_SIZE = 8_000_000
"""Characters of all images of the page, as base64."""
MOST_ROWS = 300
"""Rows of a table on the page."""
MOST_FINDINGS = 50
MOST_STUDIES = 6
"""Studies whose best run the page names first."""

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


def left_out(runs: Sequence[RecordedRun], findings: int) -> list[str]:
    """Sentences that state what the page and the pages of runs leave out.

    Args:
        runs: all runs.
        findings: number of findings that are left out.
    """
    sentences = []
    if len(runs) > ILLUSTRATED_PAGES:
        sentences.append(f"The pages of the newest {ILLUSTRATED_PAGES} runs have images.")
    if findings:
        sentences.append(f"{findings} further findings are left out.")
    return sentences
