"""The jobs of a sweep: the outcome of each, for any launcher, and the table at the end.

Each job leaves ``<output_dir>/sweeps/<time>/<number>/job.json``; the process that the user started collects them.
"""

from __future__ import annotations

import time
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
from engine.sweep_progress import line, share_terminal, write_plan
from foundation.errors import explained
from foundation.files import to_json, write_text_atomically
from foundation.reading import UnreadableError, read_json
from foundation.shown_text import printable

JOB = "job.json"
_running: list[Path] = []
"""The folder of the sweep of this process."""


class SweepJobs(Callback):
    """Hydra callback at the start of a sweep and the end of each job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _running[:] = [Path(config.hydra.sweep.dir).absolute()]
        prepare_jobs(config)
        write_plan(config)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        self._started = time.time()
        if _is_job_of_sweep(config):
            share_terminal(config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if not _is_job_of_sweep(config):
            return
        error = job_return._return_value if job_return.status == JobStatus.FAILED else None
        outcome: dict[str, Any] = {"state": "done", "runs": job_return._return_value or []}
        if isinstance(error, BaseException):
            reason = explained(error)
            outcome = {"state": "failed", "runs": [], "error": f"{type(reason).__name__}: {reason}"}
        about = {"number": config.hydra.job.num, "overrides": list(config.hydra.overrides.task)}
        outcome = about | outcome | {"seconds": time.time() - self._started}
        own = Path(config.hydra.runtime.output_dir)
        write_text_atomically(own / JOB, to_json(outcome))
        if outcome["runs"] or outcome["state"] == "failed":  # not a dry run
            ended = [seconds_of(file.parent) for file in own.parent.glob(f"*/{JOB}")]
            print(line(config, outcome, ended), flush=True)


def _is_job_of_sweep(config: DictConfig) -> bool:
    return config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN"


def seconds_of(folder: Path) -> float:
    """Time that a job took; 0 if its file does not give it."""
    try:
        return float(read_json(folder, JOB)["seconds"])
    except (UnreadableError, KeyError, TypeError, ValueError):
        return 0.0


def end_of_sweep(console: Console | None = None) -> bool:
    """Print the outcome of the jobs if this was a sweep; returns whether some failed and others did not."""
    if not _running:
        return False
    folder = _running.pop()
    jobs = sorted((_outcome(file.parent) for file in folder.glob(f"*/{JOB}")), key=lambda job: job["number"])
    if len(jobs) > 1 and any(job["runs"] or job["state"] == "failed" for job in jobs):  # not a dry run
        (console or Console(highlight=False)).print(jobs_table(jobs, folder))
    states = {job["state"] for job in jobs}
    return states == {"done", "failed"}


def _outcome(folder: Path) -> dict[str, Any]:
    """The outcome of one job; a file that is not as jobs write it is a failed one, with the reason."""
    number = int(folder.name) if folder.name.isdecimal() else -1
    broken = {"number": number, "overrides": [], "state": "failed", "runs": []}
    try:
        job = read_json(folder, JOB)
    except UnreadableError as error:
        return broken | {"error": f"{JOB} cannot be read: {error}"}
    runs = job.get("runs") if isinstance(job, dict) else None
    complete = (
        isinstance(runs, list)
        and all(isinstance(run, dict) and isinstance(run.get("name"), str) and "ran" in run for run in runs)
        and isinstance(job.get("number"), int)
        and job.get("state") in ("done", "failed")
        and isinstance(job.get("overrides"), list)
        and all(isinstance(word, str) for word in job["overrides"])
        and isinstance(job.get("error", ""), str)
    )
    return job if complete else broken | {"error": f"{JOB} is incomplete"}


def jobs_table(jobs: Sequence[Mapping[str, Any]], folder: Path) -> Table:
    """One row per job: the overrides that differ, its state, and its runs or its error."""
    shared = set.intersection(*(set(job["overrides"]) for job in jobs))
    table = Table(box=SIMPLE, pad_edge=False, title="Jobs of the sweep", title_justify="left")
    for column in ("job", "overrides", "state", "runs or error"):
        table.add_column(column)
    counts: dict[str, int] = {}
    for job in jobs:
        state = job["state"]
        if state == "done" and not any(run["ran"] for run in job["runs"]):
            state = "skipped"  # every run was done already
        counts[state] = counts.get(state, 0) + 1
        runs = " ".join(run["name"] for run in job["runs"])
        own = " ".join(word for word in job["overrides"] if word not in shared)
        why = job["error"].strip().partition("\n")[0] if "error" in job else runs
        table.add_row(str(job["number"]), *(escape(printable(cell)) for cell in (own, state, why)))
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    hint = " The same command trains what is missing." if "failed" in counts else ""
    table.caption = f"{summary}.{hint} {escape(str(folder))}"
    table.caption_justify = "left"
    return table
