"""The report: one HTML page that holds everything it shows."""

from __future__ import annotations

import base64
import math
import os
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.errors import DataError
from reports import comparisons, figures, panels, tables
from reports.runs import Run, read_runs


def write_report(output_dir: Path) -> Path:
    """Write ``<output_dir>/report/index.html`` from the runs of an output folder.

    The page needs no other file to be read; its links lead to the run folders beside it. The same run folders give
    the same bytes, and a page that exists is replaced at once or not at all.

    Args:
        output_dir: the folder that holds ``runs/``.

    Returns:
        The page.

    Raises:
        DataError: if there is no run folder.
    """
    runs = read_runs(output_dir)
    if not runs:
        raise DataError(
            f"No runs to report: expected folders <stage>-<id> in {output_dir / 'runs'}, found none. "
            "Make some with 'python train.py experiment=mtl_lapa_1pct', or point output_dir to where they are."
        )
    page = output_dir / "report" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    part = page.with_name(f".index-{os.getpid()}.html")
    part.write_bytes(_render(runs, output_dir.resolve().name).encode("utf-8", "replace"))
    part.replace(page)
    return page


def _render(runs: list[Run], name: str) -> str:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"svg": _svg, "folder": _folder, "quantity": _quantity, "signed": comparisons.signed}
    return templates.get_template("page.html").render(
        name=name,
        runs=runs,
        states=Counter(run.state for run in runs),
        origins={run.text("origin") for run in runs} - {""},
        findings=comparisons.findings(runs),
        results=tables.results(runs),
        across=tables.across(runs),
        hidden_faces=tables.hidden_faces(runs),
        grid_searches=tables.grid_searches(runs),
        predictions=panels.predictions(runs),
        masks=panels.masks(runs),
        masks_by_group=panels.masks_by_group(runs),
        reconstructions=panels.reconstructions(runs),
        charts=figures.charts(runs),
        class_ious=tables.class_ious(runs),
        colours=figures.COLOURS,
    )


def _svg(picture: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.encode('utf-8', 'replace')).decode()}"


def _folder(run: Run) -> str:
    """The run's folder name as it may stand in a link."""
    return quote(os.fsencode(run.path.name))


def _quantity(value: float, digits: int = 0) -> str:
    return "—" if math.isnan(value) else f"{value:,.{digits}f}"
