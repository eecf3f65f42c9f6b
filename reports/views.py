"""The views of ``report.py``: page and results, status, dashboard, W&B."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from foundation.errors import ConfigError
from foundation.recorded_runs import read_runs
from foundation.shown_text import printable
from reports.dashboard import Dashboard, allowed_host
from reports.folds import cross_validations
from reports.page import require_runs, write_report
from reports.status import status_table
from reports.tables import print_results

VIEWS = ("page", "status", "dashboard", "wandb_sync", "wandb_workspace")


def report(config: DictConfig) -> None:
    """Show the view ``config.view`` of ``config.output_dir``.

    Raises:
        ConfigError: for a view that does not exist.
        DataError: if there is no run folder.
    """
    output_dir = Path(str(config.output_dir))
    if config.view not in VIEWS:
        raise ConfigError(f"view={config.view} does not exist.\nExpected: one of {', '.join(VIEWS)}.")
    if config.view == "status":
        runs = read_runs(output_dir)
        require_runs(runs, output_dir)
        Console(highlight=False).print(status_table(runs))
        return
    if config.view == "wandb_sync":
        from reports.wandb_sync import write_wandb_runs  # late: importing W&B takes a second

        console = Console(highlight=False, soft_wrap=True, markup=False)
        folders = write_wandb_runs(read_runs(output_dir), output_dir, console)
        console.print(f"{len(folders)} complete runs, offline. To upload them, once logged in (wandb login):")
        console.print(f"  wandb sync {printable(str(output_dir / 'wandb'))}/*/wandb/offline-run-*")
        return
    if config.view == "wandb_workspace":
        from reports.wandb_workspace import save_workspace

        print(f"Workspace: {save_workspace(read_runs(output_dir), config.entity, config.project)}")
        return
    if config.view == "dashboard":
        if isinstance(config.port, bool) or not (isinstance(config.port, int) and 0 <= config.port < 2**16):
            raise ConfigError(f"port={config.port} is invalid.\nIt must be an integer from 0 to 65535.")
        if isinstance(config.every, bool) or not (isinstance(config.every, int | float) and config.every >= 1):
            raise ConfigError(f"every={config.every} is invalid.\nIt must be a number of seconds, at least 1.")
        dashboard = Dashboard(output_dir, config.port, config.every, allowed_host(config.allowed_host))
        print(f"Report, updated every {config.every} s: {dashboard.address}  (Ctrl-C stops it)", flush=True)
        dashboard.serve()
        return
    page = write_report(output_dir)
    runs = read_runs(output_dir)
    print_results(runs)
    for table in cross_validations(runs):
        Console().print(table.rich())
    print(f"Report: {printable(str(page))}")
