"""Watches what a reader opens: files outside its folder, processes, connections."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARIES = tuple(
    {os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, str(ROOT))}
    | {sys.prefix, sys.base_prefix, str(ROOT), "/proc", "/dev/null", "/dev/urandom"}
)
"""Places that reading may open: code and its data."""
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "socket.connect")
OPENED = 0x20
"""IN_OPEN of inotify."""

_folders: list[str] = []
_seen: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _folders:
        return
    if event in STARTS:
        _seen.append(f"{event} {arguments[:2]!r}"[:200])
    elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not any(path == place or path.startswith(f"{place}/") for place in (_folders[0], *LIBRARIES)):
            _seen.append(f"open {path}")


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """What is opened outside a folder during the block, as far as Python opens it; the list grows as it happens."""
    if _audit not in _installed:
        sys.addaudithook(_audit)
        _installed.append(_audit)
    _seen.clear()
    _folders[:] = [os.path.realpath(folder)]
    try:
        yield _seen
    finally:
        _folders.clear()


_installed: list[Any] = []


class Canaries:
    """Files that no reader may open, watched by the system: libraries open files without Python's knowledge.

    Args:
        folder: holds them; created.
        names: their names.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], content: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_bytes(content)
        library = ctypes.CDLL(None)
        self.handle = -1
        if hasattr(library, "inotify_init1"):  # Linux
            self.handle = library.inotify_init1(os.O_NONBLOCK)
            library.inotify_add_watch(self.handle, os.fsencode(folder), OPENED)

    def opened(self) -> bool:
        """Whether one was opened since the last call."""
        try:
            return self.handle >= 0 and bool(os.read(self.handle, 1 << 16))
        except BlockingIOError:
            return False
