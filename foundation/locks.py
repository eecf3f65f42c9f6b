"""File locks between processes that write the same files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout


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
        print(f"Waiting for the process that {what}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
