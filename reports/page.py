"""The report: one self-contained HTML page, and one for each run."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from foundation.errors import DataError
from foundation.files import write_text_atomically
from foundation.recorded_runs import RecordedRun, read_runs
from reports import comparisons, figures, panels, papers, tables
from reports.run_pages import write_run_pages


def write_report(output_dir: Path) -> Path:
    """Write ``<output_dir>/report/index.html`` from the runs of an output folder, its tables and figures next to it.

    The page is self-contained; ``tables/*.csv`` and ``figures/*.svg`` are for use elsewhere. It links to the pages of
    single runs, ``runs/*.html``, which link to the run folders. The same run folders give the same bytes, and pages are
    replaced atomically.

    Args:
        output_dir: the folder that holds ``runs/``.

    Returns:
        The page.

    Raises:
        DataError: if there is no run folder.
    """
    runs = read_runs(output_dir)
    require_runs(runs, output_dir)
    page = output_dir / "report" / "index.html"
    shown = _shown(runs)
    listed = [shown["results"], shown["across"], shown["occlusion"]]
    listed += [*shown["grid_searches"], *shown["papers"], *shown["class_ious"]]
    tables, charts = [table for table in listed if table.rows], shown["charts"]
    for name, table in zip(_files(table.title for table in tables), tables, strict=True):
        write_text_atomically(page.parent / "tables" / f"{name}.csv", table.csv(), "replace")
    for name, chart in zip(_files(chart.title for chart in charts), charts, strict=True):
        write_text_atomically(page.parent / "figures" / f"{name}.svg", chart.light, "replace")
    name = output_dir.resolve().name
    templates = _templates()
    write_run_pages(runs, page.parent / "runs", templates, name=name, colours=figures.COLOURS)
    write_text_atomically(page, _render(templates, shown, runs, name), "replace")
    return page


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
        name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}_{seen[name]}"


def _shown(runs: list[RecordedRun]) -> dict[str, Any]:
    """All tables, figures and panels of the page, by their names in it."""
    return {
        "findings": comparisons.findings(runs),
        "results": tables.results(runs),
        "across": tables.across(runs),
        "occlusion": tables.occlusion(runs),
        "grid_searches": tables.grid_searches(runs),
        "papers": papers.paper_tables(runs),
        "predictions": panels.predictions(runs),
        "masks": panels.masks(runs),
        "masks_by_group": panels.masks_by_group(runs),
        "reconstructions": panels.reconstructions(runs),
        "charts": figures.charts(runs),
        "class_ious": tables.class_ious(runs),
    }


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"svg": _svg, "folder": _folder, "quantity": _quantity, "signed": comparisons.signed}
    return templates


def _render(templates: Environment, shown: dict[str, Any], runs: list[RecordedRun], name: str) -> str:
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    return templates.get_template("page.html").render(
        name=name,
        runs=runs,
        states=Counter(run.state for run in runs),
        origins={run.origin for run in runs} - {""},
        colours=figures.COLOURS,
        script=script,
        script_digest=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        **shown,
    )


def _svg(image: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(image.encode('utf-8', 'replace')).decode()}"


def _folder(run: RecordedRun) -> str:
    """The run's folder name, quoted for links."""
    return quote(os.fsencode(run.path.name))


def _quantity(value: float, digits: int = 0) -> str:
    return "—" if math.isnan(value) else f"{value:,.{digits}f}"
