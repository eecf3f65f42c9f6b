"""A sweep's jobs: what became of each, whichever launcher ran it, and the table at the end.

Each job leaves ``<output_dir>/sweeps/<time>/<number>/job.json``; the process that was started collects them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.clusters import prepare_jobs
from foundation.errors import explained
from foundation.files import to_json, write_text_atomically

JOB = "job.json"
_running: list[Path] = []
"""The folder of the sweep that this process was started for."""


class SweepJobs(Callback):
    """Hydra's word on the beginning of a sweep and the end of each job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _running[:] = [Path(config.hydra.sweep.dir).absolute()]
        prepare_jobs(config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if config.hydra.mode is None or config.hydra.mode.name != "MULTIRUN":
            return
        error = job_return._return_value if job_return.status == JobStatus.FAILED else None
        outcome: dict[str, Any] = {"state": "done", "runs": job_return._return_value or []}
        if isinstance(error, BaseException):
            reason = explained(error)
            outcome = {"state": "failed", "runs": [], "error": f"{type(reason).__name__}: {reason}"}
        about = {"number": config.hydra.job.num, "overrides": list(config.hydra.overrides.task)}
        write_text_atomically(Path(config.hydra.runtime.output_dir) / JOB, to_json(about | outcome))


def end_of_sweep(console: Console | None = None) -> bool:
    """Show what became of the sweep's jobs, if there was a sweep; whether some failed while others did not."""
    if not _running:
        return False
    folder = _running.pop()
    jobs = sorted((json.loads(file.read_text()) for file in folder.glob(f"*/{JOB}")), key=lambda job: job["number"])
    if len(jobs) > 1 and any(job["runs"] or job["state"] == "failed" for job in jobs):  # else a dry run
        (console or Console(highlight=False)).print(jobs_table(jobs, folder))
    states = {job["state"] for job in jobs}
    return states == {"done", "failed"}


def jobs_table(jobs: Sequence[Mapping[str, Any]], folder: Path) -> Table:
    """A row a job: what is its own, what became of it, and its runs or why it failed."""
    shared = set.intersection(*(set(job["overrides"]) for job in jobs))
    table = Table(box=SIMPLE, pad_edge=False, title="Jobs of the sweep", title_justify="left")
    for column in ("job", "its own", "state", "runs, or why"):
        table.add_column(column)
    counts: dict[str, int] = {}
    for job in jobs:
        state = job["state"]
        if state == "done" and not any(run["ran"] for run in job["runs"]):
            state = "skipped"  # all of it was there
        counts[state] = counts.get(state, 0) + 1
        runs = " ".join(run["name"] for run in job["runs"])
        own = " ".join(word for word in job["overrides"] if word not in shared)
        why = job["error"].splitlines()[0] if "error" in job else runs
        table.add_row(str(job["number"]), escape(own), state, escape(why))
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    again = " The same command again trains what is missing." if "failed" in counts else ""
    table.caption = f"{summary}.{again} {escape(str(folder))}"
    table.caption_justify = "left"
    return table
