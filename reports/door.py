"""What ``report.py`` does: the page and, on the screen, the results."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from reports.page import write_report
from reports.runs import read_runs
from reports.tables import print_results


def report(config: DictConfig) -> None:
    """Write the page of ``config.output_dir`` and print the results.

    Raises:
        DataError: if there is no run folder.
    """
    output_dir = Path(config.output_dir)
    page = write_report(output_dir)
    print_results(read_runs(output_dir))
    print(f"Report: {page}")
