"""Reads one mutated file with all readers of its form, and measures and judges what happens."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.form import CANARY, FOLDER, OUTSIDE, Form
from benchmarks.fuzzing.watch import ROOT, Canaries, watched
from foundation.errors import UserError

LONGEST = 10.0
"""Seconds that a reader may take."""
MOST_MEMORY = 2 << 30
"""Bytes that a file may take beyond what the process has."""
CANARIES = tuple(f"{CANARY}.{suffix}" for suffix in ("png", "txt", "bin", "avi"))


class TooSlowError(BaseException):
    """A reader exceeded :data:`LONGEST`; no handler of exceptions in a reader takes it for one of its own."""


@dataclass(frozen=True)
class Failure:
    """A reader that did what none may.

    Args:
        form: name of the form.
        reader: name of the reader.
        kind: the exception's type, or ``slow``, ``memory``, ``outside``, ``crash``.
        place: the project's innermost line in the traceback, and the library's.
        message: first line of the message.
        seed: of the file.
        trace: the traceback.
    """

    form: str
    reader: str
    kind: str
    place: str
    message: str
    seed: int
    trace: str = field(compare=False, default="")

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for the same failure of other files."""
        return self.form, self.kind, self.place.partition(" > ")[0]


@dataclass(frozen=True)
class Outcome:
    """What happened to one file.

    Args:
        refused: at least one reader refused it.
        seconds: of the slowest reader.
        memory: bytes at the peak beyond those before.
        failures: see :class:`Failure`.
    """

    refused: bool
    seconds: float
    memory: int
    failures: tuple[Failure, ...]


class Place:
    """A folder with the files that a form needs, and canaries next to it.

    Args:
        form: the form.
        work: an empty folder.
    """

    def __init__(self, form: Form, work: Path) -> None:
        self.form = form
        self.folder = work / FOLDER
        self.file = self.folder / form.file
        self.folder.mkdir(parents=True)
        form.surroundings(self.folder)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.canaries = Canaries(work / OUTSIDE, CANARIES, form.originals()[0])
        self.canaries.opened()

    def read(self, seed: int, content: bytes) -> Outcome:
        """Write a content and read it with every reader."""
        self.file.write_bytes(content)
        failures: list[Failure] = []
        refused, slowest = False, 0.0
        before = _reset_peak()
        expected: tuple[type[Exception], ...] = (UserError, *self.form.allowed)
        for name, reader in self.form.readers.items():
            started = time.perf_counter()
            problem: BaseException | None = None
            with watched(self.folder) as seen, _limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    reader(self.folder)
                except expected:
                    refused = True
                except (Exception, TooSlowError) as error:
                    problem = error
                opened = list(dict.fromkeys(seen))
            seconds = time.perf_counter() - started
            slowest = max(slowest, seconds)
            if problem is not None:
                failures.append(_failure(self.form.name, name, seed, problem))
            elif seconds > LONGEST:
                failures.append(Failure(self.form.name, name, "slow", "", f"{seconds:.1f} s", seed))
            if self.canaries.opened() or opened:
                what = opened[0] if opened else "a file in the folder next to it"
                failures.append(Failure(self.form.name, name, "outside", "", what, seed))
        memory = max(0, _peak() - before)
        if memory > MOST_MEMORY:
            failures.append(Failure(self.form.name, "all", "memory", "", f"{memory >> 20} MiB", seed))
        return Outcome(refused, slowest, memory, tuple(failures))


def _failure(form: str, reader: str, seed: int, error: BaseException) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _is_ours(frame.filename)]
    places = [f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno} {frame.name}" for frame in ours[-1:]]
    if frames and frames[-1] is not (ours[-1] if ours else None):
        places.append(f"{Path(frames[-1].filename).name} {frames[-1].name}")
    kind = "slow" if isinstance(error, TooSlowError) else type(error).__name__
    message = (str(error).splitlines() or [""])[0][:160]
    trace = "".join(traceback.format_exception(error, limit=-12))
    return Failure(form, reader, kind, " > ".join(places), message, seed, trace)


def _is_ours(name: str) -> bool:
    path = Path(name)
    return path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / ".venv") and "fuzzing" not in path.parts


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Interrupts the block after :data:`LONGEST` seconds; in the main thread, as signals need."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TooSlowError(f"more than {LONGEST:g} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _reset_peak() -> int:
    """Bytes of memory now; the peak is counted from here where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def failures_of(form: Form, work: Path, seeds: Sequence[int]) -> list[Failure]:
    """Failures of some files, in this process."""
    place, originals = Place(form, work), form.originals()
    outcomes = [place.read(seed, form.content(seed, originals)) for seed in seeds]
    return [failure for outcome in outcomes for failure in outcome.failures]
