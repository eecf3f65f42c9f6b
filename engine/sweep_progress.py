"""Progress of a sweep: one line for each job that ends, with the time left for all of them.

The process that the user started writes ``jobs.json`` into the folder of the sweep. Each job, in whatever process,
reads it and counts the jobs that have ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from foundation.files import to_json, write_text_atomically
from foundation.reading import UnreadableError, read_json
from foundation.recorded_runs import read_run
from foundation.shown_text import PARALLEL_JOBS, printable

PLAN = "jobs.json"


def write_plan(config: DictConfig) -> None:
    """Write how many jobs a sweep has, how many of them run at a time, and the keys in which they differ."""
    words = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    try:
        overrides = OverridesParser.create().parse_overrides([*words, *config.hydra.overrides.task])
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
    except HydraException:  # values that another sweeper chooses, or glob(...), which needs Hydra's own loader
        return
    keys = [word.partition("=")[0] for word in jobs[0]]
    columns = zip(*jobs, strict=True)
    differing = [key for key, column in zip(keys, columns, strict=True) if len({*column}) > 1]
    plan = {"jobs": len(jobs), "parallel": _parallel(config), "keys": differing}
    with contextlib.suppress(OSError):  # a folder that cannot be written is the jobs' error
        write_text_atomically(Path(config.hydra.sweep.dir) / PLAN, to_json(plan))


def _parallel(config: DictConfig) -> int:
    """How many jobs run at a time on this machine; 0 if a cluster decides."""
    target = config.hydra.launcher.get("_target_", "")
    if "submitit" in target:
        return 0
    jobs = int(config.hydra.launcher.get("n_jobs", 1))
    return jobs if jobs > 0 else os.cpu_count() or 1


def share_terminal(config: DictConfig) -> None:
    """In the process of a job that runs next to others: no progress bars, which would overwrite one another."""
    if _parallel(config) > 1:
        os.environ[PARALLEL_JOBS] = "1"


def line(config: DictConfig, outcome: Mapping[str, Any], ended: Sequence[float]) -> str:
    """One line about a job that has ended.

    Args:
        config: its configuration.
        outcome: its content of ``job.json``.
        ended: seconds of each job of the sweep that has ended, this one among them.
    """
    try:
        plan = read_json(Path(config.hydra.sweep.dir), PLAN)
        total, parallel, keys = int(plan["jobs"]), int(plan["parallel"]), {str(key) for key in plan["keys"]}
    except (UnreadableError, KeyError, TypeError, ValueError):  # a sweep of another sweeper has none
        total, parallel, keys = 0, 0, set()
    own = " ".join(word for word in outcome["overrides"] if word.lstrip("+").partition("=")[0] in keys) or "job"
    shown = f"[{len(ended)}/{total or '?'}] {own}: {_result(config, outcome)}, {clock(outcome['seconds'])}"
    left = total - len(ended)
    if left > 0 and 0 < parallel <= len(ended):
        begun = (min(parallel, left + 1) - 1) / 2  # the others that run now are half done, on average
        shown += f"; about {clock(sum(ended) / len(ended) * max(left - begun, 0.5) / parallel)} left"
    return printable(shown)


def _result(config: DictConfig, outcome: Mapping[str, Any]) -> str:
    if outcome["state"] == "failed":
        return f"failed ({outcome['error'].strip().partition(chr(10))[0]})"
    last = outcome["runs"][-1]
    miou = read_run(Path(config.output_dir) / "runs" / last["name"]).metric("test/miou")
    score = f"mIoU {100 * miou:.1f} %" if miou == miou else "done"
    return score if any(run["ran"] for run in outcome["runs"]) else f"{score} (there already)"


def clock(seconds: float) -> str:
    """Minutes and seconds, as 3:05."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"
