"""Figures of runs as SVG, each plotted once and coloured for light and dark backgrounds."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foundation.recorded_runs import RecordedRun, as_text
from reports.comparisons import FinishedRuns, confidence, grouped, pairs, setting, signed, variants
from reports.limits import newest
from reports.papers import published_gains

COLOURS = {
    "ink": ("#24292f", "#dfe4ea"),
    "grid": ("#d8dee4", "#39414b"),
    "mtl": ("#0a5fb4", "#6fb6ff"),
    "baseline": ("#b54a00", "#ffa35c"),
    "transfer": ("#1a7f37", "#56d364"),
    "semi": ("#7a3fb0", "#c79bff"),
    "other": ("#57606b", "#a3adb8"),
}
"""Role -> its colour on light and on dark background; all but the grid have a contrast of at least 4.5 : 1."""

DASHES = ("-", "--", "-.", ":")
CROWDED = 6
"""With more lines than this, the legend is placed next to the axes."""
LEGEND_WIDTH = 44
"""Characters per line of a legend."""
MOST_LINES = 12
"""Lines of a figure of scores against label fraction."""
MOST_STUDIES = 12
"""Figures of scores against label fraction: those of the newest studies."""
LEAST_FRACTION = 1e-6
"""A smaller label fraction is less than one image of any data set."""
LONGEST_ALT = 2000
"""Characters of an alternative text."""
PLOTTED_STEPS = 600
"""Largest number of plotted points of a raw curve."""


@dataclass(frozen=True)
class Chart:
    """A figure and its runs.

    Args:
        title: title.
        alt: alternative text with the last values.
        note: explanation; may be "".
        runs: the plotted runs.
        light: SVG for light backgrounds.
        dark: SVG for dark backgrounds.
    """

    title: str
    alt: str
    note: str
    runs: tuple[RecordedRun, ...]
    light: str
    dark: str
    figure: Figure = field(repr=False, compare=False)

    def png(self) -> bytes:
        """The figure as PNG on white."""
        file = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(file, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        return file.getvalue()


def charts(runs: Iterable[RecordedRun], with_curves: Iterable[RecordedRun] | None = None) -> list[Chart]:
    """All figures: pre-training, fine-tuning, segmentation, and scores against label fraction.

    Args:
        runs: all runs.
        with_curves: those whose curves are plotted; all by default.
    """
    every = list(runs)
    done = FinishedRuns(every)
    plotted = [
        run
        for run in (every if with_curves is None else with_curves)
        if run.state in ("done", "running", "interrupted") and run.has_curves and run.curves
    ]
    pretrainings = grouped((run for run in plotted if run.stage == "pretrain"), _study)
    finetunings = grouped((run for run in plotted if run.stage in ("finetune", "semi")), _fraction_of_study)
    segmentations = grouped((run for run in plotted if run.stage == "segment" and not run.in_a_fold), _study)
    scored = [run for run in every if run.tested and not math.isnan(run.metric("test/miou"))]
    studies = grouped((run for run in scored if LEAST_FRACTION <= run.number("label_fraction") <= 1), _study)
    studies = [group for group in studies if len({run.text("label_fraction") for run in group}) > 1]
    studies = newest(studies, MOST_STUDIES, _changed)
    with matplotlib.rc_context(_STYLE):
        return [
            *(_pretraining(group) for group in pretrainings),
            *(_finetuning(group) for group in finetunings),
            *(_segmentation(group) for group in segmentations),
            *(_fractions(group, done) for group in studies),
        ]


def _changed(runs: Iterable[RecordedRun]) -> float:
    return max(run.changed for run in runs)


def _pretraining(runs: list[RecordedRun]) -> Chart:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run, line in _lines(runs):
        _steps_and_average(left, run, line)
        left.plot(*run.curve("step", "val/loss"), "o", ms=4, color=line["color"])
        right.plot(*run.curve("step", "val/psnr"), marker="o", ms=4, **line)
    _finish(left, "optimiser step", "reconstruction loss")
    _finish(right, "optimiser step", "validation PSNR (dB)")
    last = ", ".join(f"run {run.id} ends at {_last(run, 'val/psnr'):.2f} dB" for run in runs)
    note = f"{_AVERAGED} Dots on the left: validation loss."
    return _chart(figure, f"Pre-training on {runs[0].data}", f"Loss and PSNR by step; {last}.", note, runs)


def _finetuning(runs: list[RecordedRun]) -> Chart:
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run, line in _lines(runs):
        _steps_and_average(left, run, line)
        epochs, miou = run.curve("epoch", "val/miou")
        right.plot(epochs, 100 * miou, marker="o", ms=4, **line)
    _finish(left, "optimiser step", "training loss")
    _finish(right, "epoch", "validation mIoU (%)")
    last = ", ".join(f"{run.method} {run.id} ends at {100 * _last(run, 'val/miou'):.2f} %" for run in runs)
    title = f"Fine-tuning on {runs[0].data}, {runs[0].fraction} labelled"
    return _chart(figure, title, f"Training loss by step, validation mIoU by epoch; {last}.", _AVERAGED, runs)


def _segmentation(runs: list[RecordedRun]) -> Chart:
    """Loss by step and accuracy by epoch (Figures 8 and 7), all networks in one image."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    networks = list(dict.fromkeys(run.text("network") for run in runs))
    for run, line in _lines(runs):
        if len(networks) > 1:
            line |= {"color": f"C{networks.index(run.text('network')) % 10}"}  # Matplotlib's ten
        _steps_and_average(left, run, line)
        left.plot(*run.curve("step", "val/loss"), "o", ms=4, color=line["color"])
        epochs, accuracy = run.curve("epoch", "train/accuracy")
        right.plot(epochs, 100 * accuracy, color=line["color"], alpha=0.4, linewidth=0.8)
        epochs, accuracy = run.curve("epoch", "val/accuracy")
        right.plot(epochs, 100 * accuracy, marker="o", ms=4, **line)
    if len({run.text("loss") for run in runs}) > 1:
        left.set_yscale("log")  # losses of several kinds
    _finish(left, "optimiser step", "training loss")
    _finish(right, "epoch", "accuracy (%)")
    last = ", ".join(f"run {run.id} ends at {100 * _last(run, 'val/accuracy'):.2f} %" for run in runs)
    title = f"Occlusion segmentation on {runs[0].data}"
    note = f"{_AVERAGED} Dots: validation. Pale on the right: training."
    return _chart(figure, title, f"Loss by step, accuracy by epoch; {last}.", note, runs)


def _fractions(runs: list[RecordedRun], done: FinishedRuns) -> Chart:
    """Label efficiency (Figures 8 to 11): scores by label fraction, and the gain of masked pre-training."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    names, every = variants(runs), done.repeats(runs)
    repeated = newest(every, MOST_LINES, lambda repeats: _changed(repeats.runs))
    kept = {run.path for repeats in repeated for run in repeats.runs}
    paired = {pair.run.path: pair for pair in pairs(runs)}
    runs = [run for run in runs if run.path in kept]
    labels = {
        run.path: ", ".join(filter(None, (names[repeats.runs[0].path], repeats.differing)))
        for repeats in repeated
        for run in repeats.runs
    }
    lines = {run.path: line for run, line in _lines(runs, labels)}
    alt = []
    for repeats in repeated:
        scores = [100 * run.metric("test/miou") for run in repeats.runs]
        line = lines[repeats.runs[0].path]
        means = _by_fraction(left, repeats.runs, scores, lambda values: float(np.std(values, ddof=1)), line)
        alt += [f"{line['label']} {mean:.2f} % at {share:g} %" for share, mean in means.items()]
    for repeats in repeated:
        gaining = [run for run in repeats.runs if run.path in paired]
        if not gaining:
            continue
        line = lines[gaining[0].path]
        gains = _by_fraction(right, gaining, [paired[run.path].gain for run in gaining], confidence, line)
        alt += [f"gain of {line['label']} {signed(gain)} points at {share:g} %" for share, gain in gains.items()]
    ticks = sorted({100 * run.number("label_fraction") for run in runs})
    printed = published_gains(runs[0].text("dataset"))
    if paired and printed:
        colour = COLOURS["other"][0]
        right.plot(list(printed), list(printed.values()), "D", ms=6, mfc="none", color=colour, label="the paper")
    right.axhline(0, color=COLOURS["ink"][0], linewidth=0.8)
    for axes, shown in ((left, ticks), (right, sorted({*ticks, *printed} if paired else ticks))):
        axes.set_xscale("log")
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.set_xticks([], minor=True)
    _finish(left, "labelled share of the training images (%)", "test mIoU (%)")
    _finish(right, "labelled share of the training images (%)", "gain over the baseline (mIoU points)")
    note = (
        "Left: dots are single runs, lines means over subsets and seeds, bars one standard deviation. Right: mean "
        "gain over the baseline with the same labels, bars its 95 % confidence interval if it was repeated; "
        "the paper's gains are as printed, for other and far larger runs."
    )
    if len(every) > MOST_LINES:
        note += f" The newest {MOST_LINES} of {len(every)} lines are plotted."
    title = f"Label efficiency on {runs[0].data}, scale {runs[0].text('scale')}, recipe {runs[0].text('recipe')}"
    return _chart(figure, title, f"{', '.join(alt)}.", note, runs)


def _by_fraction(
    axes: Axes,
    runs: list[RecordedRun],
    values: list[float],
    reach: Callable[[list[float]], float],
    line: dict[str, Any],
) -> dict[float, float]:
    """Plot values of runs against their label fraction, with means and error bars; return the means by fraction in
    per cent."""
    fractions = np.array([100 * run.number("label_fraction") for run in runs])
    means, bars = {}, []
    for fraction in np.unique(fractions):
        here = [value for value, share in zip(values, fractions, strict=True) if share == fraction]
        means[float(fraction)] = float(np.mean(here))
        bars.append(reach(here) if len(here) > 1 else 0.0)
    axes.plot(fractions, values, "o", ms=4, alpha=0.45, color=line["color"])
    axes.errorbar(list(means), list(means.values()), yerr=bars, capsize=4, marker="_", ms=10, **line)
    return means


def score_figure(lines: Mapping[str, list[tuple[float, float, float]]], x: str, y: str) -> bytes:
    """Scores against a number of labels in the report's style, as PNG on white.

    Args:
        lines: by method (a role of :data:`COLOURS`) and name, as ``"semi: from synthetic faces"``: labels, mean score
            and its standard deviation. The score at 0 labels, which no logarithmic axis has, is a dashed line.
        x: label of the horizontal axis.
        y: label of the vertical axis.
    """
    figure, file = Figure(figsize=(8, 4), layout="constrained"), io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        axes = figure.subplots()
        for name, points in lines.items():
            role, _, label = name.partition(": ")
            colour = COLOURS.get(role, COLOURS["other"])[0]
            for _, score, _ in (point for point in points if not point[0]):
                axes.axhline(score, linestyle="--", color=colour, label=f"{label}, no label")
            shown = np.array(sorted(point for point in points if point[0]))
            count, score, deviation = shown.T
            axes.errorbar(count, score, yerr=deviation, capsize=4, marker="o", color=colour, label=label)
        ticks = sorted({labels for points in lines.values() for labels, *_ in points if labels})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        _finish(axes, x, y)
        figure.savefig(file, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return file.getvalue()


_AVERAGED = "Faint lines: single steps; bold: moving average over a twentieth of the steps."

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "halfmask",  # fixed ids, so that equal figures give equal bytes
    "text.parse_math": False,  # names from files may contain dollar signs
    "font.size": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": COLOURS["grid"][0],
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), COLOURS["ink"][0]),
    **dict.fromkeys(("xtick.color", "ytick.color"), COLOURS["ink"][0]),
}


def _study(run: RecordedRun) -> tuple[str, ...] | None:
    """Settings that all runs of one figure share, besides the label fraction."""
    values = tuple(run.text(key) for key in ("dataset", "data_digest", "scale", "recipe"))
    return (*values, run.text("merging")) if all(values) else None


def _fraction_of_study(run: RecordedRun) -> tuple[str, ...] | None:
    return setting(run, repeat=False)


def _lines(
    runs: list[RecordedRun], labels: Mapping[Path, str] | None = None
) -> list[tuple[RecordedRun, dict[str, Any]]]:
    """Line style of each run: colour by method, dashes by variant; one legend entry per style.

    Args:
        runs: all runs of one figure.
        labels: variant of each run by its path; by default :func:`reports.comparisons.variants`.
    """
    names = variants(runs) if labels is None else labels
    dashes: dict[str, list[str]] = {}
    lines, labelled = [], set()
    for run in runs:
        name = names[run.path]
        label = f"{run.method or 'unknown method'} ({name})" if name else run.method or "unknown method"
        if name not in (known := dashes.setdefault(run.method, [])):
            known.append(name)
        line = {
            "color": COLOURS.get(run.text("method"), COLOURS["other"])[0],
            "linestyle": DASHES[known.index(name) % len(DASHES)],
            "label": f"_{label}" if label in labelled else label,  # Matplotlib's sign for no legend entry
        }
        labelled.add(label)
        lines.append((run, line))
    return lines


def _steps_and_average(axes: Axes, run: RecordedRun, line: dict[str, Any]) -> None:
    steps, loss = run.curve("step", "train/loss")
    if not len(steps):
        return
    reach = len(loss) // 40
    start = np.maximum(np.arange(len(loss)) - reach, 0)
    end = np.minimum(np.arange(len(loss)) + reach + 1, len(loss))
    sums = np.concatenate([[0.0], np.cumsum(loss)])
    average = (sums[end] - sums[start]) / (end - start)  # over fewer steps near both ends
    every = slice(None, None, math.ceil(len(steps) / PLOTTED_STEPS))
    axes.plot(steps[every], loss[every], color=line["color"], alpha=0.25, linewidth=0.8)
    axes.plot(steps[every], average[every], **line)


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    lines = len(axes.get_legend_handles_labels()[0])
    if lines > CROWDED:  # next to the right axes, for both
        if "loss" not in y:
            _legend(axes, loc="center left", bbox_to_anchor=(1, 0.5))
    elif lines:
        _legend(axes, loc="upper right" if "loss" in y else "lower right")


def _legend(axes: Axes, **place: Any) -> None:
    for text in axes.legend(**place).get_texts():
        text.set_text(textwrap.fill(text.get_text(), LEGEND_WIDTH))


def _last(run: RecordedRun, column: str) -> float:
    values = run.curve("step", column)[1]
    return float(values[-1]) if len(values) else math.nan


def _chart(figure: Figure, title: str, alt: str, note: str, runs: list[RecordedRun]) -> Chart:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    light = dark = file.getvalue()
    for on_light, on_dark in COLOURS.values():
        dark = dark.replace(on_light, on_dark)
    return Chart(title, as_text(alt, LONGEST_ALT), note, tuple(runs), light, dark, figure)
