"""Atomic writing: a file or folder is complete or absent, whatever interrupts its writer."""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from foundation.errors import ConfigError


@contextlib.contextmanager
def atomic_write(path: Path, *, sync: bool = True, exclusive: bool = False) -> Iterator[BinaryIO]:
    """A file to write: a reader, also after a crash, finds the old content or the new one, never a part of it.

    The draft is a hidden file in the same folder, renamed when the block ends and removed if it raises. After a kill it
    stays, see :func:`remove_drafts`.

    Args:
        path: the file; missing folders above it are made.
        sync: wait until the content is on the disk, so that it survives a power cut; without, writing is faster.
        exclusive: no other process writes this file at the same time. The draft then has a fixed name, and the next
            write of the file replaces what a killed process left.
    """
    draft = _draft(path, exclusive)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with draft.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: Path, draft_name: str | None = None) -> Iterator[Path]:
    """A path to write a file or a folder to, for writers that take a path: video encoders, exporters, loggers.

    The draft lies in a hidden folder of its own, next to ``path`` and removed with all that is in it. When the block
    ends, the draft replaces ``path``, also a folder with content; if it raises, ``path`` stays as it is. A block that
    writes nothing changes nothing.

    Args:
        path: the file or folder; missing folders above it are made.
        draft_name: the draft's name, for writers that store it in the file; by default that of ``path``.
    """
    folder = _draft(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        draft = folder / (draft_name or path.name)
        yield draft
        if draft.exists():
            if draft.is_dir():  # no rename replaces a folder that is not empty
                shutil.rmtree(path, ignore_errors=True)
            draft.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _draft(path: Path, exclusive: bool = False) -> Path:
    return path.with_name(f".{path.name}.tmp" if exclusive else f".{path.name}.{os.getpid()}.tmp")


def remove_drafts(folder: Path, name: str | None = None, recursive: bool = False) -> None:
    """Remove the drafts that killed processes left; no other process may be writing there.

    Args:
        folder: where to look.
        name: only drafts of the file or folder of this name; None removes all.
        recursive: look in all folders below too.
    """
    pattern = ".*.tmp" if name is None else f".{glob.escape(name)}.*.tmp"
    for draft in [*(folder.rglob(pattern) if recursive else folder.glob(pattern))]:
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def require_folder(path: Path, key: str) -> None:
    """See that a folder is there, or make it.

    Raises:
        ConfigError: if it cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{key}={path} cannot be made: {error.strerror}.\nExpected: a folder, or the name of a new one."
        ) from error


def require_outside(path: Path, root: Path) -> None:
    """See that a folder to write to does not lie in one that is only read.

    Raises:
        ConfigError: if it does.
    """
    if path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"out={path} lies in the data set's folder {root}, which is only read.\nChoose another.")


def write_text_atomically(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text file in UTF-8, see :func:`atomic_write`; ``errors="replace"`` where names of files may be in it."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", errors))


def to_json(value: Any) -> str:
    """Readable JSON with sorted keys: equal values are equal texts."""
    return json.dumps(_without_nan(value), indent=2, sort_keys=True, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    """Numbers that are none (the score of a class that does not occur) become null, as JSON has no nan."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
