"""Read run folders from disk: finished, running, failed or incomplete."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from foundation.run_folder import RunFolder, read_status, with_current_keys

STAGES = ("pretrain", "finetune", "semi", "classify", "segment", "evaluate")
METHODS = {
    "baseline": "baseline",
    "mtl": "MTL",
    "transfer": "transfer",
    "semi": "self-training",
    "segment": "segmenter",
    "hybrid": "hybrid",
}
"""Display name of each method, in the order of tables."""


@dataclass(frozen=True)
class RecordedRun:
    """One run folder.

    Args:
        path: the folder, ``<output_dir>/runs/<stage>-<id>``.
        status: the content of ``status.json``; any key may be missing. For an unreadable file, ``state`` is
            "unreadable" and ``error`` is the reason.
    """

    path: Path
    status: dict[str, Any] = field(compare=False)

    def text(self, key: str) -> str:
        """A value of the status as printable text, "" if it is missing."""
        value = self.status.get(key)
        text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)

    def number(self, key: str) -> float:
        """A value of the status as a number, NaN if it is missing or not a number."""
        return _number(self.status.get(key))

    def metric(self, name: str) -> float:
        """A metric (scores: 0..1, PSNR: dB), NaN if it is missing or undefined."""
        return _number(self.metrics.get(name))

    @property
    def metrics(self) -> dict[str, Any]:
        """All metrics of the status, by name."""
        metrics = self.status.get("metrics")
        return metrics if isinstance(metrics, dict) else {}

    @property
    def state(self) -> str:
        """running, done, failed, unreadable, or interrupted: recorded as running, while its lock is free."""
        return self.text("state") or "unknown"

    @property
    def stage(self) -> str:
        """The stage's name; from the folder's name if the status lacks it."""
        return self.text("stage") or self.path.name.partition("-")[0]

    @property
    def id(self) -> str:
        """The run's id; from the folder's name if the status lacks it."""
        return self.text("id") or self.path.name.partition("-")[2] or self.path.name

    @property
    def method(self) -> str:
        """The method's display name: MTL, baseline."""
        return METHODS.get(self.text("method"), self.text("method"))

    @property
    def data(self) -> str:
        """The data set, its origin (real or synthetic) and the painting order of its part masks, if any."""
        return self._data("")

    @property
    def trained_on(self) -> str:
        """Likewise the data that an evaluated network was trained on."""
        return self._data("trained_")

    @property
    def origin(self) -> str:
        """``real``, ``augmented`` or ``synthetic``, which statuses record as ``drawn``; "" if unknown."""
        return self._origin("")

    def _origin(self, whose: str) -> str:
        return self.text(f"{whose}origin").replace("drawn", "synthetic")

    def _data(self, whose: str) -> str:
        dataset, origin, merging = self.text(f"{whose}dataset"), self._origin(whose), self.text(f"{whose}merging")
        dataset = self.text(f"{whose}data_name") or dataset
        merged = f", merged as {merging}" if merging else ""
        return f"{dataset or 'unknown data'} ({origin or 'origin unknown'}{merged})"

    @property
    def fraction(self) -> str:
        """The label fraction in per cent, with the number of labelled images if known."""
        fraction, labelled = self.number("label_fraction"), self.number("labelled")
        if math.isnan(fraction):
            return ""
        images = "" if math.isnan(labelled) else f" ({labelled:.0f} image{'s' if labelled != 1 else ''})"
        return f"{fraction * 100:g} %{images}"

    @property
    def tested(self) -> bool:
        """Whether this is a finished run of fine-tuning, self-training or classification, with test scores."""
        return self.stage in ("finetune", "semi", "classify") and self.state == "done"

    @property
    def evaluated(self) -> bool:
        """Whether this is a finished evaluation of a parser."""
        return self.stage == "evaluate" and self.state == "done" and not self.of_masks

    @property
    def of_masks(self) -> bool:
        """Whether this is a finished run or evaluation of an occlusion segmenter."""
        found = any(name == "test/accuracy" or name.startswith("test/called/") for name in self.metrics)
        return self.state == "done" and found

    @property
    def _identity(self) -> Mapping[str, Any]:
        identity = self.status.get("identity")
        return identity if isinstance(identity, Mapping) else {}

    @property
    def setting(self) -> Mapping[str, Any]:
        """The settings that entered the run's id, by name."""
        settings = self._identity.get("settings")
        return with_current_keys(settings) if isinstance(settings, Mapping) else {}

    @property
    def version(self) -> str:
        """Version of the stage's code: results of different versions are not comparable."""
        return str(self._identity.get("version", ""))

    @property
    def in_a_fold(self) -> bool:
        """Whether it was trained on one fold of a grid search."""
        return self.setting.get("segment.folds") is not None

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Columns of ``metrics.csv``, float (rows,), NaN in empty cells; {} without a readable file."""
        try:
            with (self.path / "metrics.csv").open(newline="", encoding="utf-8", errors="replace") as file:
                header, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error):
            return {}
        complete = [row for row in rows if len(row) == len(header)]  # the last line may be partly written
        columns = zip(*complete, strict=True) if complete else [()] * len(header)
        return {
            name: np.array([_number(cell) for cell in column]) for name, column in zip(header, columns, strict=True)
        }

    def curve(self, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        """Two columns of ``metrics.csv``, in the rows where both are finite; empty if either is missing."""
        if not {x, y} <= self.curves.keys():
            return np.empty(0), np.empty(0)
        points = np.stack([self.curves[x], self.curves[y]])  # [2, rows]
        x_values, y_values = points[:, np.isfinite(points).all(axis=0)]
        return x_values, y_values


def read_runs(output_dir: Path) -> list[RecordedRun]:
    """All runs of an output folder, sorted; [] if there are none.

    Pre-training comes first, then fine-tuning by data set, scale, recipe, label fraction, subset and seed, with each
    baseline next to the runs it is compared with. A folder with an unreadable status is listed as unreadable.
    """
    folders = output_dir / "runs"
    if not folders.is_dir():
        return []
    return sorted((read_run(path) for path in folders.iterdir() if path.is_dir()), key=_sort_key)


def read_run(folder: Path) -> RecordedRun:
    """The run of one folder, see :func:`read_runs`."""
    return RecordedRun(folder, _status(folder))


def _status(folder: Path) -> dict[str, Any]:
    try:
        status = read_status(folder)
    except FileNotFoundError:
        return {"state": "unreadable", "error": "status.json is missing"}
    except (OSError, ValueError) as error:
        return {"state": "unreadable", "error": f"status.json cannot be read: {error}"}
    held = RunFolder.at(folder)
    return status | {"state": held.state} if status.get("state") == "running" and held is not None else status


def _sort_key(run: RecordedRun) -> tuple[object, ...]:
    def rank(value: str, known: tuple[str, ...]) -> int:
        return known.index(value) if value in known else len(known)

    def ordered(key: str) -> tuple[float, str]:
        number = run.number(key)
        return (math.inf if math.isnan(number) else number, run.text(key))

    where = tuple(run.text(key) for key in ("dataset", "origin", "data_digest", "scale", "recipe"))
    how = tuple(ordered(key) for key in ("label_fraction", "subset", "seed"))
    method = rank(run.text("method"), tuple(METHODS))
    return (rank(run.stage, STAGES), where, how, method, run.text("ablation"), run.path.name)


def _number(value: Any) -> float:
    try:
        return math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
