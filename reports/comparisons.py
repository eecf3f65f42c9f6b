"""Which runs may be compared with one another, and what the comparison says in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reports.runs import Run

SHARED = ("dataset", "data_digest", "scale", "recipe", "label_fraction")
"""What runs must share to be averaged; a pair shares its subset and its seed as well."""

VARIANT = ("ablation", "masking", "loss", "network")
"""What may differ between runs of one method that belong in one figure."""


@dataclass(frozen=True)
class Pair:
    """A finished MTL run and the one finished baseline with the same setting."""

    baseline: Run
    mtl: Run

    @property
    def gain(self) -> float:
        """mIoU of MTL minus that of the baseline, in points (-100..100); NaN if either is undefined."""
        return 100 * (self.mtl.metric("test/miou") - self.baseline.metric("test/miou"))


@dataclass(frozen=True)
class Finding:
    """One measured comparison: the mean gain in points, and the sentence that states it."""

    gain: float
    sentence: str


def setting(run: Run, repeat: bool = True) -> tuple[str, ...] | None:
    """What must be equal for two runs to be compared; None if the run does not say all of it.

    Args:
        run: a fine-tuning run.
        repeat: whether the subset and the seed are part of it.
    """
    keys = (*SHARED, "subset", "seed") if repeat else SHARED
    values = tuple(run.text(key) for key in keys)
    # Label maps of one data set that are merged differently are other labels; most data sets have none to merge.
    return (*values, run.text("merging")) if all(values) else None


Item = TypeVar("Item")


def grouped(runs: Iterable[Item], key: Callable[[Item], object]) -> list[list[Item]]:
    """Runs (or pairs) of equal key together, as the keys first appear; a key of None leaves a run out."""
    groups: dict[object, list[Item]] = {}
    for run in runs:
        if (value := key(run)) is not None:
            groups.setdefault(value, []).append(run)
    return list(groups.values())


def variants(runs: Iterable[Run]) -> dict[Path, str]:
    """What tells the runs of one method apart: of ablation, masking and loss, those in which they differ."""
    names: dict[Path, str] = {}
    for group in grouped(runs, lambda run: run.method):
        differing = [key for key in VARIANT if len({run.text(key) for run in group}) > 1]
        names |= {run.path: " · ".join(filter(None, map(run.text, differing))) for run in group}
    return names


def pairs(runs: Iterable[Run]) -> list[Pair]:
    """Every finished MTL run with its baseline, where exactly one finished baseline has the same setting.

    Where several have, the one that was trained with the same loss is meant.
    """
    found = []
    for group in grouped((run for run in runs if run.tested), setting):
        baselines = [run for run in group if run.text("method") == "baseline"]
        for mtl in (run for run in group if run.text("method") == "mtl"):
            alike = [run for run in baselines if run.text("loss") == mtl.text("loss")]
            if len(candidates := alike or baselines) == 1:
                found.append(Pair(candidates[0], mtl))
    return found


def findings(runs: Iterable[Run]) -> list[Finding]:
    """What was measured, one finding for each setting and variant of MTL; [] without a pair to compare.

    Runs of different subsets or seeds are averaged. Runs that share both are no repeats of one another (something
    else must differ, or they would be one run), so each is a finding of its own.
    """
    paired = {pair.mtl.path: pair for pair in pairs(runs) if not math.isnan(pair.gain)}
    compared = [pair.mtl for pair in paired.values()]
    names = variants(compared)
    found = []
    for repeats in grouped(compared, lambda run: (setting(run, repeat=False), *map(run.text, VARIANT))):
        group = [paired[run.path] for run in repeats]
        variant = names[repeats[0].path]
        name = f"MTL ({variant})" if variant else "MTL"
        if len({setting(pair.mtl) for pair in group}) == len(group):
            found.append(_finding(group, name))
        else:
            found += [_finding([pair], f"{name}, run {pair.mtl.id},") for pair in group]
    return found


def _finding(group: list[Pair], name: str) -> Finding:
    first = group[0].mtl
    gains = [pair.gain for pair in group]
    gain = sum(gains) / len(gains)
    mtl = 100 * sum(pair.mtl.metric("test/miou") for pair in group) / len(group)
    baseline = 100 * sum(pair.baseline.metric("test/miou") for pair in group) / len(group)
    seeds, subsets = (len({pair.mtl.text(key) for pair in group}) for key in ("seed", "subset"))
    repeats = f"{_count(seeds, 'seed')}, {_count(subsets, 'subset')}"
    if len(group) == 1:
        certainty = f"{repeats.capitalize()}: within noise until repeated."
    else:
        ahead = sum(gain > 0 for gain in gains)
        certainty = (
            f"Means of {len(group)} pairs ({repeats}); single gains from {signed(min(gains))} to "
            f"{signed(max(gains))}, MTL ahead in {ahead} of {len(group)}."
        )
    losses = {(pair.mtl.text("loss"), pair.baseline.text("loss")) for pair in group}
    unlike = "".join(f" (loss {ours} against {theirs})" for ours, theirs in sorted(losses) if ours != theirs)
    scores = f"{name} {mtl:.2f} mIoU, baseline {baseline:.2f}{unlike}: {signed(gain)} points"
    return Finding(
        gain, f"{scores} at {first.fraction} labelled, {first.data}, scale {first.text('scale')}. {certainty}"
    )


def signed(points: float) -> str:
    """A difference in points with its sign, two decimals; an em dash for NaN."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    return "—" if math.isnan(points) else f"{round(points, 2) + 0:+.2f}".replace("-", "−")


def _count(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"
