"""File locks between processes that write the same files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from foundation.errors import ConfigError
from foundation.shown_text import printable


@contextlib.contextmanager
def held(lock: FileLock, what: str) -> Iterator[None]:
    """Hold a lock; prints a message if it has to wait for another process.

    Args:
        lock: the operating system frees it when its process ends, even if killed.
        what: what the holder does, for the message: "fills data/cache".
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(printable(f"Waiting for the process that {what}"), flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def sole_writer(file: Path, key: str, target: Path) -> Iterator[None]:
    """Hold a lock that no other process holds, for commands whose user waits for them; its file is removed afterwards.

    Args:
        file: of the lock, in an existing folder; the next command takes over the file of a killed process.
        key: the setting that names the target, for messages.
        target: what is written.

    Raises:
        ConfigError: if another process holds it, or the file cannot be created.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        raise ConfigError(
            f"{key}={target} is in use by another command.\nIt must be another name; or wait until that one ends."
        ) from None
    except OSError as error:
        raise ConfigError(f"{key}={target} cannot be written: {error.strerror}.\nChoose another place.") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held: nobody acquires the lock of a removed file
        lock.release()
