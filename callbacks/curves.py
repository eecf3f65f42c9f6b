"""``metrics.csv``: one row per optimiser step, kept across interruptions."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from foundation.files import write_text_atomically

LONGEST = 18
"""Number of digits of a step."""


class Curves(Logger):
    """Writes ``epoch``, ``step`` and every logged value; validation values are in the row of the preceding step.

    Lightning's CSV logger erases its file on resume; this one is truncated to the checkpoint's step and continued.

    Args:
        path: the CSV file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = ["epoch", "step"]
        self._rows: list[dict[str, Any]] = []  # not yet written; more values can join the last one
        self._written: dict[str, Any] = {}  # the last row of the file, which values can join too

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def cut(self, step: int) -> None:
        """Keep the rows of the first ``step`` steps, those before the checkpoint."""
        rows = [row for row in self._read() if row["step"] < step]
        self._rows = []
        self._rewrite(rows)

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Does nothing: ``config.yaml`` is next to the curves."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(name.startswith("test/") for name in metrics):
            return  # test scores are in status.json
        values = {name: f"{value:g}" if name == "epoch" else repr(float(value)) for name, value in metrics.items()}
        row = values | {"step": step}
        if self._rows and self._rows[-1]["step"] == step:
            self._rows[-1] |= row
        elif not self._rows and self._written.get("step") == step:  # values of the epoch, after its checkpoint
            if self._written | row != self._written:
                self._rows.append(self._written | row)
        else:
            self._rows.append(row)
        if len(self._rows) > 100:
            rows, self._rows = self._rows[:-1], self._rows[-1:]
            self._write(rows)

    @rank_zero_only
    def save(self) -> None:
        """Does nothing after each step: rows are written a hundred at a time and with each checkpoint."""

    @rank_zero_only
    def flush(self) -> None:
        """Write all pending rows to the file."""
        rows, self._rows = self._rows, []
        self._write(rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.flush()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        new = [name for row in rows for name in row if name not in self._columns]
        again = bool(rows) and rows[0]["step"] == self._written.get("step")
        if new or again or not self.path.exists():
            earlier = self._read()
            self._columns += dict.fromkeys(new)
            self._rewrite((earlier[:-1] if again else earlier) + rows)
        elif rows:
            self._written = rows[-1]
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, restval="").writerows(rows)
                file.flush()
                os.fsync(file.fileno())  # the next checkpoint must not be ahead of this file

    def _read(self) -> list[dict[str, Any]]:
        """The rows of the file, one a step, up to the first that is damaged, as by a crash."""
        rows: list[dict[str, Any]] = []
        if not self.path.is_file():
            return rows
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file, contextlib.suppress(csv.Error):
            reader = csv.DictReader(file)
            self._columns = list(reader.fieldnames or self._columns)
            for row in reader:
                place = row.get("step") or ""
                if not (place.isascii() and place.isdecimal() and len(place) < LONGEST) or None in row:
                    break
                last, step = rows[-1]["step"] if rows else -1, int(place)
                if step < last:
                    break
                values = {key: value for key, value in row.items() if value} | {"step": step}
                if step == last:  # files of earlier versions
                    rows[-1] |= values
                else:
                    rows.append(values)
        return rows

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text_atomically(self.path, text.getvalue())
        self._written = rows[-1] if rows else {}
