"""The report: one self-contained HTML page to explore, and one for each run."""

from __future__ import annotations

import base64
import contextlib
import datetime
import errno
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from foundation.errors import ConfigError, DataError
from foundation.files import atomic_write, make_writable, remove_drafts
from foundation.recorded_runs import RecordedRun, read_runs
from foundation.shown_text import printable
from reports import comparisons, figures, folds, limits, papers, status, tables
from reports.libraries import libraries
from reports.payload import as_script, key_of, payload
from reports.run_pages import page_name, write_run_pages
from reports.tables import Table

TABLES = ("grid_searches", "papers", "class_ious")
"""Parts of the page with several tables."""
MAIN_TABLES = ("results", "across", "occlusion", "papers")
"""Those that are written as LaTeX too."""
FOLDERS = ("", "tables", "figures", "runs")
"""Folders of the report, below its own."""
LONGEST_NAME = 100
"""Characters of the file name of a table or a figure."""


def write_report(output_dir: Path, every: float = 0, now: float | None = None) -> Path:
    """Write ``<output_dir>/report/index.html`` from the runs of an output folder, its tables and figures next to it.

    The page is self-contained; ``tables/*.csv``, ``tables/*.tex`` and ``figures/*`` are for use elsewhere. It links to
    the pages of single runs, ``runs/*.html``, which link to the run folders. The same run folders at the same time give
    the same bytes, and pages are replaced atomically.

    Args:
        output_dir: the folder that holds ``runs/``.
        every: seconds after which the page asks its server for new data; 0: never.
        now: the time that the page names, seconds since 1970; by default the present.

    Returns:
        The page.

    Raises:
        DataError: if there is no run folder, or it cannot be read.
        ConfigError: if the report cannot be written.
    """
    runs = read_runs(output_dir)
    require_runs(runs, output_dir)
    page = output_dir / "report" / "index.html"
    with _written(page.parent):
        for name in FOLDERS:
            require_no_link(page.parent / name)
        make_writable(page.parent)
        remove_drafts(page.parent, recursive=True, shared=True)
        _write(runs, page, output_dir.resolve().name, every, time.time() if now is None else now)
    return page


def _write(runs: list[RecordedRun], page: Path, name: str, every: float, now: float) -> None:
    shown = _shown(runs, now)
    tables = {key: _listed(shown[key]) for key in ("results", "across", "occlusion", *TABLES)}
    names = _files(table.title for listed in tables.values() for table in listed)
    for key, listed in tables.items():
        fewer = []
        for table, file in zip(listed, names, strict=False):
            _write_text(page.parent / "tables" / f"{file}.csv", table.csv())
            if key in MAIN_TABLES and table.measured:
                _write_text(page.parent / "tables" / f"{file}.tex", table.latex())
            fewer.append(limits.with_fewer_rows(table, f"tables/{file}.csv"))
        shown[key] = fewer if key in TABLES else fewer[0] if fewer else shown[key]
    charts = shown["charts"]
    for file, chart in zip(_files(chart.title for chart in charts), charts, strict=True):
        _write_text(page.parent / "figures" / f"{file}.svg", chart.light)
        if not every:  # a served report is written again and again
            with atomic_write(page.parent / "figures" / f"{file}.png", sync=False) as image:
                image.write(chart.png())
    templates = _templates()
    write_run_pages(runs, page.parent / "runs", templates, name=name, colours=figures.COLOURS)
    data = payload(runs, round(now), every)
    shown |= {"left_out": [*shown["left_out"], *data["left_out"]], "has_studies": bool(data["studies"])}
    shown["best"] = [(runs[study["best"]], study["title"]) for study in data["studies"][: limits.MOST_STUDIES]]
    _write_text(page, _render(templates, shown, runs, name, now, as_script(data)))


def _listed(tables: Table | list[Table]) -> list[Table]:
    """The tables with rows, of one or several."""
    return [table for table in ([tables] if isinstance(tables, Table) else tables) if table.rows]


def _write_text(path: Path, text: str) -> None:
    """Write a file that can be written again at any time: it need not survive a power cut."""
    with atomic_write(path, sync=False) as file:
        file.write(text.encode("utf-8", "replace"))


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn an error of writing into one message.

    Raises:
        ConfigError: if the folder is not writable; a full disk keeps its own message.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(
            f"The report cannot be written to {folder}: {error.strerror}.\n"
            "It must be a folder that you may write to; output_dir=<folder> names another one with a folder runs/."
        ) from error


def require_no_link(folder: Path) -> None:
    """See that a folder that is written to is no link: one in copied results may lead to any folder of the user.

    Raises:
        ConfigError: if it is one.
    """
    if folder.is_symlink():
        raise ConfigError(
            f"{folder} is a link to {printable(str(folder.readlink()))}, and what is there would be written over.\n"
            f"It must be a folder, or absent; remove the link."
        )


def require_runs(runs: list[RecordedRun], output_dir: Path) -> None:
    """Require at least one run.

    Raises:
        DataError: if there is none.
    """
    if not runs:
        raise DataError(
            f"No runs to report: expected folders <stage>-<id> in {output_dir / 'runs'}, found none. "
            "Make some with 'python train.py experiment=mtl_lapa_1pct', or set output_dir to their folder."
        )


def _files(titles: Iterable[str]) -> Iterator[str]:
    """Titles as file names; equal ones are numbered from the second on."""
    seen: Counter[str] = Counter()
    for title in titles:
        name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:LONGEST_NAME] or "untitled"
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}_{seen[name]}"


def _shown(runs: list[RecordedRun], now: float) -> dict[str, Any]:
    """All tables, figures and lists of the page, by their names in it."""
    findings = comparisons.findings(runs)
    stopped = sorted((run for run in runs if run.state in STOPPED), key=lambda run: -run.changed)
    return {
        "findings": findings[: limits.MOST_FINDINGS],
        "running": [_running(run, now) for run in runs if run.state == "running"],
        "failed": [(run, status.described(run)) for run in stopped],
        "listed": limits.newest(runs, limits.MOST_ROWS, lambda run: run.changed),
        "results": tables.results(runs),
        "across": tables.across(runs),
        "occlusion": tables.occlusion(runs),
        "grid_searches": [*tables.grid_searches(runs), *folds.cross_validations(runs)],
        "papers": papers.paper_tables(runs),
        "charts": figures.charts(runs, limits.illustrated(runs)),
        "class_ious": tables.class_ious(runs),
        "left_out": limits.left_out(runs, max(0, len(findings) - limits.MOST_FINDINGS)),
    }


STOPPED = ("failed", "interrupted", "unreadable")


def _running(run: RecordedRun, now: float) -> tuple[RecordedRun, str, dict[str, float | None], str, str]:
    """A running run, its description, progress, best score, and the time when it ends."""
    progress = status.progress(run, now)
    left = progress["left"]
    return run, status.described(run), progress, status.best(run), "" if left is None else _time(now + left)[:16]


def _time(seconds: float) -> str:
    """A time of this machine's clock, as 2026-11-30 21:05:00."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "svg": _svg,
        "folder": _folder,
        "page_of": _page_of,
        "anchor": key_of,
        "quantity": _quantity,
        "signed": comparisons.signed,
        "percent": tables.percent,
        "clock": status.clock,
    }
    return templates


def _render(
    templates: Environment, shown: dict[str, Any], runs: list[RecordedRun], name: str, now: float, data: str
) -> str:
    return templates.get_template("page.html").render(
        name=name,
        runs=runs,
        states=Counter(run.state for run in runs),
        origins={run.origin for run in runs} - {""},
        colours=figures.COLOURS,
        written=_time(now),
        data=data,
        libraries=libraries(),
        **shown,
    )


def _svg(image: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(image.encode('utf-8', 'replace')).decode()}"


def _folder(run: RecordedRun) -> str:
    """The run's folder name, quoted for links."""
    return quote(os.fsencode(run.path.name))


def _page_of(run: RecordedRun) -> str:
    """The file name of the run's page, quoted for links."""
    return quote(os.fsencode(page_name(run)))


def _quantity(value: float, digits: int = 0) -> str:
    return "—" if math.isnan(value) else f"{value:,.{digits}f}"
