"""Builds a data set in `<out>.partial` on all cores: atomic, and resumable after an interruption."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock
from rich.console import Console
from rich.progress import track

from foundation.errors import ConfigError, DataError
from foundation.files import atomic_write, require_writable
from foundation.locks import held

if TYPE_CHECKING:
    import numpy as np

PARAMETERS_FILE = "dataset.json"
SOURCES_FILE = "sources.sha256"

LARGEST = 8192
"""Largest side of a written image, in pixels; larger ones do not fit into memory."""

Job = TypeVar("Job")
Result = TypeVar("Result")


class Build:
    """A data set that is being built, or exists.

    Everything is written into `<out>.partial` next to it, which is renamed at the end. `dataset.json` holds the
    parameters; a call with the same parameters continues an interrupted build.

    Args:
        out: folder of the data set; must not exist, or be empty, or hold a data set of the same parameters.
        parameters: everything that determines the content; `origin` marks folders that were built here, `count` is the
            number of faces.
        what: description of the data set, for messages.

    Raises:
        ConfigError: if `out` is invalid.
    """

    def __init__(self, out: Path, parameters: dict[str, Any], what: str) -> None:
        if not out.name:
            raise ConfigError(f"out={out} is invalid.\nIt must name a folder for the data set, as out=data/faces.")
        self.out, self.parameters, self.what = out, parameters, what
        self.partial = out.with_name(out.name + ".partial")
        self.console = Console(stderr=True)

    def is_there(self) -> bool:
        """Whether `out` already holds the requested data set.

        Raises:
            DataError: if it holds anything else, which is left untouched.
        """
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return False
        found = _parameters_in(self.out)
        if found == self.parameters:
            return True
        what = f"something that is not a data set of {self.what}"
        if found is not None:
            what = f"another data set ({_in_words(found, compared_to=self.parameters)})"
        raise DataError(
            f"{self.out} holds {what}; requested: {_in_words(self.parameters, compared_to=found or {})}. "
            "Nothing was written: choose another folder (out=...) or move that one away"
        )

    @contextlib.contextmanager
    def claimed(self) -> Iterator[bool]:
        """Lock `out` and yield whether to build; another process with the same `out` waits, and finds it complete.

        Raises:
            DataError: see :meth:`is_there`.
        """
        if there := self.is_there():
            yield False
        else:
            require_writable(self.out.parent, "out")
            file = self.out.with_name(self.out.name + ".partial.lock")
            with held(FileLock(file), f"builds {self.out}"):
                try:
                    there = self.is_there()
                    yield not there
                finally:
                    file.unlink(missing_ok=True)
        if there:
            text = f"{self.out}: {self.parameters['count']} {self.what} exist already"
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def open(self, sources: str = "") -> None:
        """Creates the partial folder; files of an interrupted build of the same data set stay.

        Args:
            sources: digest of the sources; if it has changed, the build starts again.

        Raises:
            DataError: if a folder of that name exists that was not built here.
        """
        note = self.partial / SOURCES_FILE
        changed = note.is_file() and note.read_text() != sources
        if _parameters_in(self.partial) != self.parameters or changed:
            # Only a folder whose parameters show that it was built here is deleted.
            ours = (_parameters_in(self.partial) or {}).get("origin") == self.parameters["origin"]
            if self.partial.exists() and any(self.partial.iterdir()) and not ours:
                raise DataError(f"{self.partial} exists and was not written here: move it away")
            shutil.rmtree(self.partial, ignore_errors=True)
        write_file(self.partial / PARAMETERS_FILE, (json.dumps(self.parameters, indent=2) + "\n").encode())
        if sources:
            write_file(note, sources.encode())

    def each(
        self, work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, words: str, chunk: int = 8
    ) -> Iterator[Result]:
        """Results of `work`, which can be pickled, for each job in order, by several processes, with a progress bar."""
        if not jobs:
            return
        if workers == 1 or len(jobs) == 1:  # a process takes a second to start
            tune_process()
            for job in track(jobs, words, console=self.console):
                yield work(job)
            return
        with processes(min(workers, len(jobs))) as pool:
            try:
                results = pool.map(work, jobs, chunksize=chunk)
                yield from track(results, words, total=len(jobs), console=self.console)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def finish(self) -> None:
        """Renames the complete partial folder to `out`."""
        (self.partial / SOURCES_FILE).unlink(missing_ok=True)
        if self.out.exists():  # an empty folder: not every system lets a rename take its place
            self.out.rmdir()
        self.partial.replace(self.out)


def require_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise a ConfigError unless a setting is an integer from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value} is invalid.\nIt must be an integer of at least {least}.")
    if most is not None and value > most:
        raise ConfigError(f"{name}={value} is invalid.\nIt must be an integer of at most {most}.")


def require_flag(name: str, value: Any) -> None:
    """Raise a ConfigError unless a setting is true or false; a text such as "no" would count as true."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value} is invalid.\nIt must be true or false.")


def _parameters_in(folder: Path) -> dict[str, Any] | None:
    """The recorded parameters of a data set, finished or partial; None if there are none."""
    try:
        found = json.loads((folder / PARAMETERS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _in_words(parameters: dict[str, Any], compared_to: dict[str, Any]) -> str:
    """The parameters that differ from others; all of them if none differs."""
    different = {name: value for name, value in parameters.items() if compared_to.get(name, ...) != value}
    return ", ".join(f"{name}={value}" for name, value in (different or parameters).items())


@contextlib.contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of rendering processes, each tuned for one core."""
    # "spawn" is the only start method that behaves the same on all systems and with other threads.
    context = multiprocessing.get_context("spawn")
    # glibc reads this once, when a process starts. The landmark predictor reads all over its 60 MB; huge pages save a
    # quarter of its time.
    ours = TUNABLES not in os.environ
    if ours:
        os.environ[TUNABLES] = "glibc.malloc.hugetlb=1"
    try:
        with ProcessPoolExecutor(count, mp_context=context, initializer=tune_process) as pool:
            yield pool
    finally:
        if ours:
            del os.environ[TUNABLES]


TUNABLES = "GLIBC_TUNABLES"


def tune_process() -> None:
    """Tunes this process for rendering on one core; the result does not depend on it."""
    import cv2  # late: checking that a data set is complete must not import it

    cv2.setNumThreads(1)  # the processes share the cores already
    with contextlib.suppress(OSError, AttributeError):  # of glibc alone
        # Otherwise images of a megabyte are returned to the system and cleared again: an eighth of the time.
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((M_MMAP_THRESHOLD, 1 << 25), (M_TRIM_THRESHOLD, 1 << 28)):
            mallopt(option, value)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def write_file(path: Path, content: bytes) -> None:
    """Writes one of a build's many files atomically. The build's lock makes this process the only writer."""
    with atomic_write(path, sync=False, exclusive=True) as file:
        file.write(content)


def encoded(pixels: np.ndarray, form: str, **options: int) -> bytes:
    """Pixels uint8 as the bytes of a file: `form` is "JPEG" or "PNG", `options` are Pillow's."""
    from PIL import Image  # late: checking that a data set is complete must not import it

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format=form, **options)
    return content.getvalue()
