"""Digests of what files hold, computed once for each file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from foundation.errors import DataError


class DigestCache:
    """Content digests of files, remembered by (path, size, modification time).

    Args:
        path: the cache's database, in a folder of ours: data folders are never written to.
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
        except sqlite3.OperationalError:  # in use by others for very long, or no file can be made: go without
            self._known = {}
        except sqlite3.DatabaseError:  # damaged: it is only a cache
            self.path.unlink(missing_ok=True)
            self._known = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        """Remember what was computed, in one short transaction: others may be computing at the same time."""
        if self._new:
            with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(self._open()) as base, base:
                rows = [(path, *row) for path, row in self._new.items()]
                base.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def of_files(self, files: Iterable[tuple[str, Path]]) -> str:
        """One digest over (name, content) of files, whatever folder they lie in and whatever order they come in.

        Raises:
            DataError: if a file cannot be read.
        """
        total = hashlib.sha256()
        everything = sorted(files)
        for name, path in _progress(everything) if self._is_long(everything) else everything:
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
        """A file's place, whatever path leads to its folder; folders hold thousands of files and are resolved once."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = str(Path(folder).resolve())
        return f"{self._folders[folder]}{os.sep}{name}"

    def _is_long(self, files: list[tuple[str, Path]]) -> bool:
        return len(files) > 2000 and self._key(files[-1][1]) not in self._known

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


def _progress(files: list[tuple[str, Path]]) -> Iterable[tuple[str, Path]]:
    from rich.progress import track

    return track(files, "reading the data once, for its digest", transient=True)


def digest_of_files(cache: Path, files: Iterable[tuple[str, Path]]) -> str:
    """:meth:`DigestCache.of_files` as one call, for processes that cannot share an open cache."""
    with DigestCache(cache) as digests:
        return digests.of_files(files)
