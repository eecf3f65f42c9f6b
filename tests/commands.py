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
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import context, forkserver
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

ROOT = Path(__file__).parent.parent
SERVER, PYTHON = "HALFMASK_TESTS_SERVER", "HALFMASK_TESTS_PYTHON"
"""Environment variables: address of the server that all test processes share; a forked command's sys.executable."""
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.preloaded"])
_forks: Any = forkserver._forkserver


def start_server() -> None:
    """Start the server of forked commands for the processes that this one starts, which it must outlive."""
    _forks.ensure_running()
    os.environ[SERVER] = _forks._forkserver_address


def _use_server() -> None:
    if SERVER in os.environ and _forks._forkserver_address is None:
        _forks._forkserver_address = os.environ[SERVER]
        _forks._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)
        _forks.ensure_running = lambda: None


def save_time() -> None:
    """Leave out what only takes time in tests: compiling the same files again, and waiting for the disk.

    What a killed process has written is there without fsync; only a power cut needs it.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.fsync = lambda fd: None  # noqa: ARG005


_use_server()


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a finished command."""

    returncode: int
    stdout: str
    stderr: str


def within(script: str, *words: str, cwd: Path) -> Finished:
    """Run an entry point in this process, with the given arguments and folder and separate standard streams."""
    from hydra.core.hydra_config import HydraConfig

    from engine import entry_point

    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    loggers = logging.getLogger().handlers[:]
    here = Path.cwd()
    os.chdir(cwd)
    try:
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(entry_point, "_failures", []),
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
    return Finished(code, stdout.getvalue(), stderr.getvalue())


def process(script: str, *words: str, cwd: Path, environment: Mapping[str, str] | None = None) -> Finished:
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
    return Finished(ended.returncode, ended.stdout, ended.stderr)


class Forked:
    """An entry point in a forked process, running; the interface is that of :class:`subprocess.Popen`.

    Args:
        script: file name of the entry point, as ``train.py``.
        words: its arguments.
        cwd: its folder; this process's own by default.
        environment: variables beyond those of this process.
        followers: whether processes that Lightning starts by script come from the server too, or are real ones.
        output: file descriptor that it writes to; by default a pipe that :meth:`communicate` reads.
        leads_group: whether it leads a group of processes of its own.
    """

    def __init__(
        self,
        script: str,
        *words: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        followers: Literal["forked", "real"] = "forked",
        output: int | None = None,
        leads_group: bool = False,
    ) -> None:
        if SERVER not in os.environ:
            start_server()
        self._read, write = os.pipe() if output is None else (-1, os.dup(output))
        variables = dict(os.environ | (environment or {}))
        arguments = (script, words, str(cwd or Path.cwd()), variables, followers, leads_group)
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

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
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


def _start_follower(
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    start_new_session: bool = False,
    command: Sequence[str] = (),
    **_streams: object,
) -> Forked:
    """Replaces :class:`subprocess.Popen` for Lightning and torchrun, for ``python [-u] script words``."""
    script, *words = [word for word in (*args, *command) if word != "-u"][1:]
    folder = Path(cwd) if cwd else None
    return Forked(script, *words, cwd=folder, environment=env, output=1, leads_group=start_new_session)


class _Spawned(context.ForkServerProcess):
    """A process that torch would spawn: forked, with the output and environment of the one that starts it."""

    def __init__(self, *, target: Callable[..., None], args: tuple[object, ...], daemon: bool | None = None) -> None:
        super().__init__(target=_follow, args=(dict(os.environ), _Passed(1), target, args), daemon=daemon)


class _Spawning(context.ForkServerContext):
    Process = _Spawned


def _follow(
    environment: Mapping[str, str], output: _Passed, target: Callable[..., None], args: tuple[object, ...]
) -> None:
    _become(output, environment)
    target(*args)


def _become(output: _Passed, environment: Mapping[str, str]) -> None:
    """Take over the output and the environment of the process that a user would have started this one from."""
    descriptor = output.detach()
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)


def _fork_followers() -> None:
    """Processes that this one starts come from the server that it came from itself."""
    import torch.multiprocessing
    from pytorch_lightning.strategies.launchers import subprocess_script
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    subprocess_script.subprocess = SimpleNamespace(Popen=_start_follower)  # type: ignore[assignment]
    subprocess_handler.Popen = _start_follower  # type: ignore[assignment, misc]
    context._concrete_contexts["spawn"] = _Spawning()  # type: ignore[attr-defined]
    torch.multiprocessing.set_sharing_strategy("file_system")  # a server takes no 300 open files at once
    _forks.ensure_running = lambda: None


def _leave_coverage_of_the_server() -> None:
    """Under ``make coverage`` this process is measured by itself; what measured the server must not end here again."""
    coverage = sys.modules.get("coverage")
    if coverage is not None and (inherited := getattr(coverage.process_startup, "coverage", None)) is not None:
        atexit.unregister(inherited._atexit)


def _run(
    script: str,
    words: Sequence[str],
    cwd: str,
    environment: Mapping[str, str],
    followers: str,
    leads_group: bool,
    output: _Passed,
) -> None:
    """The forked process: all of it is as if the interpreter had been started for this script."""
    _become(output, environment)
    os.chdir(cwd)
    if leads_group:
        os.setsid()
    multiprocessing.set_start_method(None, force=True)
    save_time()
    _leave_coverage_of_the_server()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if followers == "forked":
        _fork_followers()
    sys.executable = os.environ.get(PYTHON, sys.executable)
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
