"""Lint: refuse words that this project replaces by those of papers and libraries (``make lint``).

Reads the names and the prose of every tracked .py, .yaml, .md and .html file; ``snake_case`` and ``CamelCase`` are
split into words. Prints file, line, the word, and what to write instead.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SUFFIXES = (".py", ".yaml", ".md", ".html")
OWN_FILES = ("tests/words.py", "tests/test_words.py")

INSTEAD = {
    r"pictur(e|es|ed)": "image",
    r"faults?|faulty": "error, exception; broken",
    r"(?P<fine>ground )?truths?": "ground truth",
    r"(?P<fine>un)?hidden|hides (a|the) faces?|what hides": "occluded, occlusion; masked (patches)",
    r"wears": "mask type, wearing style, texture",
    r"drawn (faces?|masks?|labels?)": "synthetic face; rendered mask",
    r"draws of labels|label draws?": "random subsets",
    r"answers?|answered|answering": "prediction, logits, output; returns",
    r"cannot be(?=[.,;:\\\"')])": "is invalid, must be ...",
    r"circumstances?": "environment, hardware info",
    r"tells|told": "broadcasts, reports, logs",
    r"(learns?|waits?) alone": "frozen for N epochs",
    r"by lot|lots drawn": "random, shuffled",
    r"anew": "again",
    r"dyes?|dyed|dyeing": "colour augmentation, recolour",
    r"beside": "next to",
    r"doors?": "entry point, command",
    r"goes on|went on": "resumes, continues",
    r"(is|are|stays?) whole": "complete",
}
"""Refused words (regular expressions; a match with the group "fine" is allowed) and what to write instead."""

EXCEPTIONS: dict[str, tuple[str, ...]] = {
    "reports/page.html": (r"hidden", r"picture"),  # an attribute and an element of HTML
    "tests/test_report_page.py": (r"row\.hidden", r"truth"),  # that attribute; the file name of older panels
    "reports/panels.py": (r"truth",),  # the file name of older panels
    "synthesis/masks/textures.py": (r"tie dye",),  # the texture
    "tests/test_masked_faces.py": (r"hidden\.jpg",),  # a file that the system hides
    "datamodules/layouts/layout.py": (r"hidden files",),
}
"""File -> regular expressions that are allowed there, each with a comment that gives the reason."""


def normalized(text: str) -> str:
    """Lower-case text with names split into words; line breaks stay, so that line numbers do."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ").lower()


def found(text: str, allowed: tuple[str, ...] = ()) -> Iterator[tuple[int, str, str]]:
    """Line, refused word and replacement of each match in a text, phrases across line breaks included."""
    text = normalized(text)
    for pattern in allowed:
        text = re.sub(_phrase(pattern), "", text)
    for pattern, instead in INSTEAD.items():
        for match in re.finditer(_phrase(pattern), text):
            if not match.groupdict().get("fine"):
                yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].replace("#", " ").split()), instead


def _phrase(pattern: str) -> str:
    return r"\b(?:" + pattern.replace(" ", r"[\s#]+") + r")(?!\w)"


def main() -> int:
    """Check all tracked files; the number of matches."""
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    skipped = OWN_FILES
    names = [name for name in listed.splitlines() if name.endswith(SUFFIXES) and not name.startswith(skipped)]
    count = 0
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8")
        for line, word, instead in sorted(found(text, EXCEPTIONS.get(name, ()))):
            print(f"{name}:{line}: {word!r}: write {instead}")
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(min(main(), 1))
