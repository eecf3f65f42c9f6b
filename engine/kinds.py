"""Kinds of values: what reads one into its canonical form (ValueError if it cannot be), and what is expected, said."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def integer(least: int, multiple: int = 1, most: int | None = None) -> tuple[Callable[[Any], int], str]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least or value % multiple:
            raise ValueError
        if most is not None and value > most:
            raise ValueError
        return value

    bounds = f"of at least {least}" + (f" and at most {most}" if most is not None else "")
    return read, f"a whole number {bounds}" + (f", a multiple of {multiple}" if multiple > 1 else "")


def number(least: float, most: float = math.inf, open_below: bool = False) -> tuple[Callable[[Any], float], str]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError
        if not math.isfinite(value) or (open_below and value == least):
            raise ValueError
        return float(value)

    below = f"above {least:g}" if open_below else f"of at least {least:g}"
    return read, f"a number {below}" + (f" and at most {most:g}" if most < math.inf else "")


def pair(item: tuple[Callable[[Any], Any], str]) -> tuple[Callable[[Any], list], str]:
    def read(value: Any) -> list:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError
        low, high = (item[0](part) for part in value)
        if low > high:
            raise ValueError
        return [low, high]

    return read, f"[smallest, largest], each {item[1]}"


def choice(*values: Any) -> tuple[Callable[[Any], Any], str]:
    def read(value: Any) -> Any:
        if not any(value is known or (value == known and type(value) is type(known)) for known in values):
            raise ValueError
        return value

    return read, "one of " + ", ".join(
        str(value).lower() if isinstance(value, bool) else str(value) for value in values
    )


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def optional(kind: tuple[Callable[[Any], Any], str]) -> tuple[Callable[[Any], Any], str]:
    return (lambda value: None if value is None else kind[0](value)), f"null or {kind[1]}"
