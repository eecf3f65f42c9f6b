"""What a user can put right, said once and clearly; only the entry points turn these into an exit code.

This file imports nothing of the project, and every part of it may raise what is defined here.
"""

from __future__ import annotations

import difflib
import errno
import re
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class UserError(Exception):
    """Something that the user can put right: what is wrong, where, what was expected, what to do."""

    exit_code = 1


class ConfigError(UserError):
    """A setting that does not exist or has a value it cannot have (exit code 2)."""

    exit_code = 2


class DataError(UserError):
    """Data that is missing or not in the expected layout: seen before anything is trained (exit code 2)."""

    exit_code = 2


class BrokenFileError(DataError):
    """A file that a run met and could not use; the run has failed (exit code 1)."""

    exit_code = 1


class RunError(UserError):
    """What this machine could not do for a run, which has failed (exit code 1)."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it, the last one first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def explained(error: BaseException) -> BaseException:
    """An error in words for its user, where there are any; else the error as it is."""
    text = str(error)
    named = [match for match in re.finditer(r"foundation\.errors\.(\w+): ", text) if match[1] in globals()]
    if named:  # another process has wrapped it into its own traceback
        return globals()[named[-1][1]](text[named[-1].end() :].rstrip())
    if isinstance(error, UserError):
        return error
    if isinstance(error, ImportError) and "pip install" in text:  # an optional package, asked for by a setting
        return ConfigError(text)
    if re.search(r"/dev/shm|</torch_|shared memory (object|limit)|out of shared memory", text):  # noqa: S108
        return RunError(
            "The memory that processes share (/dev/shm) ran out.\n"
            "Do one of: datamodule.workers=0; in a container, more of it, as in docker run --shm-size=8g."
        )
    full = [cause for cause in causes(error) if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)]
    if full or "No space left on device" in text:
        where = f" at {name}" if full and (name := getattr(full[0], "filename", None)) else ""
        return RunError(
            f"The disk is full{where}. What was whole before is whole still.\n"
            f"Free some space; the same command then goes on from the last checkpoint."
        )
    worker = next((line for line in text.splitlines() if "DataLoader worker" in line), "")
    if "killed" in worker or "exited unexpectedly" in worker:
        return RunError(
            f"{worker.strip()}\nMost often memory ran out: set datamodule.workers or batch_size lower.\n"
            f"The same command goes on from the last checkpoint."
        )
    if isinstance(error, MemoryError) or "Failed to allocate" in text:  # NumPy's and OpenCV's words
        return RunError(
            f"Memory ran out: {text.strip().splitlines()[-1] if text.strip() else 'no more is there'}\n"
            f"Do one of: smaller images; a smaller batch_size; fewer workers."
        )
    if type(error).__name__ == "OutOfMemoryError" or "OutOfMemoryError" in text:
        return RunError(
            f"The GPU's memory ran out: {text.strip().splitlines()[-1]}\n"
            f"Do one of: a smaller batch_size or datamodule.image_size; trainer.precision=bf16-mixed."
        )
    return error


def in_one_line(error: BaseException) -> str:
    """An error of a user's own code: its type, its message, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):  # it names its file and line itself
        place = ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like a mistyped one, or None if none is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
