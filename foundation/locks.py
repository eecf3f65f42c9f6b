"""One process at a time where several would write the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout


@contextlib.contextmanager
def held(lock: FileLock, what: str) -> Iterator[None]:
    """The lock, held; said where another process makes this one wait.

    Args:
        lock: the system frees it when the process that holds it ends, however it ends.
        what: what its holder does, as "fills data/cache".
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
