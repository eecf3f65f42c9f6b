"""One command, from its configuration to its results: skip what is done, resume what was interrupted, train the rest.

Nothing heavy is imported until something has to be trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from engine.processes import broadcast, broadcast_runs, is_leader, is_sweep
from engine.screen import plan_table, results_table
from engine.stage import Run
from foundation.errors import ConfigError
from foundation.run_folder import git_state

_forced: set[Path] = set()  # trained again by this sweep: its jobs that share a stage force it once

console = Console(highlight=False)


def execute(runs: list[Run], config: dict[str, Any], force: bool, dry_run: bool = False) -> list[dict[str, Any]]:
    """Run what is not finished, each run under its lock, and show the results.

    Args:
        runs: those of a command, in order.
        config: the composed configuration, kept with each run.
        force: run again what is finished; the earlier results are moved away, not deleted.
        dry_run: only show what would be done.

    Returns:
        ``name`` of each run, and whether it ``ran`` now or was there already, as plain data.
    """
    if dry_run:
        console.print(plan_table(_outlook(runs, force)))
        return []
    if not is_leader():
        _follow(runs, config)
        return []
    executed = _lead(runs, config, force)
    console.print(results_table(run.folder.path for run in runs))
    return [{"name": run.folder.name, "ran": run in executed} for run in runs]


def _lead(runs: list[Run], config: dict[str, Any], force: bool) -> list[Run]:
    """Train what is not done yet, each run under its lock; these runs."""
    pending: list[tuple[Run, FileLock]] = []
    try:
        for run in reversed(runs):
            if _is_needed(run, runs, [after for after, _ in pending]) and (lock := _claim(run, force)) is not None:
                pending.insert(0, (run, lock))
        for run, _ in pending:
            if _is_forced(run, force):
                _forced.add(run.folder.path)
                run.folder.set_aside()
        broadcast([run.folder.name for run, _ in pending])
        for run in runs:
            if run.folder.done:
                _say_done(run)
        for run, lock in pending:
            _train(run, config)
            lock.release(force=True)  # others may wait for this stage alone
        return [run for run, _ in pending]
    finally:
        for _, lock in pending:
            lock.release(force=True)


def _is_needed(run: Run, runs: Iterable[Run], pending: Iterable[Run]) -> bool:
    """Whether a run is a result of its command, or another one that has to be trained starts from it."""
    return all(run.folder not in other.upstreams for other in runs) or any(
        run.folder in other.upstreams for other in pending
    )


def _train(run: Run, config: dict[str, Any]) -> None:
    resumed = run.folder.last.is_file()
    console.print(f"{'Resuming' if resumed else run.stage.verb} [bold]{run.folder.name}[/]{run.stage.subject(run)}")
    if resumed:
        _say_other_code(run)
    from engine.fitting import fit  # torch and Lightning, seconds

    fit(run, config)


def _follow(runs: Iterable[Run], config: dict[str, Any]) -> None:
    """Train along with the process that leads.

    Raises:
        ConfigError: if this process would train something else.
    """
    own = {run.folder.name: run for run in runs}
    names = broadcast_runs()
    if unknown := [name for name in names if name not in own]:
        raise ConfigError(
            f"The first process trains {unknown[0]}, this one would train {', '.join(own)}.\n"
            f"Expected: the same settings, data and code for all processes of a run."
        )
    from engine.fitting import fit

    for name in names:
        fit(own[name], config)


def _claim(run: Run, force: bool) -> FileLock | None:
    """The lock of a run that this process has to train, held; None if the run is done, by whichever process."""
    if run.folder.done and not _is_forced(run, force):
        return None
    lock = run.folder.lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"Waiting for the process that runs [bold]{run.folder.name}[/]")
        lock.acquire()
        if run.folder.done:  # by that process, just now: force asks for no more
            lock.release()
            return None
    if run.folder.done and not _is_forced(run, force):
        lock.release()
        return None
    return lock


def _is_forced(run: Run, force: bool) -> bool:
    return force and not (is_sweep() and run.folder.path in _forced)


def _say_done(run: Run) -> None:
    console.print(f"Done already: [bold]{run.folder.name}[/] (force=true runs it again)")
    _say_other_code(run)
    run.folder.last.unlink(missing_ok=True)  # left by a process that was killed as it ended


def _say_other_code(run: Run) -> None:
    then, now = run.folder.status.get("git_sha"), git_state()
    if then != now:
        console.print(f"[dim]  trained by the code at {_short(then)}, which is now at {_short(now)}[/]")


def _short(commit: str | None) -> str:
    return "an unknown state" if commit is None else commit[:10] + ("+changes" if commit.endswith("+changes") else "")


WOULD = {"new": "train", "running": "wait"}


def _outlook(runs: list[Run], force: bool) -> list[tuple[str, str, str]]:
    """What a command would do: folder, state and deed, a row a stage."""
    rows: list[tuple[str, str, str]] = []
    pending: list[Run] = []
    for run in reversed(runs):
        state = run.folder.state
        if state == "done" and not run.folder.done:
            state = "best.ckpt is gone"
        would = WOULD.get(state) or ("resume" if run.folder.last.is_file() else "train")
        if force:
            would = "train again" if state != "new" else "train"
        elif state == "done":
            would = "skip"
        elif not _is_needed(run, runs, pending):
            would = "not needed"
        if would not in ("skip", "not needed"):
            pending.append(run)
        rows.insert(0, (str(run.folder.path), state, would))
    return rows
