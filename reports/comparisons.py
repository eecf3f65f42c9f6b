"""Pairs and groups of comparable runs, and the findings of their comparison as sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.special import stdtrit

from foundation.recorded_runs import RecordedRun, as_text

SHARED = ("dataset", "data_digest", "scale", "recipe", "label_fraction")
"""Settings that runs must share to be averaged; a pair also shares its subset and its seed."""

DIGEST = "digest"
"""Setting that identifies the data's content; not shown in names."""
UPSTREAM = "upstream "
"""Prefix of a setting of the run that another run starts from, if both have it."""
VARIANT = ("ablation", "masking", "loss", "network", "after", "head", "kernel", "features")
"""Settings that may differ between runs of one method in one figure."""


PAIRED = ("mtl", "semi")
"""Methods whose runs have a gain over a baseline."""


@dataclass(frozen=True)
class Pair:
    """A finished run of one of the methods :data:`PAIRED` and the one finished baseline with the same setting."""

    baseline: RecordedRun
    run: RecordedRun

    @property
    def gain(self) -> float:
        """mIoU of the run minus that of the baseline, in points (-100..100); NaN if either is undefined."""
        return 100 * (self.run.metric("test/miou") - self.baseline.metric("test/miou"))


@dataclass(frozen=True)
class Repeats:
    """Runs that differ only in label subset and seed.

    Args:
        name: their method, variant and data, with `differing`.
        differing: settings that distinguish them from others of the same name, as ``key=value, ...``; may be "".
        runs: the runs.
    """

    name: str
    differing: str
    runs: list[RecordedRun]


@dataclass(frozen=True)
class Finding:
    """One measured comparison: the mean gain in points, the sentence that states it, and the compared pairs."""

    gain: float
    sentence: str
    pairs: tuple[Pair, ...] = ()


def setting(run: RecordedRun, repeat: bool = True) -> tuple[str, ...] | None:
    """Settings that must be equal for two runs to be compared; None if the run's status lacks one of them.

    Args:
        run: a fine-tuning run.
        repeat: whether to include subset and seed.
    """
    keys = (*SHARED, "subset", "seed") if repeat else SHARED
    values = tuple(run.text(key) for key in keys)
    # Another painting order of part masks gives other labels; most data sets have no part masks.
    return (*values, run.text("merging"), run.version) if all(values) else None


SHOWN = 120
"""Characters of a setting's name or value in the name of a group; longer ones are cut off."""

Item = TypeVar("Item")


def grouped(runs: Iterable[Item], key: Callable[[Item], object]) -> list[list[Item]]:
    """Runs (or pairs) grouped by key, in the order in which keys first appear; a key of None leaves a run out."""
    groups: dict[object, list[Item]] = {}
    for run in runs:
        if (value := key(run)) is not None:
            groups.setdefault(value, []).append(run)
    return list(groups.values())


def variants(runs: Iterable[RecordedRun]) -> dict[Path, str]:
    """Variant of each run: those settings of :data:`VARIANT` in which the runs of its method differ."""
    names: dict[Path, str] = {}
    for group in grouped(runs, lambda run: run.method):
        differing = [key for key in VARIANT if len({run.text(key) for run in group}) > 1]
        names |= {run.path: " · ".join(filter(None, map(run.text, differing))) for run in group}
    return names


class FinishedRuns:
    """Finished runs and their settings, including those of the runs that they started from."""

    def __init__(self, runs: Sequence[RecordedRun]) -> None:
        self.runs = runs
        self._by_id = {run.id: run for run in runs}
        self._settings: dict[Path, dict[str, str]] = {}

    def settings(self, run: RecordedRun) -> dict[str, str]:
        """All settings of a run as text, except label subset and seeds."""
        if run.path not in self._settings:
            self._settings[run.path] = {}  # what a run has that starts from itself, over other runs
            self._settings[run.path] = self._all_settings(run)
        return self._settings[run.path]

    def _all_settings(self, run: RecordedRun) -> dict[str, str]:
        settings = {name: str(value) for name, value in run.setting.items() if not name.endswith(".seed")}
        if run.number("label_fraction") == 0:  # synthetic labels alone are what this fraction means
            settings = {name: value for name, value in settings.items() if not name.startswith("semi.synthetic.")}
        settings |= {
            "stage": run.stage,
            "version": run.version,
            "data": run.data,
            DIGEST: run.text("data_digest"),
            "method": run.method,
        }
        if run.stage == "evaluate":
            settings["file"] = _form(run.text("checkpoint"))
        before: dict[str, str] = {}
        for upstream in run.upstreams:
            found = self._by_id.get(upstream)
            before |= {"upstream": upstream} if found is None else self._upstream_settings(found, run)
        own = ("label_fraction", *settings)
        return settings | {
            f"{UPSTREAM}{name}" if name in own or name.startswith(UPSTREAM) else name: value
            for name, value in before.items()
        }

    def _upstream_settings(self, before: RecordedRun, run: RecordedRun) -> dict[str, str]:
        """Settings of a run that another one starts from; several methods may share it."""
        settings = {name: value for name, value in self.settings(before).items() if name != "method"}
        # Two fine-tunings have separate labels; other stages use those of the command.
        return settings | ({"label_fraction": before.text("label_fraction")} if before.stage == run.stage else {})

    def repeats(self, runs: Iterable[RecordedRun]) -> list[Repeats]:
        """Groups of repeated runs, each with a unique name.

        A run that several ablations share, as D is the reference of the components, is labelled by the first of them.
        """
        groups = grouped(runs, lambda run: (_name([run], labelled=False), *sorted(self.settings(run).items())))
        names = [_name(group) for group in groups]
        by_name: dict[str, list[dict[str, str]]] = {}
        for name, group in zip(names, groups, strict=True):
            by_name.setdefault(name, []).append(self.settings(group[0]))
        keys = {
            name: [key for key in sorted(set().union(*same_name)) if _distinguishes(key, same_name)]
            for name, same_name in by_name.items()
        }
        found = []
        for name, group in zip(names, groups, strict=True):
            own = self.settings(group[0])
            apart = [f"{as_text(key, SHOWN)}={as_text(own[key], SHOWN)}" for key in keys[name] if key in own]
            differing = ", ".join(apart)
            found.append(Repeats(", ".join(filter(None, (name, differing))), differing, group))
        return found


def _distinguishes(name: str, same_name: Sequence[Mapping[str, str]]) -> bool:
    """Whether a setting distinguishes runs of one name and is not implied by another one."""
    if not name.endswith("stage"):  # the stage alone distinguishes runs that start from no other
        stage = f"{UPSTREAM * name.count(UPSTREAM)}stage"
        same_name = [settings for settings in same_name if stage in settings]
    if len({settings.get(name) for settings in same_name}) == 1 or name.endswith(DIGEST):
        return False
    # Runs of one command share settings such as the image size: these are named once.
    return not name.startswith(UPSTREAM) or any(
        settings.get(name) != settings.get(name.removeprefix(UPSTREAM)) for settings in same_name
    )


def _form(checkpoint: str) -> str:
    """The form in which a network was scored: "" as trained, or that of an exported file, such as "int8.onnx"."""
    return "" if checkpoint.endswith(".ckpt") else checkpoint.rpartition("-")[2]


def _name(group: Sequence[RecordedRun], labelled: bool = True) -> str:
    run = group[0]
    ablations = " = ".join(sorted({run.text("ablation") for run in group} - {""})) if labelled else ""
    variant = " ".join(filter(None, (run.method, ablations, *(run.text(key) for key in VARIANT if key != "ablation"))))
    about = (variant.replace("_", " "), run.data, f"scale {run.text('scale')}", f"recipe {run.text('recipe')}")
    return ", ".join(about)


def pairs(runs: Iterable[RecordedRun]) -> list[Pair]:
    """Every finished run of :data:`PAIRED` with its baseline: the one on the same data, scale, recipe, fraction, subset
    and seed with the fewest other differences. If two have equally few, the run has no baseline.
    """
    found = []
    for group in grouped((run for run in runs if run.tested), _draw):
        varying = _varying(group)
        baselines = [run for run in group if run.text("method") == "baseline"]
        by_network = {same[0].text("network"): same for same in grouped(baselines, lambda run: run.text("network"))}
        for run in (run for run in group if run.text("method") in PAIRED):
            comparable = [base for base in by_network.get(run.text("network"), []) if _same_labels(run, base)]
            differences = [len(_unlike(run, baseline, varying)) for baseline in comparable]
            if differences and differences.count(min(differences)) == 1:
                found.append(Pair(comparable[differences.index(min(differences))], run))
    return found


def _draw(run: RecordedRun) -> tuple[str, ...] | None:
    """Settings that a run and its baseline share, whatever their stages; None if the status lacks one of them."""
    keys = ("dataset", "scale", "recipe", "label_fraction", "subset", "seed")
    values = tuple(run.text(key) for key in keys)
    return (*values, run.origin, run.text("merging")) if all(values) else None


def _same_labels(run: RecordedRun, baseline: RecordedRun) -> bool:
    """Whether both read the same data and labels, in the same version of the code if their stage is the same.

    The digest of a self-training's data includes the synthetic faces that it reads besides.
    """
    if run.stage == baseline.stage and run.version != baseline.version:
        return False
    if run.number("synthetic") > 0:
        return bool(run.labels_digest) and run.labels_digest == baseline.labels_digest
    return bool(run.text("data_digest")) and run.text("data_digest") == baseline.text("data_digest")


def _varying(runs: Sequence[RecordedRun]) -> set[str]:
    """Settings that have more than one value in a group of runs: only these can differ between two of them."""
    values: dict[str, set[str]] = {}
    several = len({run.stage for run in runs}) > 1
    for run in runs:
        for name, value in (run.setting | _without_stage(run) if several else run.setting).items():
            values.setdefault(name, set()).add(str(value))
    return {name for name, different in values.items() if len(different) > 1}


def unlike(run: RecordedRun, baseline: RecordedRun) -> dict[str, tuple[str, str]]:
    """The common settings in which a run and a baseline differ: name -> both values.

    Settings of two stages, as semi.batch_size and finetune.batch_size, are compared without the stage's name.
    """
    return _unlike(run, baseline, run.setting | _without_stage(run))


def _unlike(run: RecordedRun, baseline: RecordedRun, names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Likewise, of the settings with these names."""
    one_stage = run.stage == baseline.stage
    ours, theirs = (run.setting, baseline.setting) if one_stage else (_without_stage(run), _without_stage(baseline))
    values = {"loss": (run.text("loss"), baseline.text("loss"))}
    for name in sorted(name for name in names if name in ours and name in theirs and name not in LOSSES):
        values[name] = str(ours[name]), str(theirs[name])
    return {name: both for name, both in values.items() if both[0] != both[1]}


LOSSES = ("finetune.loss", "semi.loss", "loss")
"""Settings that the status names as ``loss``."""


def _without_stage(run: RecordedRun) -> dict[str, Any]:
    return {name.removeprefix(f"{run.stage}."): value for name, value in run.setting.items()}


def findings(runs: Iterable[RecordedRun]) -> list[Finding]:
    """One finding for each label fraction and variant of a method, averaged over repeats; [] without a pair."""
    every = list(runs)
    paired = {pair.run.path: pair for pair in pairs(every) if not math.isnan(pair.gain)}
    compared = [pair.run for pair in paired.values()]
    names, done = variants(compared), FinishedRuns(every)
    found = []
    for same in grouped(compared, lambda run: setting(run, repeat=False)):
        for repeats in done.repeats(same):
            group = [paired[run.path] for run in repeats.runs]
            about = ", ".join(filter(None, (names[repeats.runs[0].path], repeats.differing)))
            method = repeats.runs[0].method
            name = f"{method} ({about})" if about else method
            if len({setting(pair.run) for pair in group}) == len(group):
                found.append(_finding(group, name))
            else:  # they differ in something that is not recorded
                found += [_finding([pair], f"{name}, run {pair.run.id},") for pair in group]
    return found


def _finding(group: list[Pair], name: str) -> Finding:
    first = group[0].run
    gains = [pair.gain for pair in group]
    gain = sum(gains) / len(gains)
    score = 100 * sum(pair.run.metric("test/miou") for pair in group) / len(group)
    baseline = 100 * sum(pair.baseline.metric("test/miou") for pair in group) / len(group)
    seeds, subsets = (len({pair.run.text(key) for pair in group}) for key in ("seed", "subset"))
    repeats = f"{_count(seeds, 'seed')}, {_count(subsets, 'subset')}"
    if len(group) == 1:
        certainty = f"{repeats.capitalize()}: within noise until repeated."
    else:
        ahead = sum(gain > 0 for gain in gains)
        reach = confidence(gains)
        certainty = (
            f"Means of {len(group)} pairs ({repeats}); 95 % confidence from {signed(gain - reach)} to "
            f"{signed(gain + reach)}; single gains from {signed(min(gains))} to {signed(max(gains))}, "
            f"{first.method} ahead in {ahead} of {len(group)}."
        )
    differing = {
        " ".join((as_text(setting, SHOWN), as_text(ours, SHOWN), "against", as_text(theirs, SHOWN)))
        for pair in group
        for setting, (ours, theirs) in unlike(pair.run, pair.baseline).items()
    }
    otherwise = f" ({', '.join(sorted(differing))})" if differing else ""
    scores = f"{name} {score:.2f} mIoU, baseline {baseline:.2f}{otherwise}: {signed(gain)} points"
    return Finding(
        gain,
        f"{scores} at {first.fraction} labelled, {first.data}, scale {first.text('scale')}. {certainty}",
        tuple(group),
    )


def confidence(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of a mean (Student's t); NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    return float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(len(values)))


def signed(points: float) -> str:
    """A difference in points with its sign, two decimals; an em dash for NaN."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    return "—" if math.isnan(points) else f"{round(points, 2) + 0:+.2f}".replace("-", "−")


def _count(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"
