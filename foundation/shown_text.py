"""Text as it is shown: on any terminal, without control characters, without paths of one machine."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich import control

PROJECT = Path(__file__).parent.parent
CONTROLS = "".join(map(chr, (*range(9), *range(11, 32), *range(127, 160))))
PLAIN = {"—": "-", "–": "-", "−": "-", "·": "|", "±": "+-", "×": "x", "→": "->", "…": "...", "“": '"', "”": '"'}
"""Characters of the project's own tables and messages that not every terminal has -> a plain form."""
HOMES = (r"/root", r"/(?:home|Users)/[^/\s'\",:;()]+")
"""Homes of any user, also of another machine that a run was copied from."""

PARALLEL_JOBS = "HALFMASK_PARALLEL_JOBS"
"""Environment variable of processes that share a terminal with other jobs of a sweep."""


def printable(text: str) -> str:
    """A text in one piece: control characters, which can change a terminal, become escapes as ``\\x1b``; lines stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def print_any_text() -> None:
    """Let standard output and error take any text: what their encoding lacks is written plainly, or as an escape.

    Control characters in tables, in lines printed with rich and in tracebacks become escapes, see :func:`printable`.
    """
    removed: dict[int, Any] = control._CONTROL_STRIP_TRANSLATE
    removed.update({ord(letter): printable(letter) for letter in CONTROLS})
    sys.excepthook = _print_traceback
    codecs.register_error("plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook may have replaced it
            with contextlib.suppress(OSError):  # what was a file when it was opened and is a pipe now
                stream.reconfigure(errors="plain")


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):  # a stream that is read back
        return codecs.backslashreplace_errors(error)
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, letter.encode("unicode_escape").decode()) for letter in letters), error.end


class Paths:
    """Makes the absolute paths in texts relative: those in known folders, in the project, and in a home.

    Args:
        folders: known folders, as the output folder or the data root; a path in one of them begins with its name.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 (without a home it returns "~" and raises nothing)
        shown = {str(PROJECT): "."}
        for folder in folders:
            forms = {folder.absolute(), folder.resolve()}
            # The root is in every path; the name of a home is a user's.
            shown |= {str(form): form.name for form in forms if len(form.parts) > 1 and form != home}
        self._shown = shown
        longest_first = "|".join(re.escape(path) for path in sorted(shown, key=len, reverse=True))
        homes = "|".join([*([re.escape(str(home))] if len(home.parts) > 1 else []), *HOMES])
        start, end = r"(?<![\w.~-])", r"(?![\w-]|\.\w)"  # a path, not the end or the beginning of a longer name
        self._folder = re.compile(f"{start}(?:{longest_first}){end}")
        self._home = re.compile(f"{start}(?:{homes}){end}")

    def relative(self, text: str) -> str:
        """The text with such paths relative, those below any home as ``~/...``."""
        return self._home.sub("~", self._folder.sub(lambda found: self._shown[found[0]], text)) if "/" in text else text

    def relative_in(self, value: Any) -> Any:
        """A JSON value with every text in it made relative."""
        if isinstance(value, str):
            return self.relative(value)
        if isinstance(value, dict):
            return {name: self.relative_in(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.relative_in(part) for part in value]
        return value


def duration(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``12 min``, ``1 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if minutes < 90 else f"{hours} h {rest} min" if rest else f"{hours} h"
