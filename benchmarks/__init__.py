"""What the benchmarks share: command line, tables, and timing in turns."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of the command line that prints a module's docstring as it is."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def table(*columns: str, **options: Any) -> Table:
    """An empty table; all columns but the first are numbers."""
    result = Table(box=SIMPLE_HEAD, title_justify="left", **options)
    for index, column in enumerate(columns):
        result.add_column(column, justify="right" if index else "left")
    return result


def seconds(way: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Name -> seconds of each of `rounds` rounds, after untimed ones; the ways take turns, so that load affects all."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + rounds):
        for name, way in ways.items():
            took = seconds(way)
            if turn >= warm_up:
                times[name].append(took)
    return times
