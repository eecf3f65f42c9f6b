"""Writing that is whole or absent, and digests of contents that are computed once."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """Readable JSON with sorted keys: equal values are equal texts."""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


class DigestCache:
    """Content digests of files, remembered by (path, size, modification time).

    Args:
        path: the cache's database, in a folder of ours: data folders are never written to.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(path, timeout=60)
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT)"
        )

    def of_files(self, files: Iterable[tuple[str, Path]]) -> str:
        """One digest over (name, content) of files, whatever folder they lie in and whatever order they come in."""
        total = hashlib.sha256()
        for name, path in sorted(files):
            total.update(f"{name}\0{self.of_file(path)}\0".encode())
        self._base.commit()
        return total.hexdigest()[:16]

    def of_file(self, path: Path) -> str:
        """Digest of one file's content."""
        state = path.stat()
        key = str(path.resolve())
        row = self._base.execute("SELECT size, mtime_ns, digest FROM files WHERE path = ?", (key,)).fetchone()
        if row is not None and row[:2] == (state.st_size, state.st_mtime_ns):
            return row[2]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        self._base.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (key, state.st_size, state.st_mtime_ns, digest)
        )
        return digest

    def __enter__(self) -> DigestCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.commit()
        self._base.close()
