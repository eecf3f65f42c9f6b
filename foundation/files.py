"""Writing that is whole or absent."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from foundation.errors import ConfigError


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, so that a reader, or a crash, finds the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def require_folder(path: Path, key: str) -> None:
    """See that a folder is there, or make it.

    Raises:
        ConfigError: if it cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ConfigError(
            f"{key}={path} cannot be made: {fault.strerror}.\nExpected: a folder, or the name of a new one."
        ) from fault


def require_outside(path: Path, root: Path) -> None:
    """See that a folder to write to does not lie in one that is only read.

    Raises:
        ConfigError: if it does.
    """
    if path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"out={path} lies in the data set's folder {root}, which is only read.\nChoose another.")


def write_whole(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text file in UTF-8, see :func:`whole`; ``errors="replace"`` where names of files may stand in it."""
    with whole(path) as file:
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
