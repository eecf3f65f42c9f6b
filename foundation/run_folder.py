"""The run folder of one stage with one identity: its paths, state and lock."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from foundation.errors import DataError
from foundation.files import to_json, write_text_atomically
from foundation.reading import MissingFileError, UnreadableError, read_json

EVALUATE = "evaluate"
"""The stage that only scores."""
RENAMED = {"machine": "kernel", "classify.machine": "classify.kernel"}
"""Earlier keys of statuses and settings -> current ones."""


def with_current_keys(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A status, or the settings of a run, with the keys of :data:`RENAMED` replaced."""
    return {RENAMED.get(key, key): value for key, value in recorded.items()}


def read_status(folder: Path) -> dict[str, Any]:
    """The content of a run folder's ``status.json``.

    Raises:
        MissingFileError: if there is none.
        UnreadableError: if it cannot be read.
    """
    status = read_json(folder, "status.json")
    if not isinstance(status, dict):
        raise UnreadableError("it holds no JSON object")
    return with_current_keys(status)


class RunFolder:
    """``<output_dir>/runs/<stage>-<id>/``.

    Args:
        output_dir: contains ``runs/``.
        stage: the stage's name.
        run_id: digest of the stage's identity.
    """

    def __init__(self, output_dir: Path, stage: str, run_id: str) -> None:
        self.output_dir = output_dir
        self.stage = stage
        self.id = run_id
        self.name = f"{stage}-{run_id}"
        self.path = output_dir / "runs" / self.name
        self.config = self.path / "config.yaml"
        self.curves = self.path / "metrics.csv"
        self.confusion = self.path / "confusion.csv"
        self.panels = self.path / "panels"
        self.best = self.path / "checkpoints" / "best.ckpt"
        self.last = self.path / "checkpoints" / "last.ckpt"

    @classmethod
    def at(cls, path: Path) -> RunFolder | None:
        """The run folder at a path, which need not exist; None if the path is not that of a run folder."""
        stage, dash, run_id = path.name.rpartition("-")
        return cls(path.parent.parent, stage, run_id) if dash and stage and path.parent.name == "runs" else None

    def lock(self) -> FileLock:
        """The lock that one process holds while it trains this run; the system frees it when the process ends."""
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._lock_file)

    @property
    def _lock_file(self) -> Path:
        return self.output_dir / "locks" / f"{self.name}.lock"

    @property
    def status(self) -> dict[str, Any]:
        """The content of ``status.json``; {} if there is none.

        Raises:
            DataError: if it cannot be read, so that a result of unknown state is not overwritten.
        """
        try:
            return read_status(self.path)
        except MissingFileError:
            return {}
        except UnreadableError as error:
            raise DataError(
                f"{self.path / 'status.json'} cannot be read: {error}.\n"
                f"Restore the file, or move the folder {self.path} away."
            ) from error

    def write_status(self, **changes: Any) -> None:
        """Update keys of ``status.json``, atomically."""
        write_text_atomically(self.path / "status.json", to_json(self.status | changes))

    @property
    def state(self) -> str:
        """new, running, done, failed or interrupted. A run recorded as running whose lock is free is interrupted."""
        state = self.status.get("state", "new")
        return self.running_state() if state == "running" else state

    def running_state(self) -> str:
        """running or interrupted: the state of a run recorded as running, by its lock. Nothing is written for this."""
        try:
            if not self._lock_file.exists():
                return "interrupted"
            with self.lock().acquire(timeout=0):
                return "interrupted"
        except (Timeout, OSError):  # held; or not ours to take, as in another user's folder
            return "running"

    @property
    def done(self) -> bool:
        """Whether the stage is finished and its result exists."""
        if self.status.get("state") != "done":
            return False
        if self.stage == EVALUATE:  # without pixel ground truth there is no confusion matrix
            return self.confusion.is_file() or bool(self.status.get("metrics"))
        return self.best.is_file()

    @property
    def attempts(self) -> int:
        """How often this run was started, including the starts that ``force=true`` moved to ``replaced/``."""
        attempts = [self.status.get("attempts", 0)]
        for aside in (self.output_dir / "replaced").glob(f"{self.name}-*"):
            with contextlib.suppress(UnreadableError):
                attempts.append(read_status(aside).get("attempts", 0))
        return max((number for number in attempts if type(number) is int), default=0)  # no bool

    def set_aside(self) -> None:
        """Move the run to ``replaced/`` (``force=true``), in any state; nothing is deleted."""
        if not self.path.exists():
            return
        number = 1
        while (aside := self.output_dir / "replaced" / f"{self.name}-{number}").exists():
            number += 1
        aside.parent.mkdir(parents=True, exist_ok=True)
        self.path.rename(aside)


def git_state() -> str | None:
    """Commit of the code, with ``+changes`` if files differ from it; None outside a repository."""
    root = Path(__file__).parent.parent

    def git(*words: str) -> str:
        finished = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=20)
        return finished.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
