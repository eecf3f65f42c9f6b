"""What ``report.py`` does: the page and, on the screen, the results."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from engine.errors import ConfigError
from reports.page import require_runs, write_report
from reports.runs import read_runs
from reports.status import status_table
from reports.tables import print_results

VIEWS = ("page", "status")


def report(config: DictConfig) -> None:
    """Show what ``config.view`` names of ``config.output_dir``: the page and the results, or what is under way.

    Raises:
        ConfigError: for a view that does not exist.
        DataError: if there is no run folder.
    """
    output_dir = Path(config.output_dir)
    if config.view not in VIEWS:
        raise ConfigError(f"view={config.view} does not exist.\nExpected: {' or '.join(VIEWS)}.")
    if config.view == "status":
        runs = read_runs(output_dir)
        require_runs(runs, output_dir)
        Console(highlight=False).print(status_table(runs))
        return
    page = write_report(output_dir)
    print_results(read_runs(output_dir))
    print(f"Report: {page}")
