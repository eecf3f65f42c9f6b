"""Atomic writing: a file or folder is complete or absent, whatever interrupts its writer."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from foundation.errors import ConfigError
from foundation.names import LONGEST, file_name, to_bytes

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@contextlib.contextmanager
def atomic_write(path: Path, *, sync: bool = True, exclusive: bool = False) -> Iterator[BinaryIO]:
    """Open a file for atomic writing: readers see the old content or the new, also after a crash, never a mixture.

    The draft is a dotfile in the same folder, renamed when the block ends and removed if the block raises. A killed
    process leaves its draft behind, see :func:`remove_drafts`.

    Args:
        path: the file; missing parent folders are created.
        sync: call fsync, so that the content survives a power cut; writing is faster without.
        exclusive: no other process writes this file at the same time. The draft then has a fixed name, and the next
            write replaces the draft of a killed process.
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
    """A draft path for atomic writing of a file or folder, for writers that take a path: video encoders, exporters.

    The draft is in a temporary dot folder next to ``path``. When the block ends, the draft replaces ``path``, even if
    that is a folder with content. If the block raises or writes nothing, ``path`` does not change.

    Args:
        path: the file or folder; missing parent folders are created.
        draft_name: the draft's name, for writers that store it in the file; default: the name of ``path``.
    """
    folder = _draft(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        draft = folder / (draft_name or path.name)
        yield draft
        if draft.exists():
            if draft.is_dir():  # rename fails on a folder that is not empty
                shutil.rmtree(path, ignore_errors=True)
            draft.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _draft(path: Path, exclusive: bool = False) -> Path:
    name = _draft_stem(path.name)
    return path.with_name(f".{name}.tmp" if exclusive else f".{name}.{os.getpid()}.tmp")


def _draft_stem(name: str) -> str:
    """The part of a draft's name that identifies its file: the file's name, shortened if the rest would not fit."""
    room = 25  # for the dot in front, and .<process>.tmp
    return name if len(to_bytes(name)) <= LONGEST - room else file_name(name, room)


def remove_drafts(folder: Path, name: str | None = None, recursive: bool = False) -> None:
    """Remove the drafts of killed processes; no other process may write there at the same time.

    Args:
        folder: where to look.
        name: only drafts of the file or folder of this name; None removes all.
        recursive: look in all folders below too.
    """
    pattern = ".*.tmp" if name is None else f".{glob.escape(_draft_stem(name))}.*.tmp"
    for draft in [*(folder.rglob(pattern) if recursive else folder.glob(pattern))]:
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def require_folder(path: Path, key: str) -> None:
    """Create a folder unless it exists.

    Raises:
        ConfigError: if it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{key}={path} cannot be created: {error.strerror}.\nIt must be a folder, or the name of a new one."
        ) from error


def require_writable(path: Path, key: str) -> None:
    """Create a folder unless it exists, and see that files can be made in it: it may be on a read-only disk.

    Raises:
        ConfigError: if not.
    """
    require_folder(path, key)
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{key}={path} cannot be written to.\nIt must be a folder in which you may make files.")


def require_outside(path: Path, root: Path) -> None:
    """Check that an output folder is not inside the data set's folder.

    Raises:
        ConfigError: if it is.
    """
    if path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"out={path} is inside the data set's folder {root}, which is read-only.\nChoose another folder."
        )


def write_text_atomically(path: Path, text: str, errors: str = "backslashreplace") -> None:
    """Write a text file in UTF-8, see :func:`atomic_write`; ``errors`` is for file names that are not UTF-8."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", errors))


def to_json(value: Any) -> str:
    """Readable JSON with sorted keys: equal values are equal texts."""
    return json.dumps(_without_nan(value), indent=2, sort_keys=True, allow_nan=False) + "\n"


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Comma-separated values for people, whose spreadsheet would run a text that begins as a formula does.

    Such a text begins with an apostrophe in the file; numbers and texts of numbers, as ``-1.5``, stay as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_no_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # the writer does not quote a cell for its \\r
    if not cell.startswith(("=", "+", "-", "@", "\t", "\n")):
        return cell
    return cell if NUMBER.fullmatch(cell) else f"'{cell}"


def _without_nan(value: Any) -> Any:
    """Replace NaN and infinity (such as the score of an absent class) by None: JSON has neither."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
