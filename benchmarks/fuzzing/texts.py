"""Files of text by their structure: JSON, YAML, tables of columns, lines, XML and INI."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from benchmarks.fuzzing.form import CANARY, OUTSIDE
from benchmarks.fuzzing.values import NUMBERS, TEXTS, changed

Maker = Callable[[random.Random, Sequence[bytes]], bytes]

DEEP = (100, 2_000, 100_000)


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def json_file(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """A JSON text of other values, of great depth, or with keys twice."""
    original = json.loads(rng.choice(originals))
    kind = rng.randrange(12)
    if kind == 0:
        depth = rng.choice(DEEP)
        inner = rng.choice(('{"a":%s}', "[%s]")).partition("%s")
        return encoded(inner[0] * depth + "1" + inner[2] * depth)
    value = changed(rng, original)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.7)
    if kind == 1:
        text = text.replace("}", ', "state": 1, "id": 2}', 1)
    if kind == 2:
        text = re.sub(r"\d+", lambda _: "9" * 6000, text, count=1)
    return encoded(text)


def json_lines(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """JSON texts, one a line, of which one is changed."""
    lines = rng.choice(originals).splitlines()
    place = rng.randrange(len(lines))
    lines[place] = json_file(rng, [lines[place]])
    return (
        rng.choice((b"\n", b"\r\n", b"\n\n", "\u2028".encode())).join(lines)
        if rng.random() < 0.2
        else b"\n".join(lines)
    )


ODD_YAML = (
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "classes: !!python/object/apply:os.system ['touch canary']\n",
    "<<: {classes: 1}\n",
    "? [a, b]\n: c\n",
    "classes: !!int ''\n",
    "classes: !!float ''\n",
    "classes: !!bool maybe\n",
    "classes: !!timestamp never\n",
    "classes: 2001-99-99\n",
    "classes: !!binary '*'\n",
    "classes: !!set {a, b}\n",
    "classes: !!omap [a]\n",
    "classes: !!pairs [[a]]\n",
    "%YAML 9.9\n---\nclasses: []\n",
    "--- 1\n--- 2\n",
    "name: ${oc.env:HOME}\nclasses: ${name}\n",
    "name: ${name}\n",
    "name: ${\n",
    "0o17: 0b2\n1:2:3: 08\n",
    "=: =\n",
    "\t- a\n",
    "{" * 700,
    "- " * 700,
    "a: " + "'" * 9999,
)


def yaml_file(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """A YAML text of other values, or with one of its rarely used forms."""
    if rng.random() < 0.3:
        odd = rng.choice(ODD_YAML)
        return encoded(odd if rng.random() < 0.5 else rng.choice(originals).decode() + "\n" + odd)
    value = changed(rng, yaml.safe_load(rng.choice(originals)))
    if rng.random() < 0.5:
        return encoded(json.dumps(value))
    try:
        return yaml.safe_dump(value, default_flow_style=rng.choice((None, True, False)), sort_keys=False).encode()
    except (yaml.YAMLError, UnicodeEncodeError):
        return encoded(json.dumps(value))


WORDS = (*TEXTS, *map(str, NUMBERS), "1_0", "²", "٣", "0x1", "1,2", "\u3000", "\x0c", "\x85", "0.jpg", "000001.jpg")


def table(separators: str) -> Maker:
    """Lines of columns: cells of other words, lines absent, twice, in another order, of other lengths."""

    def make(rng: random.Random, originals: Sequence[bytes]) -> bytes:
        lines = rng.choice(originals).decode("utf-8", "replace").splitlines()
        for _ in range(rng.choice((1, 1, 2, 4))):
            place, separator = rng.randrange(len(lines)), rng.choice(separators)
            cells = lines[place].split(separator)
            kind = rng.randrange(7)
            if kind < 3:
                cells[rng.randrange(len(cells))] = str(rng.choice(WORDS))
                lines[place] = separator.join(cells)
            elif kind == 3:
                lines[place] = separator.join(cells[: rng.randrange(len(cells))] + cells * rng.choice((0, 1, 20)))
            elif kind == 4:
                lines[place : place + 1] = [lines[place]] * rng.choice((0, 2, 300))
                lines = lines or [""]
            elif kind == 5:
                rng.shuffle(lines)
            else:
                lines[place] = rng.choice(("", '"', '"' * 3, "x" * 200_000, "\x00", ",," * 50, "#", "=1+1"))
        return encoded(rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(lines))

    return make


ODD_XML = (
    '<?xml version="1.0" encoding="xyz"?><annotation/>',
    '<?xml version="1.0" encoding="utf-7"?><annotation/>',
    '<?xml version="1.0" encoding="utf-16"?><annotation/>',
    '<?xml version="1.0" encoding="euc-jp"?><annotation/>',
    "<a>" * 50_000 + "</a>" * 50_000,
    '<!DOCTYPE a [<!ENTITY b "'
    + "c" * 1000
    + '">'
    + "".join(f'<!ENTITY {second} "{f"&{first};" * 20}">' for first, second in zip("bdefgh", "defghi", strict=True))
    + "]><a>&i;</a>",
    f'<!DOCTYPE a [<!ENTITY b SYSTEM "../../{OUTSIDE}/{CANARY}.txt">]><a><filename>&b;</filename></a>',
    f'<!DOCTYPE a SYSTEM "../../{OUTSIDE}/{CANARY}.txt"><annotation/>',
)


def xml_file(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """An XML text with other texts in its elements, elements absent or twice, or rarely used declarations."""
    if rng.random() < 0.15:
        return rng.choice(ODD_XML).encode()
    text = rng.choice(originals).decode()
    for _ in range(rng.choice((1, 1, 2))):
        elements = list(re.finditer(r"<(\w+)>([^<]*)</\1>", text))
        if not elements:
            break
        match = rng.choice(elements)
        word = str(rng.choice(WORDS)).replace("&", "").replace("<", "")
        new = rng.choice((f"<{match[1]}>{word}</{match[1]}>",) * 4 + ("", match[0] * 2, f"<b>{match[0]}</b>"))
        text = text[: match.start()] + new + text[match.end() :]
    return encoded(text)


def ini_file(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """An INI text with other values, sections or keys twice, interpolations."""
    lines = rng.choice(originals).decode().splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(lines))
        key, equals, _ = lines[place].partition("=")
        odd: Any = rng.choice((*WORDS, "50%", "%(mask_a)s", "%(absent)s", "1,2", "nan, nan", "1e30, 0", "1,"))
        lines[place] = rng.choice(
            (f"{key}{equals or '='}{odd}", lines[place] + "\n" + lines[place], f"[{odd}]", "", " x")
        )
    return encoded("\n".join(lines))
