"""Writes drawn faces as a data set in a published layout: all of it or nothing, and continued where it stopped."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from datamodules.synthesis.published import LAYOUTS, Layout, write_whole
from engine.errors import ConfigError, DataError

GENERATOR_VERSION = 4
"""Raised by hand whenever the same seed would give other bytes, in any module of this package."""

PARAMETERS_FILE = "dataset.json"


@dataclass(frozen=True)
class _Job:
    """One face of a data set: drawn from (seed, index) alone, so neither order nor workers matter."""

    layout: Layout
    index: int
    size: int


def write_drawn_faces(out: Path | None, *, layout: str, count: int, size: int, seed: int, workers: int) -> None:
    """Draws `count` labelled faces into `out`, in a published layout (`datamodules.synthesis.published`).

    Everything is built in `<out>.partial` beside it and renamed at the very end; a second call after an interruption
    draws only what is missing, a call for what is there already does nothing. `out/dataset.json` says that the faces
    are drawn, and how.

    Args:
        out: folder of the data set; must not exist, or hold a data set of the same parameters. None is the layout's own
            folder below `data/drawn`.
        layout: "lapa", "celebamask_hq" or "celeba".
        count: number of faces, at least 10; 80 % train, 10 % val, 10 % test.
        size: width and height in pixels, at least 32.
        seed: 0 or more; face i depends on (seed, i) only.
        workers: number of processes, at least 1; it does not change the result.

    Raises:
        ConfigError: an argument has a value it cannot have.
        DataError: `out` holds something else; it is left untouched.
    """
    _check_arguments(layout, count, size, seed, workers)
    out = out or Path("data/drawn") / LAYOUTS[layout].default_folder
    parameters = {"origin": "drawn", "layout": layout, "count": count, "size": size, "seed": seed}
    parameters["generator_version"] = GENERATOR_VERSION
    console = Console(stderr=True)
    if _is_there(out, parameters):
        console.print(f"{out}: {count} drawn faces are there already", soft_wrap=True, highlight=False)
        return
    partial = out.with_name(out.name + ".partial")
    to = LAYOUTS[layout](partial, count, seed)
    _open_partial(partial, parameters, to.folders())
    missing = [index for index in range(count) if not to.last_file(index).exists()]
    _draw([_Job(to, index, size) for index in missing], workers, console)
    to.finish()
    if out.exists():  # an empty folder: not every system lets a rename take its place
        out.rmdir()
    partial.replace(out)


def _check_arguments(layout: str, count: int, size: int, seed: int, workers: int) -> None:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout={layout}: no such layout of drawn faces; there is: {', '.join(LAYOUTS)}")
    least = {"count": (count, 10), "size": (size, 32), "seed": (seed, 0), "workers": (workers, 1)}
    for name, (value, bound) in least.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < bound:
            raise ConfigError(f"{name}={value}: must be a whole number, {bound} or more")


def _is_there(out: Path, parameters: dict[str, Any]) -> bool:
    """Whether `out` already holds what is asked for; anything else that lies there is an error."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    found = _parameters_in(out)
    if found == parameters:
        return True
    what = "something that is not a data set of drawn faces"
    if found is not None:
        what = f"another data set ({_in_words(found)})"
    raise DataError(
        f"{out} holds {what}; asked for: {_in_words(parameters)}. "
        "Nothing was written: choose another folder (out=...) or move that one away"
    )


def _parameters_in(folder: Path) -> dict[str, Any] | None:
    """The parameters that a data set, finished or partial, was built with; None if it does not say."""
    try:
        found = json.loads((folder / PARAMETERS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _in_words(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _open_partial(partial: Path, parameters: dict[str, Any], folders: list[Path]) -> None:
    """Makes the folder in which to build; what an earlier call left there stays if it was building the same."""
    if _parameters_in(partial) != parameters:
        # Only what says that it was drawn here is ours to delete.
        if partial.exists() and any(partial.iterdir()) and (_parameters_in(partial) or {}).get("origin") != "drawn":
            raise DataError(f"{partial} is in the way and was not written here: move it away")
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    write_whole(partial / PARAMETERS_FILE, (json.dumps(parameters, indent=2) + "\n").encode())
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def _draw(jobs: list[_Job], workers: int, console: Console) -> None:
    if not jobs:
        return
    if workers == 1:
        settle()
        for job in track(jobs, "drawing faces", console=console):
            _write_face(job)
        return
    # "spawn" is the only start method that behaves alike everywhere and beside other threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=settle) as pool:
        try:
            drawn = pool.map(_write_face, jobs, chunksize=8)
            for _ in track(drawn, "drawing faces", total=len(jobs), console=console):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def settle() -> None:
    """Has this process draw as fast as one core can; the faces do not depend on it."""
    import cv2  # here, because whether a data set is complete must be told without these imports

    cv2.setNumThreads(1)  # the processes share the cores already
    with contextlib.suppress(OSError, AttributeError):  # of glibc alone
        # Pictures of a megabyte otherwise go back to the system and are cleared anew: an eighth of the time.
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((M_MMAP_THRESHOLD, 1 << 25), (M_TRIM_THRESHOLD, 1 << 28)):
            mallopt(option, value)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def _write_face(job: _Job) -> None:
    import numpy as np

    from datamodules.synthesis import faces

    face = faces.draw_face(np.random.default_rng([job.layout.seed, job.index]), job.size)
    job.layout.write(job.index, face)
