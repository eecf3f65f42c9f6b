"""Errors that a user can fix. Any package may raise them; only the entry points turn them into an exit code."""

from __future__ import annotations

import difflib
import errno
import re
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from foundation.names import shown


class UserError(Exception):
    """An error that the user can fix; the message names what is wrong, where, what is valid, and what to do.

    Messages quote names from data. They are shown on terminals and written to files, so control characters and bytes
    that are not UTF-8 are escaped.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(shown(message, lines=True))


class ConfigError(UserError):
    """An unknown setting or an invalid value (exit code 2)."""

    exit_code = 2


class DataError(UserError):
    """Data that is missing or not in the expected layout, detected before training starts (exit code 2)."""

    exit_code = 2


class BrokenFileError(DataError):
    """A broken file that a run read during training; the run has failed (exit code 1)."""

    exit_code = 1


class RunError(UserError):
    """A run that failed for lack of memory, disk space or the like (exit code 1)."""


NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of the system about a place that may not be read or written."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its chain of causes, the last error first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def explained(error: BaseException) -> BaseException:
    """The :class:`UserError` that explains an error to the user, if one is known; else the error itself."""
    text = str(error)
    named = [match for match in re.finditer(r"foundation\.errors\.(\w+): ", text) if match[1] in globals()]
    if named:  # wrapped into the traceback of another process
        return globals()[named[-1][1]](text[named[-1].end() :].rstrip())
    if isinstance(error, UserError):
        return error
    if isinstance(error, ImportError) and "pip install" in text:  # a setting needs an optional package
        return ConfigError(text)
    if re.search(r"/dev/shm|</torch_|shared memory (object|limit)|out of shared memory", text):  # noqa: S108
        return RunError(
            "Shared memory (/dev/shm) ran out.\n"
            "Do one of: datamodule.workers=0; in a container, more shared memory: docker run --shm-size=8g."
        )
    full = [cause for cause in causes(error) if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)]
    if full or "No space left on device" in text:
        where = f" at {name}" if full and (name := getattr(full[0], "filename", None)) else ""
        return RunError(
            f"The disk is full{where}. Files that were complete are still complete.\n"
            f"Free some space; the same command then resumes from the last checkpoint."
        )
    if any(getattr(cause, "errno", None) == errno.EFBIG for cause in causes(error)):
        return RunError(
            "A file has reached the largest size that is allowed. Files that were complete are still complete.\n"
            "Raise the limit (ulimit -f, or that of the file system)."
        )
    if "Expected more than 1 value per channel" in text or "Expected more than 1 spatial element" in text:
        return RunError(
            f"A normalisation layer sees a single value: {text.strip().splitlines()[-1]}\n"
            f"Do one of: a larger datamodule.image_size; another network; torch's batch normalisation, which uses its "
            f"running statistics then."
        )
    if isinstance(error, OSError) and error.errno in NOT_ALLOWED and error.filename is not None:
        return RunError(f"{error.filename}: {error.strerror}.\nIt must be a place that you may read and write.")
    worker = next((line for line in text.splitlines() if "DataLoader worker" in line), "")
    if "killed" in worker or "exited unexpectedly" in worker:
        return RunError(
            f"{worker.strip()}\nThe usual cause is lack of memory: lower datamodule.workers or batch_size.\n"
            f"The same command resumes from the last checkpoint."
        )
    if isinstance(error, MemoryError) or "Failed to allocate" in text:  # messages of NumPy and OpenCV
        return RunError(
            f"Memory ran out: {text.strip().splitlines()[-1] if text.strip() else 'allocation failed'}\n"
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
    # A SyntaxError names its file and line itself.
    frames = [] if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`` Did you mean ...?`` with the known word most similar to a mistyped one; "" if no word is similar."""
    near = nearest(word, known)
    return "" if near is None else f" Did you mean {prefix}{near}?"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most similar to a mistyped one; None if no word is similar."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
