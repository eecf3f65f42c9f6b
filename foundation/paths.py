"""Paths that data names: they lie below the folder of the data, and are ordinary files.

A table, list or manifest comes with the data, often from elsewhere. A name in it must not lead to other files of the
user. Links are another matter, since whoever owns the folder made them: a folder's own entry may be a link to an
ordinary file anywhere, as in copies that save space.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from foundation.errors import DataError
from foundation.names import LONGEST, shown, to_bytes


def ordinary(path: Path) -> Path:
    """The same path, if it or what it links to is an ordinary file: opening a FIFO or a device may never return.

    Raises:
        OSError: if it is absent, or anything else.
    """
    status_of(path)
    return path


def status_of(path: Path) -> os.stat_result:
    """The status of an ordinary file, see :func:`ordinary`."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
    return status


class DataRoot:
    """The folder that names in data are resolved in.

    Args:
        folder: the folder.
        links: follow links that lead out of it: for folders that users assemble. Without, as for files that a build
            wrote, such a link is an error.
    """

    def __init__(self, folder: Path, links: bool = False) -> None:
        self.folder, self.links = folder, links
        self._within: dict[Path, bool] = {}

    def file(self, name: object, source: str) -> Path:
        """The path of a file that data names; the file may be absent.

        Args:
            name: the name as it stands in the data, with ``/`` between folders.
            source: what names it, for messages.

        Raises:
            DataError: if it is no text, is absolute, leads out of the folder, or is not an ordinary file.
        """
        if not isinstance(name, str) or not _stays_below(name):
            raise DataError(
                f"{source} names the file {shown(repr(name))[:200]}.\n"
                f"Expected: the name of a file below {self.folder}, without .. in it."
            )
        path = self.folder / name
        try:
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and self.links:
                return path
            if stat.S_ISLNK(mode):
                leads_out = not self.links and not self._is_within(path.resolve())
                mode = path.stat().st_mode
            else:
                leads_out = not self.links and not self._is_within(path.parent)
        except OSError:  # absent: what reads it says so
            return path
        if leads_out or not stat.S_ISREG(mode):
            what = f"leads out of {self.folder}" if leads_out else "is not an ordinary file"
            raise DataError(f"{source} names {path}, which {what}.\nExpected: an ordinary file below that folder.")
        return path

    def _is_within(self, path: Path) -> bool:
        """Whether a path lies below the folder after all links; each folder is resolved once."""
        if path not in self._within:
            self._within[path] = path.resolve().is_relative_to(self.folder.resolve())
        return self._within[path]


def _stays_below(name: str) -> bool:
    parts = re.split(r"[/\\]" if os.sep == "\\" else "/", name)
    too_long = any(len(to_bytes(part)) > LONGEST for part in parts)
    return bool(name) and "\0" not in name and not too_long and ".." not in parts and not Path(name).anchor
