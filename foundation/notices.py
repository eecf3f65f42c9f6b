"""Notices: what the user should know though nothing failed, such as files that are left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from foundation.names import shown

NAMED = 5
"""Files that a notice names."""
_shown: set[str] = set()


def notice(text: str) -> None:
    """Print a text to the error stream, each text once and by the first of several processes only."""
    if text in _shown or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    _shown.add(text)
    print(f"Note: {shown(text, lines=True)}", file=sys.stderr, flush=True)


def first_of(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
