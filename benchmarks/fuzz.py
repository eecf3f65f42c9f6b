"""Read mutated files of every form: images, label maps, lists, manifests, run folders, checkpoints, videos.

    python -m benchmarks.fuzz                                # 2,000 files of each form
    python -m benchmarks.fuzz only=status.json count=100     # a hundred of one form
    python -m benchmarks.fuzz only=status.json seed=17       # one file again: written to outputs/fuzz, with tracebacks

Each file goes through the readers that the commands use. None may raise an exception other than the project's own,
take more than 10 s or 2 GiB, open a file outside the given folder, start a process or crash. The exit code is 1 if one
does.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.fuzzing.form import Form
from benchmarks.fuzzing.forms import FORMS
from benchmarks.fuzzing.processes import outcomes
from benchmarks.fuzzing.reading import Failure, Outcome

KEPT = Path("outputs/fuzz")
COLUMNS = ("form", "files", "read", "refused", "errors", "slowest, ms", "peak, MiB", "CPU, s")


def fuzz(forms: Iterable[Form], seeds: range, console: Console) -> list[Failure]:
    """Read the files of some forms and print the table; returns every failure."""
    table = Table(title="Mutated files")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "form" else "right", no_wrap=True)
    failures: list[Failure] = []
    for form in forms:
        started = _processor_time()
        found = [outcome for _, outcome in outcomes(form, seeds)]
        row = _row(form, found, _processor_time() - started)
        table.add_row(*row)
        console.print(", ".join(f"{name}: {cell}" for name, cell in zip(COLUMNS, row, strict=True)), style="dim")
        failures += [failure for outcome in found for failure in outcome.failures]
    console.print(table)
    return failures


def _processor_time() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _row(form: Form, found: list[Outcome], seconds: float) -> tuple[str, ...]:
    errors = sum(bool(outcome.failures) for outcome in found)
    refused = sum(outcome.refused and not outcome.failures for outcome in found)
    numbers = (len(found), len(found) - errors - refused, refused, errors)
    slowest, memory = (max(getattr(outcome, name) for outcome in found) for name in ("seconds", "memory"))
    return form.name, *map(str, numbers), f"{1000 * slowest:.0f}", f"{memory / 2**20:.0f}", f"{seconds:.1f}"


def show(failures: list[Failure], console: Console) -> None:
    """Print each distinct failure with its first seed."""
    counts = Counter(failure.key for failure in failures)
    first: dict[tuple[str, ...], Failure] = {}
    for failure in failures:
        first.setdefault(failure.key, failure)
    for key, failure in first.items():
        console.print(
            f"{failure.form} ({failure.reader}), {counts[key]} files: {failure.kind}: {escape(failure.message)}\n"
            f"    {escape(failure.place)}\n    python -m benchmarks.fuzz only={failure.form} seed={failure.seed}"
        )


def again(form: Form, seed: int, console: Console) -> list[Failure]:
    """Write the file of a seed to :data:`KEPT` and read it; prints tracebacks."""
    path = KEPT / f"{form.name}-{seed}" / Path(form.file).name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(form.content(seed, form.originals()))
    console.print(f"Written: {path}")
    failures = fuzz([form], range(seed, seed + 1), console)
    for failure in failures:
        console.print(escape(failure.trace))
    return failures


def main() -> None:
    asked = {"only": "", "seed": "", "count": "2000"}
    for word in sys.argv[1:]:
        key, equals, value = word.partition("=")
        if key not in asked or not equals or (key != "only" and not value.isdecimal()):
            sys.exit(f"{word} is invalid.\nIt must be only=<form>, count=<number> or seed=<number>.")
        asked[key] = value
    if asked["only"] not in ("", *FORMS) or (asked["seed"] and not asked["only"]):
        sys.exit(f"only={asked['only']} is invalid.\nIt must be one of {', '.join(FORMS)}.")
    torch.set_num_threads(1)  # forked processes have no threads of their parent
    cv2.setNumThreads(0)
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    forms = [form for name, form in FORMS.items() if asked["only"] in ("", name)]
    if asked["seed"]:
        failures = again(forms[0], int(asked["seed"]), console)
    else:
        failures = fuzz(forms, range(int(asked["count"])), console)
    show(failures, console)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
