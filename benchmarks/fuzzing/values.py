"""Mutations of plain values: the trees of JSON, YAML and checkpoints."""

from __future__ import annotations

import copy
import random
from typing import Any

from benchmarks.fuzzing.form import CANARY, OUTSIDE

NUMBERS = (0, -1, 1, 255, 256, 2**31, 2**63, 10**30, -(2**63), 0.5, 1e30, -1e308, float("inf"), float("nan"))
TEXTS = (
    *(
        "",
        " ",
        "nan",
        "1",
        "-1",
        "1e999",
        "true",
        "x" * 5000,
        "\x00",
        "\ud800",
        "é\u202e",
        "%(name)s",
        "${oc.env:HOME}",
    ),
    *("train", "val", "test", "done", "running", "failed", "segment", "finetune", "classify", "evaluate", "lapa", "."),
    *(f"../{OUTSIDE}/{CANARY}.png", f"images/../../{OUTSIDE}/{CANARY}.png", "/etc/hostname", "a\nb", "..", "[/]"),
)


def other_value(rng: random.Random) -> Any:
    """A value of any type."""
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return rng.choice(TEXTS)
    if kind == 4:
        return rng.choice((None, True, False))
    if kind == 5:
        return [other_value(rng) for _ in range(rng.randrange(4))]
    if kind == 6:
        return {str(rng.choice(TEXTS)): other_value(rng) for _ in range(rng.randrange(3))}
    return nested(rng.choice((5, 50, 300)))


def nested(depth: int) -> Any:
    """Lists or objects within one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def changed(rng: random.Random, value: Any) -> Any:
    """A tree with one to three of its nodes changed: other values, keys that are absent, renamed or added."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(rng, root)
    return root[0]


def _change(rng: random.Random, root: list[Any]) -> None:
    place: Any = root
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
        place = place[key]
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
    kind = rng.randrange(6)
    if kind == 0 and place is not root:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[str(rng.choice(TEXTS))] = place.pop(key)
    elif kind == 2 and isinstance(place[key], list) and place[key]:
        place[key] = place[key][: rng.randrange(len(place[key]))] + place[key] * rng.choice((0, 1, 3))
    elif kind == 3 and isinstance(place[key], int | float) and not isinstance(place[key], bool):
        place[key] = rng.choice(NUMBERS)
    else:
        place[key] = other_value(rng)
