"""Digests of file contents, computed once per file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from foundation.errors import DataError
from foundation.interruption import checked


class DigestCache:
    """Content digests of files, remembered by (path, size, modification time).

    Args:
        path: the cache's database, in the output folder: data folders are never written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[int, int, str]] = {}
        self._new: dict[str, tuple[int, int, str]] = {}
        self._folders: dict[str, str] = {}

    def __enter__(self) -> DigestCache:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._known = self._read()
        except sqlite3.OperationalError:  # locked for a minute, or not writable: run without the cache
            self._known = {}
        except sqlite3.DatabaseError:  # damaged: it is only a cache
            self.path.unlink(missing_ok=True)
            self._known = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        """Store the new digests in one short transaction: other processes may use the cache at the same time."""
        if not self._new:
            return
        try:
            with contextlib.closing(self._open()) as base, base:
                rows = [(path, *row) for path, row in self._new.items()]
                base.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError:  # locked for a minute, or not writable
            return
        except sqlite3.DatabaseError:  # damaged in a part that reading does not need: the next command makes a new one
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def of_files(self, files: Iterable[tuple[str, Path]]) -> str:
        """One digest over (name, content) of files; independent of their folders and their order.

        Raises:
            DataError: if a file cannot be read.
        """
        total = hashlib.sha256()
        shown: Iterable[tuple[str, Path]] = (everything := sorted(files))
        if len(everything) > 2000 and self._key(everything[-1][1]) not in self._known:
            from rich.progress import track

            shown = track(everything, "reading the data once to compute its digest", transient=True)
        for name, path in checked(shown):
            total.update(f"{name}\0{self.of_file(path)}\0".encode())
        return total.hexdigest()[:16]

    def of_file(self, path: Path) -> str:
        """Digest of one file's content."""
        try:
            state = path.stat()
            key = self._key(path)
            row = self._known.get(key)
            if row is not None and row[:2] == (state.st_size, state.st_mtime_ns):
                return row[2]
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}.\nReplace the file or remove the face.") from error
        self._known[key] = self._new[key] = (state.st_size, state.st_mtime_ns, digest)
        return digest

    def _key(self, path: Path) -> str:
        """The file's resolved path. Each folder is resolved once, since it may hold thousands of files."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = str(Path(folder).resolve())
        return f"{self._folders[folder]}{os.sep}{name}"

    def _read(self) -> dict[str, tuple[int, int, str]]:
        with contextlib.closing(self._open()) as base:
            return {path: (size, mtime, digest) for path, size, mtime, digest in base.execute("SELECT * FROM files")}

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=60)
        with base:
            base.execute(
                "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT)"
            )
        return base


def digest_of_files(cache: Path, files: Iterable[tuple[str, Path]]) -> str:
    """:meth:`DigestCache.of_files` as one call, for processes that cannot share an open cache."""
    with DigestCache(cache) as digests:
        return digests.of_files(files)
