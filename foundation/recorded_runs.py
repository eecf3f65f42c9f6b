"""Read run folders from disk: finished, running, failed or incomplete."""

from __future__ import annotations

import csv
import functools
import math
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import DataError
from foundation.interruption import checked
from foundation.reading import (
    MEBIBYTE,
    MOST_ENTRIES,
    MissingFileError,
    UnreadableError,
    list_folder,
    read_bytes,
)
from foundation.run_folder import RunFolder, read_status, with_current_keys
from foundation.shown_text import Paths, printable

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
TEXTS = (
    *("state", "stage", "id", "experiment", "sweep", "error", "split", "classes", "checkpoint", "git_sha", "manifest"),
    *("dataset", "data_name", "origin", "merging", "data_digest", "scale", "recipe", "subset", "seed"),
    *("method", "ablation", "masking", "loss", "network", "after", "head", "kernel", "features"),
    *("trained_dataset", "trained_data_name", "trained_origin", "trained_merging"),
)
"""Keys of the status that are shown as text, and by which runs are grouped."""
NUMBERS = (
    *(
        "label_fraction",
        "labelled",
        "validation_labels",
        "synthetic",
        "epoch",
        "epochs",
        "seconds",
        "images_per_second",
        "peak_memory_mb",
        "parameters",
    ),
    *("fit_seconds", "megapixels_per_second", "tests_per_pixel"),
)
"""Keys of the status that are numbers."""
LARGEST = 1e38
"""A larger number is none: training computes in float32, and sums and axes of larger ones overflow."""
LONGEST = 2000
"""Number of characters after which a text is cut off."""
MOST_METRICS = 4096
"""Largest number of metrics of a run: all scores of 255 classes, several times over."""
CURVES_SIZE = 256 * MEBIBYTE
PANELS_DEPTH = 4
CONFIG_SIZE = MEBIBYTE // 4
"""Limits of what is read: size of ``metrics.csv``, depth of the folders in ``panels/``, size of ``config.yaml``."""


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
        return as_text(self.status.get(key))

    def number(self, key: str) -> float:
        """A value of the status as a number, NaN if it is missing or not a number."""
        return as_number(self.status.get(key))

    def metric(self, name: str) -> float:
        """A metric (scores: 0..1, PSNR: dB), NaN if it is missing or undefined."""
        return as_number(self.metrics.get(name))

    @property
    def metrics(self) -> dict[str, Any]:
        """All metrics of the status, by name."""
        return self.status.get("metrics") or {}

    @property
    def upstreams(self) -> list[str]:
        """Ids of the runs that this run started from."""
        return self.status.get("upstream") or []

    @property
    def state(self) -> str:
        """running, done, failed, unreadable, or interrupted: recorded as running, while its lock is free."""
        return self.text("state") or "unknown"

    @property
    def stage(self) -> str:
        """The stage's name; from the folder's name if the status lacks it."""
        return self.text("stage") or as_text(self.path.name.partition("-")[0])

    @property
    def id(self) -> str:
        """The run's id; from the folder's name if the status lacks it."""
        return self.text("id") or as_text(self.path.name.partition("-")[2] or self.path.name)

    @property
    def method(self) -> str:
        """The method's display name: MTL, baseline. Stages of one's own that end in self-training are self-training."""
        method = "semi" if self.stage == "semi" else self.text("method")
        return METHODS.get(method, method)

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
        return self.stage in ("finetune", "semi", "classify") and self.state == "done" and not self.in_a_fold

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
        return self.status.get("identity") or {}

    @functools.cached_property
    def setting(self) -> dict[str, Any]:
        """The settings that entered the run's id, by name."""
        return with_current_keys(self._identity.get("settings") or {})

    @property
    def version(self) -> str:
        """Version of the stage's code: results of different versions are not comparable."""
        return as_text(self._identity.get("version"))

    @property
    def labels_digest(self) -> str:
        """Digest of the set of faces whose labels it may use; "" if it is not recorded."""
        return as_text(self._identity.get("labels"))

    @property
    def in_a_fold(self) -> bool:
        """Whether it is scored on one fold of a grid search or a cross-validation, without which it was trained."""
        return any(self.setting.get(name) is not None for name in ("segment.folds", "semi.fold"))

    @property
    def changed(self) -> float:
        """Time of the last change of the status, seconds since 1970; 0 if it is missing."""
        return _modified(self.path / "status.json")[0] / 1e9

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """Columns of ``metrics.csv``, float (rows,), NaN in empty cells; {} without a readable file.

        Only those of the runs that were read last are kept in memory.
        """
        return _curves(self.path, _modified(self.path / "metrics.csv"))

    @property
    def has_curves(self) -> bool:
        """Whether there is a ``metrics.csv`` with content, which is not read for this."""
        return _modified(self.path / "metrics.csv")[1] > 0

    @functools.cached_property
    def panels(self) -> dict[str, list[str]]:
        """Names of the PNG files in ``panels/`` and its folders, by the folder's path in it; "" is ``panels/``."""
        found: dict[str, list[str]] = {}
        places, left = [""], MOST_ENTRIES
        for place in places:  # grows as folders are found
            try:
                folders, files = list_folder(self.path, f"panels/{place}".rstrip("/"))
            except UnreadableError:
                continue
            found[place] = [name for name in files[:left] if name.endswith(".png")]
            left -= min(left, len(files))
            if place.count("/") < PANELS_DEPTH - 1:
                places += [f"{place}/{name}".lstrip("/") for name in folders[: MOST_ENTRIES - len(places)]]
        return dict(sorted(found.items()))

    def panel(self, place: str, name: str, most: int) -> bytes | None:
        """The content of a PNG file of ``panels/``; None if it is not one of at most ``most`` bytes.

        Args:
            place: a key of :attr:`panels`.
            name: one of its names.
            most: largest size in bytes.
        """
        try:
            content = read_bytes(self.path, "/".join(filter(None, ("panels", place, name))), most)
        except UnreadableError:
            return None
        return content if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 24 else None

    @property
    def config(self) -> str:
        """The text of ``config.yaml``, absolute paths made relative; "" without a readable file."""
        text = _config(self.path)
        return printable(_paths(self.path.parent.parent, _data_root(text)).relative(text))

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
    try:
        names, _ = list_folder(output_dir / "runs")
    except MissingFileError:
        return []
    except UnreadableError as error:
        raise DataError(
            f"{output_dir / 'runs'} cannot be read: {error}.\nIt must be a folder of run folders that you may read."
        ) from error
    return sorted((read_run(output_dir / "runs" / name) for name in checked(names)), key=_sort_key)


def read_run(folder: Path) -> RecordedRun:
    """The run of one folder, see :func:`read_runs`."""
    try:
        status = read_status(folder)
    except MissingFileError:
        return _unreadable(folder, "status.json is missing")
    except UnreadableError as error:
        return _unreadable(folder, f"status.json cannot be read: {error}")
    if wrong := next(_mistakes(status), None):
        return _unreadable(folder, f"status.json is invalid: {wrong}")
    held = RunFolder.at(folder)
    if status.get("state") == "running" and held is not None:
        status["state"] = held.running_state()
    root = _data_root(_config(folder)) if "/" in (status.get("error") or "") else None
    return RecordedRun(folder, _paths(folder.parent.parent, root).relative_in(status))


def _unreadable(folder: Path, reason: str) -> RecordedRun:
    return RecordedRun(folder, {"state": "unreadable", "error": reason})


def _mistakes(status: Mapping[str, Any]) -> Iterator[str]:
    """What in a status is of another type than runs write; the messages go on from "is invalid"."""

    def expected(place: str, value: Any, what: str, *types: type) -> Iterator[str]:
        if value is not None and not isinstance(value, types):
            yield f"{printable(place[:80])} must be {what}, not {type(value).__name__}"

    for key in TEXTS:
        yield from expected(key, status.get(key), "a text", str, int, float, list)
    for key in NUMBERS:
        yield from expected(key, status.get(key), "a number", int, float)
    for key in ("metrics", "identity"):
        yield from expected(key, status.get(key), "an object", dict)
    for key in ("upstream", "history"):
        yield from expected(key, status.get(key), "a list", list)
    if isinstance(metrics := status.get("metrics"), dict):
        if len(metrics) > MOST_METRICS:
            yield f"it has {len(metrics)} metrics; at most {MOST_METRICS} are read"
        for name, value in metrics.items():
            yield from expected(f"metrics.{name}", value, "a number", int, float)
    if isinstance(identity := status.get("identity"), dict):
        yield from expected("identity.settings", identity.get("settings"), "an object", dict)
    if isinstance(upstream := status.get("upstream"), list):
        for value in upstream:
            yield from expected("upstream", value, "a list of ids", str)
    if isinstance(history := status.get("history"), list):
        for value in history:
            yield from expected("history", value, "a list of objects", dict)


@functools.lru_cache(maxsize=8)
def _curves(folder: Path, modified: tuple[int, int]) -> dict[str, np.ndarray]:
    del modified  # a part of the key alone
    try:
        text = read_bytes(folder, "metrics.csv", CURVES_SIZE).decode("utf-8", "replace")
        header, *rows = csv.reader(text.splitlines())
    except (UnreadableError, ValueError, csv.Error):
        return {}
    complete = [row for row in rows if len(row) == len(header)]  # the last line may be partly written
    columns = zip(*complete, strict=True) if complete else [()] * len(header)
    return {name: _numbers(column) for name, column in zip(header, columns, strict=True)}


def _numbers(cells: Sequence[str]) -> np.ndarray:
    """The cells of a column as numbers, float (rows,), see :func:`as_number`."""
    try:
        values = np.array([float(cell) if cell else math.nan for cell in cells])
    except ValueError:
        values = np.array([as_number(cell) for cell in cells])
    return np.where(np.abs(values) <= LARGEST, values, math.nan)


def _config(folder: Path) -> str:
    try:
        return read_bytes(folder, "config.yaml", CONFIG_SIZE).decode("utf-8", "replace")
    except UnreadableError:
        return ""


def _data_root(config: str) -> Path | None:
    """The absolute data root of a composed configuration, as text: parsing every run's YAML would take minutes."""
    found = re.search(r"^(?:datamodule:\n(?:  .*\n)*?  )?root: ['\"]?(/[^\n'\"]*)", config, re.MULTILINE)
    return Path(found[1].rstrip()) if found else None


@functools.lru_cache(maxsize=64)
def _paths(*folders: Path | None) -> Paths:
    return Paths(folder for folder in folders if folder is not None)


def _modified(path: Path) -> tuple[int, int]:
    """Time of change in nanoseconds and size of a file, which change with its content; zeros without one."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return 0, 0
    return found.st_mtime_ns, found.st_size if stat.S_ISREG(found.st_mode) else 0


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


def as_text(value: Any, longest: int = LONGEST) -> str:
    """A value as printable text, cut off after a number of characters; "" for None."""
    if isinstance(value, str) and len(value) <= longest and value.isprintable():
        return value
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return printable(text if len(text) <= longest else f"{text[:longest]}…")


def as_number(value: Any) -> float:
    """A value as a number; NaN if it is none, or beyond :data:`LARGEST`."""
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= LARGEST else math.nan
