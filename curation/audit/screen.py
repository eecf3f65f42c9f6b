"""The results of an audit as tables for the screen."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from curation.audit.findings import KINDS
from curation.audit.tally import SMALL, Tally

SHOWN = 5
"""Ids of a finding, and sizes of images, that are shown; audit.json has all."""


def tables(tally: Tally, title: str) -> list[Table]:
    """Findings, classes, and splits with image sizes."""
    return [_findings(tally, title), _classes(tally), _images(tally)]


def _findings(tally: Tally, title: str) -> Table:
    table = _table(title, "finding", "count", "first")
    for kind, words in KINDS.items():
        ids = tally.findings.ids(kind)
        if ids:
            table.add_row(words, str(len(ids)), Text(", ".join(ids[:SHOWN]) + " ..." * (len(ids) > SHOWN)))
    if not table.row_count:
        table.add_row("none", "0", "")
    return table


def _classes(tally: Tally) -> Table:
    table = _table(f"Classes of {tally.labelled} labelled faces", "class", "% of pixels", "faces", "")
    for name, share, count in zip(tally.labels.classes, tally.shares, tally.holders, strict=True):
        table.add_row(name, f"{100 * share:.3f}", str(count), "small" if share < SMALL else "")
    table.caption = f"small: below {100 * SMALL:.0f} % of pixels"
    for name, text in tally.masks.items():
        table.caption += f"\nmasks, {name.replace('_', ' ')}: {text}"
    return table


def _images(tally: Tally) -> Table:
    table = _table(f"{tally.faces} images", "split or size", "images")
    for split, count in tally.splits.items():
        table.add_row(split or "no split", str(count))
    table.add_section()
    for (height, width), count in tally.sizes.most_common(SHOWN):
        table.add_row(f"{width}x{height}", str(count))
    if len(tally.sizes) > SHOWN:
        others = sum(count for _, count in tally.sizes.most_common()[SHOWN:])
        table.add_row(f"{len(tally.sizes) - SHOWN} other sizes", str(others))
    return table


def _table(title: str, *columns: str) -> Table:
    """An empty table; numbers stand right."""
    table = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for column in columns:
        right = column in ("count", "% of pixels", "faces", "images")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table
