"""The commands and code blocks of the README, the guides and the examples, as tests read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md"))
)
STARTERS = ("python", "make", "torchrun", "sbatch", "source", "watch", "wandb", "uvx")
"""First words of the lines that are commands; other indented lines are listings."""
PLACEHOLDERS = {
    r"<[^<>]*pre-training>": "pretrain-0123456789ab",
    r"segment-\.\.\.": "segment-0123456789ab",
    r"<you>": "me",
    r"<[a-z][^<>]*>": "finetune-0123456789ab",
    r"\.\.\.|…": "",
}
"""What a reader fills in, and what the tests take for it."""


@dataclass(frozen=True)
class Command:
    """A command of a document: file and line, and its words."""

    place: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A fenced block: file and line, its language, its text."""

    place: str
    language: str
    text: str


def commands(name: str) -> list[Command]:
    """The commands of a document; variables that its lines set (``S="scale=small"``) are replaced."""
    found: list[Command] = []
    variables: dict[str, str] = {}
    for line, text in _indented(name):
        for key, value in re.findall(r'\b([A-Z])=("[^"]*"|\S+?)(?:;|$|\s)', text):
            variables[key] = " ".join(value.strip('"').split())
        for key, value in variables.items():
            text = text.replace(f"${key}", value)
        for pattern, value in PLACEHOLDERS.items():
            text = re.sub(pattern, value, text)
        if text.split()[0] in STARTERS:
            found.extend(_split(f"{name}:{line}", shlex.split(text, comments=True)))
    return found + list(_tabled(name))


def _tabled(name: str) -> Iterator[Command]:
    """Commands in the cells of tables."""
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
        for text in re.findall(r"`(python [^`]+)`", line) if line.startswith("|") else ():
            for pattern, value in PLACEHOLDERS.items():
                text = re.sub(pattern, value, text)
            yield from _split(f"{name}:{number}", shlex.split(text.replace("\\|", "|"), comments=True))


def _split(place: str, words: list[str]) -> Iterator[Command]:
    """The commands that && joins."""
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        yield Command(place, tuple(words[:end]))
        words = words[end + 1 :]


def _indented(name: str) -> Iterator[tuple[int, str]]:
    """Lines of indented blocks with their numbers; lines that continue another are joined."""
    pending, start, fenced = "", 0, False
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.startswith("```")
        if fenced or not line.startswith("    ") or not line.strip():
            continue
        start = start if pending else number
        pending = f"{pending} {line.strip()}".strip()
        if pending.endswith("\\") or pending.count('"') % 2 or pending.count("'") % 2:
            pending = pending.removesuffix("\\")
            continue
        yield start, pending
        pending = ""


def blocks(name: str) -> list[Block]:
    """The fenced blocks of a document."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [
        Block(f"{name}:{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2])
        for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def links(name: str) -> list[Path]:
    """The files of this project that a document links to, or shows."""
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^()\s]+)\)", text)
    return [(ROOT / name).parent / target.partition("#")[0] for target in targets if "://" not in target]
