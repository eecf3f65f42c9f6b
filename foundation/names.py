"""Text from data (ids, class names, paths) as bytes, as one file name, and on the screen: it may hold any character."""

from __future__ import annotations

import hashlib
import re

LONGEST = 255
"""Bytes of a file name on the usual file systems."""
LONGEST_NAME = 100
"""Characters of an id or of a group that a data set declares."""

CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters, line and direction marks, and bytes of file names that are not UTF-8 (lone surrogates)."""
_CONTROL = re.compile(f"[{CONTROL}]")
_IN_LINES = re.compile(f"(?![\n\t])[{CONTROL}]")
_NO_NAME = re.compile(rf"[{CONTROL}/\\]|^\.")


def to_bytes(text: str) -> bytes:
    """UTF-8, for digests. A byte of a file name that is not UTF-8 stays this byte, as in ``os.fsencode``."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON can hold
        return text.encode("utf-8", "surrogatepass")


def shown(text: object, lines: bool = False) -> str:
    """A text as it may be printed or drawn: control characters and bytes that are not UTF-8 become ``\\x1b``.

    Args:
        text: a name, a path, or a message.
        lines: keep line breaks and tabs.
    """
    return (_IN_LINES if lines else _CONTROL).sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """A text as one line of a file, a different one for every text; itself unless it holds control characters."""
    line = shown(text)
    return line if line == text else f"{line}~{_digest(text)}"


def file_name(text: str, room: int = 40) -> str:
    """A text from data as the name of one file, without its ending; ``/`` becomes ``__``.

    A name that is too long, or holds what a file name must not, is changed and ends in a digest of the text, so that
    different texts stay different files.

    Args:
        text: the text.
        room: bytes that endings such as ``.prediction.png`` may take.
    """
    name = text.replace("/", "__")
    plain = _NO_NAME.sub("_", name) or "_"
    if plain != name or len(to_bytes(plain)) > LONGEST - room:
        tail = f"~{_digest(text)}"
        plain = to_bytes(plain)[: LONGEST - room - len(tail)].decode("utf-8", "ignore") + tail
    return plain


def is_name(text: object) -> bool:
    """Whether a value from data is a text that can be one name: at most 100 characters, no ``/`` or control characters,
    no dot in front."""
    return isinstance(text, str) and 0 < len(text) <= LONGEST_NAME and not _NO_NAME.search(text)


def _digest(text: str) -> str:
    return hashlib.sha256(to_bytes(text)).hexdigest()[:10]
