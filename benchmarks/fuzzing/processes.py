"""Reads the files of a form in forked processes with limits, so that a crash or hang costs one file."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import shutil
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.fuzzing.form import Form
from benchmarks.fuzzing.reading import LONGEST, MOST_MEMORY, Failure, Outcome, Place

BATCH = 500
"""Files of one process."""
GRACE = 10.0
"""Seconds beyond the limits of all readers after which a process is killed: its code does not return to Python."""


def outcomes(form: Form, seeds: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
    """Seed and outcome of each file."""
    originals = form.originals()
    pending = list(seeds)
    while pending:
        batch, pending = pending[:BATCH], pending[BATCH:]
        for seed, outcome in _of_process(form, batch, originals):
            batch.remove(seed)
            yield seed, outcome
        pending = batch + pending


def _of_process(form: Form, seeds: Sequence[int], originals: Sequence[bytes]) -> Iterator[tuple[int, Outcome]]:
    """Outcomes until the process ends; the last one is a crash if it ended early."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    process = context.Process(target=_work, args=(form, tuple(seeds), originals, work, sender), daemon=True)
    process.start()
    sender.close()
    left = list(seeds)
    try:
        while left:
            if not receiver.poll(LONGEST * len(form.readers) + GRACE):
                yield left[0], _ended(form, left[0], "slow", "does not return to Python")
                return
            try:
                outcome: Outcome | str = receiver.recv()
            except EOFError:
                process.join()
                yield left[0], _ended(form, left[0], "crash", f"exit code {process.exitcode}")
                return
            if isinstance(outcome, str):
                raise RuntimeError(f"{form.name}, seed {left[0]} cannot be made:\n{outcome}")
            yield left.pop(0), outcome
    finally:
        process.kill()
        process.join()
        receiver.close()
        shutil.rmtree(work, ignore_errors=True)


def _ended(form: Form, seed: int, kind: str, message: str) -> Outcome:
    return Outcome(False, 0.0, 0, (Failure(form.name, "?", kind, "", message, seed),))


def _work(form: Form, seeds: Sequence[int], originals: Sequence[bytes], work: Path, sender: Connection) -> None:
    faulthandler.disable()
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # decoders print what they think of a file
        os.dup2(silent, stream)
    place = Place(form, work)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_MEMORY, size + MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for seed in seeds:
        try:
            content = form.content(seed, originals)
        except Exception:
            sender.send(traceback.format_exc())
            return
        sender.send(place.read(seed, content))
