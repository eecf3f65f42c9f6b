"""The project's commands as tests run them: within the test process, forked, or as a process of their own.

Most of a process's time is spent importing torch, Lightning and the rest. A *forked* command comes from a server that
has imported these libraries (none of the project's code), which makes it ten times faster to start; it has its own
environment, folder, signals, exit code and output, as a user's process has. A *real* process is kept for a test or two
of each entry point, and where the cost of the imports is what is tested.
"""

from __future__ import annotations

import atexit
import io
import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import SimpleNamespace
from typing import Literal
from unittest import mock

from hydra.core.hydra_config import HydraConfig

from engine import door

ROOT = Path(__file__).parent.parent
LIBRARIES = (
    *("torch", "torchvision", "pytorch_lightning", "torchmetrics", "segmentation_models_pytorch", "albumentations"),
    *("cv2", "wandb", "hydra", "omegaconf", "sklearn.svm", "skimage.measure", "matplotlib.figure", "rich.progress"),
)
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(LIBRARIES))


@dataclass(frozen=True)
class Answer:
    """What a finished command left."""

    returncode: int
    stdout: str
    stderr: str


def within(script: str, *words: str, cwd: Path) -> Answer:
    """Run an entry point in this process, with its own arguments, folder and standard streams."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    loggers = logging.getLogger().handlers[:]
    here = Path.cwd()
    os.chdir(cwd)
    try:
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(door, "_failures", []),
            mock.patch.object(HydraConfig.instance(), "cfg", None),
            mock.patch.object(sys, "argv", [str(ROOT / script), *words]),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    finally:
        os.chdir(here)
        logging.getLogger().handlers[:] = loggers  # Hydra's writes to the stream of this command
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Answer(code, stdout.getvalue(), stderr.getvalue())


def process(script: str, *words: str, cwd: Path, environment: Mapping[str, str] | None = None) -> Answer:
    """Run an entry point as a user does: a new interpreter that imports everything itself."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / script), *words],
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Answer(ended.returncode, ended.stdout, ended.stderr)


class Forked:
    """An entry point in a forked process, under way; the interface is that of :class:`subprocess.Popen`.

    Args:
        script: file name of the entry point, as ``train.py``.
        words: its arguments.
        cwd: its folder; this process's own by default.
        environment: variables beyond those of this process.
        followers: whether processes that Lightning starts by script come from the server too, or are real ones.
        output: file descriptor that it writes to; by default a pipe that :meth:`communicate` reads.
    """

    def __init__(
        self,
        script: str,
        *words: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        followers: Literal["forked", "real"] = "forked",
        output: int | None = None,
    ) -> None:
        self._read, write = os.pipe() if output is None else (-1, os.dup(output))
        variables = dict(os.environ | (environment or {}))
        arguments = (script, words, str(cwd or Path.cwd()), variables, followers)
        self._process = _server.Process(target=_run, args=(*arguments, _Passed(write)))
        self._process.start()
        os.close(write)
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended the process; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float = 120) -> tuple[str, None]:
        """Everything it and its children wrote, standard errors included, once the last of them has ended.

        Raises:
            TimeoutError: with what it had written; it is killed then.
        """
        end, written = time.monotonic() + timeout, bytearray()
        os.set_blocking(self._read, False)
        while wait([self._read], max(0, end - time.monotonic())):
            if not (part := os.read(self._read, 2**16)):
                os.close(self._read)
                self._process.join(timeout=max(1, end - time.monotonic()))
                return written.decode(errors="replace"), None
            written += part
        self.kill()
        raise TimeoutError(f"still running after {timeout} s:\n{written.decode(errors='replace')}")


class _Passed:
    """A file descriptor that goes along to a forked process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __getstate__(self) -> object:
        return DupFd(self._descriptor)

    def __setstate__(self, state: object) -> None:
        self._descriptor = state.detach()  # type: ignore[attr-defined]

    def detach(self) -> int:
        return self._descriptor


def _start_follower(command: Sequence[str], env: Mapping[str, str], cwd: str | None = None) -> Forked:
    _, script, *words = command
    return Forked(script, *words, cwd=Path(cwd) if cwd else None, environment=env, output=1)


def _run(
    script: str, words: Sequence[str], cwd: str, environment: Mapping[str, str], followers: str, output: _Passed
) -> None:
    """The forked process: all of it is as if the interpreter had been started for this script."""
    descriptor = output.detach()
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if followers == "forked":
        from pytorch_lightning.strategies.launchers import subprocess_script

        subprocess_script.subprocess = SimpleNamespace(Popen=_start_follower)  # type: ignore[assignment]
        # The server that this process came from: a child would start another.
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    sys.argv = [str(ROOT / script), *words]
    sys.path[0] = str(ROOT)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:  # in the interpreter's own order; multiprocessing would leave out the second
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def forked(script: str, *words: str, cwd: Path | None = None, timeout: float = 120) -> tuple[int, str]:
    """Run a forked command to its end: exit code, and everything it wrote."""
    running = Forked(script, *words, cwd=cwd)
    written, _ = running.communicate(timeout)
    assert running.returncode is not None
    return running.returncode, written
