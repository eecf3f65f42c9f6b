"""Execute the runs of one command: skip finished runs, resume interrupted ones, train the rest.

Torch and Lightning are imported only if something has to be trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from engine.processes import broadcast, broadcast_runs, is_leader, is_sweep
from engine.screen import plan_table, results_table
from engine.stage import Run
from foundation.errors import ConfigError
from foundation.interruption import check, checked
from foundation.run_folder import git_state

_forced: set[Path] = set()  # retrained by this sweep: jobs that share a stage force it once

console = Console(highlight=False)


def execute(
    runs: list[Run],
    config: dict[str, Any],
    force: bool,
    dry_run: bool = False,
    then: Callable[[Run], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Execute the runs that are not finished, each under its lock, and print the results.

    Args:
        runs: the runs of a command, in order.
        config: the composed configuration, saved with each run.
        force: execute finished runs again; the earlier results are moved to ``replaced/``.
        dry_run: only print what would be done.
        then: called with each run once it is done, before the next one starts.

    Returns:
        ``name`` of each run and whether it ``ran`` now or was finished before, as plain data.
    """
    if dry_run:
        console.print(plan_table(_planned_actions(runs, force)))
        return []
    if not is_leader():
        _follow(runs, config)
        return []
    executed = _lead(runs, config, force, then)
    if not is_sweep():  # a sweep prints a line for each job
        console.print(results_table(run.folder.path for run in runs))
    return [{"name": run.folder.name, "ran": run in executed} for run in runs]


def _lead(runs: list[Run], config: dict[str, Any], force: bool, then: Callable[[Run], None]) -> list[Run]:
    """As the leader, train the runs that are not done, each under its lock; returns these runs."""
    pending: list[tuple[Run, FileLock]] = []
    try:
        for run in reversed(runs):
            if _is_needed(run, runs, [after for after, _ in pending]) and (lock := _claim(run, force)) is not None:
                pending.insert(0, (run, lock))
        for run, _ in pending:
            run.stage.require_network(run)
        for run, _ in pending:
            if _is_forced(run, force):
                _forced.add(run.folder.path)
                run.folder.set_aside()
        broadcast([run.folder.name for run, _ in pending])
        for run in runs:
            if run.folder.done:
                _log_done(run)
                then(run)
        for run, lock in pending:
            check()
            _train(run, config, last=run is runs[-1])
            lock.release(force=True)  # other commands may wait for this stage only
            then(run)
        return [run for run, _ in pending]
    finally:
        for _, lock in pending:
            lock.release(force=True)


def _is_needed(run: Run, runs: Iterable[Run], pending: Iterable[Run]) -> bool:
    """Whether a run is a final run of its command, or a pending run starts from it."""
    return all(run.folder not in other.upstreams for other in runs) or any(
        run.folder in other.upstreams for other in pending
    )


def _train(run: Run, config: dict[str, Any], last: bool) -> None:
    resumed = run.folder.last.is_file()
    console.print(f"{'Resuming' if resumed else run.stage.verb} [bold]{run.folder.name}[/]{run.stage.subject(run)}")
    if resumed:
        _log_other_code(run)
    from engine.fitting import fit  # torch and Lightning, seconds

    fit(run, config, last)


def _follow(runs: Iterable[Run], config: dict[str, Any]) -> None:
    """As a follower, train the runs that the leader broadcasts.

    Raises:
        ConfigError: if they are not runs of this process.
    """
    own = {run.folder.name: run for run in runs}
    names = broadcast_runs()
    if unknown := [name for name in names if name not in own]:
        raise ConfigError(
            f"The leader trains {unknown[0]}, this process would train {', '.join(own)}.\n"
            f"All processes of a run must have the same settings, data and code."
        )
    from engine.fitting import fit

    for name in checked(names):
        fit(own[name], config)


def _claim(run: Run, force: bool) -> FileLock | None:
    """Acquire the lock of a run; None if the run is done, by this process or another.

    Raises:
        ConfigError: if the output folder is not writable.
    """
    if run.folder.done and not _is_forced(run, force):
        return None
    try:
        lock = run.folder.lock()
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"Waiting for the process that runs [bold]{run.folder.name}[/]")
        lock.acquire()
        force = False  # what is done just now, by that process, satisfies it
    except OSError as error:
        raise ConfigError(
            f"output_dir={run.folder.output_dir} cannot be written: {error.strerror}.\n"
            f"It must be a folder in which you may make files."
        ) from error
    if run.folder.done and not _is_forced(run, force):
        lock.release()
        return None
    return lock


def _is_forced(run: Run, force: bool) -> bool:
    return force and not (is_sweep() and run.folder.path in _forced)


def _log_done(run: Run) -> None:
    console.print(f"Done already: [bold]{run.folder.name}[/] (force=true runs it again)")
    _log_other_code(run)
    with contextlib.suppress(OSError):  # finished results may be on a read-only disk
        run.folder.last.unlink(missing_ok=True)  # left by a process that was killed at its end


def _log_other_code(run: Run) -> None:
    then, now = run.folder.status.get("git_sha"), git_state()
    if then != now:
        console.print(f"[dim]  trained with the code at {_short(then)}; the code is now at {_short(now)}[/]")


def _short(commit: str | None) -> str:
    return "an unknown state" if commit is None else commit[:10] + ("+changes" if commit.endswith("+changes") else "")


def _planned_actions(runs: list[Run], force: bool) -> list[tuple[str, str, str]]:
    """One row per run: folder, state, and what the command would do."""
    rows: list[tuple[str, str, str]] = []
    pending: list[Run] = []
    for run in reversed(runs):
        state = run.folder.state
        if state == "done" and not run.folder.done:
            state = "best.ckpt is missing"
        resumed = "resume" if run.folder.last.is_file() else "train"
        action = {"new": "train", "running": "wait"}.get(state, resumed)
        if force:
            action = "train again" if state != "new" else "train"
        elif state == "done":
            action = "skip"
        elif not _is_needed(run, runs, pending):
            action = "not needed"
        if action not in ("skip", "not needed"):
            pending.append(run)
        rows.insert(0, (str(run.folder.path), state, action))
    return rows
