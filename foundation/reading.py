"""Read files that others may have written: only regular files inside one folder, up to a size and a depth of nesting.

A folder of runs or of data may hold anything: a link to a file elsewhere, a FIFO that nobody writes to, a device
without an end, JSON nested a million deep. Each of them is an :class:`UnreadableError` with the reason, at once. A link
is not followed, wherever it points; only the given folder itself may be one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
DEEPEST = 32
"""Deepest nesting of JSON and YAML that is read: deeper values end in a RecursionError wherever they are used."""
MOST_DIGITS = 300
"""Longest number of YAML, in characters: longer ones of base 16 or 60 are integers that Python does not write out."""
MOST_ENTRIES = 20_000
"""Largest number of files and folders in a listing."""


class UnreadableError(Exception):
    """A file that is not read; the message is the reason alone, without the file's name."""


class MissingFileError(UnreadableError):
    """A file or folder that does not exist."""


def read_bytes(folder: Path, name: str, most: int) -> bytes:
    """The content of a regular file.

    Args:
        folder: the folder; it may be a link.
        name: the file's path below the folder, with ``/``; no part of it may be a link.
        most: largest size in bytes.

    Raises:
        MissingFileError: if there is no such file.
        UnreadableError: if it is not a regular file, too large, or not permitted.
    """
    *parents, last = _parts(name)
    with _reasons(), _opened_folder(folder, parents) as parent:
        # Opening a device can have an effect, so its kind is looked up first, and again once it is open.
        _require_regular(os.stat(last, dir_fd=parent, follow_symlinks=False), most)
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        with open(file, "rb") as opened:  # noqa: PTH123 (a descriptor)
            found = os.fstat(file)
            _require_regular(found, most)
            return opened.read(found.st_size)  # what a writer adds meanwhile is left out


def list_folder(folder: Path, name: str = "") -> tuple[list[str], list[str]]:
    """Sorted names of the folders and of the regular files in a folder; links and all else are left out.

    Args:
        folder: the folder; it may be a link.
        name: path of a folder below it, no part of which may be a link; "" lists the folder itself.

    Raises:
        MissingFileError: if it does not exist.
        UnreadableError: if it is no folder, not permitted, or has more than :data:`MOST_ENTRIES` entries.
    """
    folders, files = [], []
    with _reasons(), _opened_folder(folder, _parts(name)) as opened, os.scandir(opened) as entries:
        for number, entry in enumerate(entries):
            if number >= MOST_ENTRIES:
                raise UnreadableError(f"it has more than {MOST_ENTRIES} entries")
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                files.append(entry.name)
    return sorted(folders), sorted(files)


def read_json(folder: Path, name: str, most: int = MEBIBYTE) -> Any:
    """The value of a JSON file, see :func:`read_bytes`. NaN and infinite numbers, as ``1e400``, are read as None.

    Raises:
        UnreadableError: if the file is not read, or is no JSON in UTF-8 of at most :data:`DEEPEST` levels.
    """
    content = read_bytes(folder, name, most)
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError as error:
        raise UnreadableError(_TOO_DEEP) from error
    except ValueError as error:
        raise UnreadableError(f"it is no JSON: {error}") from error
    _require_shallow(value)
    return value


def read_yaml(folder: Path, name: str, most: int = MEBIBYTE) -> Any:
    """The value of a YAML file of plain values, see :func:`read_bytes`; without aliases, which can stand for gigabytes.

    Raises:
        UnreadableError: if the file is not read, or is no such YAML in UTF-8 of at most :data:`DEEPEST` levels.
    """
    content = read_bytes(folder, name, most)
    try:
        return plain_yaml(content.decode("utf-8"))
    except ValueError as error:
        raise UnreadableError(f"it is no YAML: {error}") from error


def plain_yaml(text: str, deepest: int = DEEPEST) -> Any:
    """The plain value that a YAML text stands for.

    Raises:
        UnreadableError: if it is no YAML, uses aliases, is nested more than ``deepest`` deep, or holds a long number.
    """
    import yaml

    starts = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken)
    opening = (*starts, yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
    closing = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
    try:
        depth = 0
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise UnreadableError("it uses YAML aliases (*name)")
            depth += isinstance(token, opening) - isinstance(token, closing)
            if depth > deepest:
                raise UnreadableError(f"it is nested more than {deepest} deep")
            if isinstance(token, yaml.ScalarToken) and _LONG_NUMBER.fullmatch(token.value):
                raise UnreadableError(f"it has a number of more than {MOST_DIGITS} digits")
        return yaml.safe_load(text)
    # A tag such as !!int on another value ends its constructor in an error that is none of YAML's.
    except (
        yaml.YAMLError,
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise UnreadableError(f"it is no YAML: {' '.join(str(error).split())[:200]}") from error


_LONG_NUMBER = re.compile(rf"[0-9a-fA-FxXoO_:.+-]{{{MOST_DIGITS},}}")
_TOO_DEEP = f"it is nested more than {DEEPEST} deep"


def _parts(name: str) -> list[str]:
    parts = name.split("/") if name else []
    if any(part in ("", ".", "..") for part in parts):
        raise UnreadableError("its name leads out of its folder")
    return parts


@contextlib.contextmanager
def _opened_folder(folder: Path, parts: list[str]) -> Iterator[int]:
    """A descriptor of a folder below another one: no part can be replaced by a link between check and use."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    opened = os.open(folder, flags)
    try:
        for part in parts:
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=opened)
            os.close(opened)
            opened = below
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turn an error of the system into its reason."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError("it does not exist") from error
    except OSError as error:
        raise UnreadableError(error.strerror or type(error).__name__) from error
    except ValueError as error:  # a null byte in a name
        raise UnreadableError(f"its name is invalid: {error}") from error


def _require_regular(found: os.stat_result, most: int) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnreadableError("it is a link")
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableError("it is no regular file")
    if found.st_size > most:
        limit = f"{most / MEBIBYTE:g} MiB" if most >= MEBIBYTE else f"{most} bytes"
        raise UnreadableError(f"it is larger than {limit}")


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise UnreadableError(_TOO_DEEP)
