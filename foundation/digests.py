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
from foundation.names import to_bytes
from foundation.paths import status_of


class DigestCache:
    """Content digests of files, remembered by path and state: size, inode, times of modification and of change.

    The modification time can be set by hand, and tools do; the time of change cannot. Some network file systems keep
    neither: ``verify`` reads every file again.

    Args:
        path: the cache's database, in the output folder: data folders are never written to.
        verify: read all files again, whatever the cache knows, and correct it.
    """

    def __init__(self, path: Path, verify: bool = False) -> None:
        self.path = path
        self.verify = verify
        self._known: dict[bytes, tuple[str, str]] = {}
        self._new: dict[bytes, tuple[str, str]] = {}
        self._folders: dict[str, bytes] = {}

    def __enter__(self) -> DigestCache:
        with contextlib.suppress(OSError):  # not writable: run without the cache
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.verify:
            return self
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
        if self._new:
            try:
                self._write()
            except sqlite3.OperationalError:  # locked for a minute, or not writable: the next process reads again
                return
            except sqlite3.DatabaseError:  # damaged: it is only a cache
                self.path.unlink(missing_ok=True)
                with contextlib.suppress(sqlite3.Error):
                    self._write()

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
            total.update(to_bytes(f"{name}\0{self.of_file(path)}\0"))
        return total.hexdigest()[:16]

    def of_file(self, path: Path) -> str:
        """Digest of one file's content."""
        try:
            status = status_of(path)
            state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
            key = self._key(path)
            known = self._known.get(key)
            if known is not None and known[0] == state:
                return known[1]
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}.\nReplace the file or remove the face.") from error
        self._known[key] = self._new[key] = (state, digest)
        return digest

    def _key(self, path: Path) -> bytes:
        """The file's resolved path. Each folder is resolved once, since it may hold thousands of files."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.fsencode(Path(folder).resolve())
        return self._folders[folder] + os.fsencode(f"{os.sep}{name}")

    def _read(self) -> dict[bytes, tuple[str, str]]:
        with contextlib.closing(self._open()) as base:
            return {path: (state, digest) for path, state, digest in base.execute("SELECT * FROM states")}

    def _write(self) -> None:
        with contextlib.closing(self._open()) as base, base:
            rows = [(path, *row) for path, row in self._new.items()]
            base.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", rows)

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=60)
        with base:
            base.execute("CREATE TABLE IF NOT EXISTS states (path BLOB PRIMARY KEY, state TEXT, digest TEXT)")
            base.execute("DROP TABLE IF EXISTS files")  # of earlier versions: without inode and time of change
        return base


def digest_of_files(cache: Path, files: Iterable[tuple[str, Path]]) -> str:
    """:meth:`DigestCache.of_files` as one call, for processes that cannot share an open cache."""
    with DigestCache(cache) as digests:
        return digests.of_files(files)
