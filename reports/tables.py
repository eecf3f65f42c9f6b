"""Tables of runs as plain data, for the screen and the page."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from foundation.files import to_csv
from foundation.recorded_runs import RecordedRun, as_text
from reports.comparisons import PAIRED, grouped, pairs, signed, variants

IOU = "test/iou/"
SCORES = {
    "mIoU": "test/miou",
    "mean F1": "test/mean_f1",
    "pixel acc.": "test/pixel_accuracy",
    "mean acc.": "test/mean_accuracy",
}
SMALL = {"small mIoU": "test/miou_small", "small F1": "test/f1_small"}
MASKS = {
    "accuracy": "test/accuracy",
    "SSIM": "test/ssim",
    "mIoU": "test/miou",
    "Dice": "test/dice",
    "cleaned mIoU": "test/cleaned/miou",
    "cleaned Dice": "test/cleaned/dice",
    "false area": "test/false_area",
}
ANNOTATED = {
    "masked, called occluded": "test/called/kind/masked",
    "bare, called occluded": "test/called/kind/bare",
    "box IoU": "test/box_iou",
    "cleaned box IoU": "test/cleaned/box_iou",
}
HEADS = {"fit, s": "fit_seconds", "Mpx/s": "megapixels_per_second", "tests": "tests_per_pixel"}
"""Heads fitted to features: fitting time, speed, and binary SVMs evaluated per pixel."""
CELL = {"rate": "segment.optimizer.lr", "kernel": "segment.kernel", "initialisation": "segment.initialization"}
"""Settings that the occlusion paper's grid search varies."""
PAGE_ONLY = ("method", "parser", "classes", "variant", "pixel acc.", "mean acc.", "small F1")
"""Columns of evaluations that are shown on the page only."""
MOST_CLASSES = 300
"""Columns of a table of classes; a label map has at most 255."""
Kind = Literal["run", "method", "setting", "words", "score", "bar"]


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        title: the column's title.
        kind: "run" for ids, "method" for methods, "setting" for settings, "words" for text that may wrap, "score" for
            numbers, "bar" for percentages that the page shows with a bar.
    """

    title: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """A table of text cells, one row for each run.

    Args:
        title: title.
        columns: one for each cell of a row.
        rows: the cells, as shown.
        runs: the run of each row.
        note: explanation; may be "".
        measured: whether there are rows of this code, and not of the papers alone.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    runs: tuple[RecordedRun, ...]
    note: str = ""
    measured: bool = True

    def csv(self) -> str:
        """The table as comma-separated values with a header."""
        return to_csv([[column.title for column in self.columns], *self.rows])

    def latex(self) -> str:
        """The table as LaTeX (a ``tabular`` with the rules of booktabs), its title and note as comments."""
        right = ("score", "bar")
        layout = "".join("r" if column.kind in right else "l" for column in self.columns)
        head, *body = (
            " & ".join(map(_in_latex, cells)) + r" \\"
            for cells in ([column.title for column in self.columns], *self.rows)
        )
        comments = [f"% {line}" for line in (self.title, self.note) if line]
        ruled = [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*comments, rf"\begin{{tabular}}{{{layout}}}", *ruled, r"\end{tabular}", ""])

    def rich(self, without: Collection[str] = ()) -> rich.table.Table:
        """The table for a screen; settings that all rows share are in the caption instead of a column.

        Args:
            without: titles of columns to leave out.
        """
        table = rich.table.Table(
            title=Text(self.title), box=SIMPLE_HEAD, padding=0, title_justify="left", caption_justify="left"
        )
        shown, shared = [], []
        for index, column in enumerate(self.columns):
            if column.title in without:
                continue
            values = {row[index] for row in self.rows}
            if column.kind == "setting" and len(self.rows) > 1 and len(values) == 1:
                shared.append(f"{column.title}: {values.pop() or '—'}")
            else:
                shown.append(index)
                # A narrow screen may break cells into lines, but only between words.
                longest = max((len(word) for value in values for word in value.split()), default=0)
                right = column.kind in ("score", "bar")
                table.add_column(Text(column.title), justify="right" if right else "left", min_width=longest)
        for row in self.rows:
            table.add_row(*(Text(row[index]) for index in shown))
        table.caption = Text("\n".join(part for part in (" · ".join(shared), self.note) if part))
        return table


def results(runs: Iterable[RecordedRun]) -> Table:
    """Test scores of all finished parsers in per cent, and the gain over the baseline in points."""
    tested = [run for run in runs if run.tested]
    gains = {pair.run.path: signed(pair.gain) for pair in pairs(tested)}
    note = (
        "Scores on the test set in per cent. Gain: mIoU points over the one baseline with the same data, scale, "
        "recipe, label fraction, subset and seed. Val. labels: labels of the validation split that chose the epoch."
    )
    if any(run.stage == "classify" for run in tested):
        note += (
            " Hybrid: a head fitted to the features of a pre-training or a fine-tuning; conv is its linear head, or "
            "the fine-tuned one itself. Mpx/s: megapixels a second of the head alone. Tests: binary SVMs "
            "evaluated per pixel."
        )
    return _table(
        "Test results",
        tested,
        {
            "labels": [run.fraction for run in tested],
            "val. labels": [_count(run.number("validation_labels")) for run in tested],
            **{key: [run.text(key) for run in tested] for key in ("subset", "seed")},
        },
        "score",
        {
            **{title: [percent(run.metric(name)) for run in tested] for title, name in SCORES.items()},
            **{title: [_plain(run.number(name)) for run in tested] for title, name in HEADS.items()},
            "gain": [gains.get(run.path, "not paired" if run.text("method") in PAIRED else "") for run in tested],
        },
        note,
        {
            "data": [run.data for run in tested],
            **{key: [run.text(key) for run in tested] for key in ("scale", "recipe")},
        },
    )


def across(runs: Iterable[RecordedRun]) -> Table:
    """Scores of all finished evaluations in per cent, with the data for training and for scoring."""
    evaluated = [run for run in runs if run.evaluated]
    upstream = [as_text(", ".join(run.upstreams)) for run in evaluated]
    return _table(
        "Across data sets",
        evaluated,
        {
            "parser": upstream,
            "trained on": [run.trained_on for run in evaluated],
            "scored on": [run.data for run in evaluated],
            "split": [run.text("split") for run in evaluated],
            "classes": [run.text("classes") for run in evaluated],
            **{key: [run.text(key) for run in evaluated] for key in ("scale", "recipe")},
            "labels": [run.fraction for run in evaluated],
            **{key: [run.text(key) for run in evaluated] for key in ("subset", "seed")},
        },
        "score",
        {title: [percent(run.metric(name)) for run in evaluated] for title, name in (SCORES | SMALL).items()},
        "Scores of finished runs on complete splits in per cent. Across data sets, predictions and labels are mapped "
        "to common classes; compare only rows with the same classes. Small: classes below 1 % of the labelled pixels.",
    )


def occlusion(runs: Iterable[RecordedRun]) -> Table:
    """Scores of occlusion segmenters in per cent, on their own test faces and on others."""
    scored = [run for run in runs if run.of_masks and not run.in_a_fold]
    upstream = [as_text(", ".join(run.upstreams)) for run in scored]
    shown = {title: name for title, name in (MASKS | ANNOTATED).items() if any(name in run.metrics for run in scored)}
    return _table(
        "Occlusion segmentation",
        scored,
        {
            "segmenter": upstream,
            "scored on": [run.data for run in scored],
            "split": [run.text("split") or "test" for run in scored],
            **{key: [run.text(key) for run in scored] for key in ("scale", "recipe", "seed")},
        },
        "score",
        {title: [percent(run.metric(name)) for run in scored] for title, name in shown.items()},
        "Scores on complete splits in per cent: of predicted masks, and after noise processing (cleaned). False area: "
        "pixels predicted as occluded on bare faces. Called occluded: faces with 5 % or more of such pixels. Box IoU: "
        "of the predicted mask's box with the occluder's box.",
    )


def grid_searches(runs: Iterable[RecordedRun]) -> list[Table]:
    """The cells of each grid search, the best first: mean and standard deviation over its folds."""
    folds = [run for run in runs if run.stage == "segment" and run.in_a_fold and run.state == "done"]
    searched = [run for run in folds if not math.isnan(run.metric("val/miou"))]
    return [_grid_search(group) for group in grouped(searched, lambda run: (*_search_of(run), run.data))]


def _search_of(run: RecordedRun) -> tuple[str, ...]:
    """All settings of a run's id except cell and fold: equal for all runs of a search."""
    apart = {*CELL.values(), "segment.fold"}
    settings = (f"{name}={value}" for name, value in sorted(run.setting.items()) if name not in apart)
    return (run.version, run.text("data_digest"), *settings)


def _grid_search(runs: list[RecordedRun]) -> Table:
    cells = grouped(runs, lambda run: tuple(str(run.setting.get(name)) for name in CELL.values()))
    scores = [np.array([100 * run.metric("val/miou") for run in cell]) for cell in cells]
    order = sorted(range(len(cells)), key=lambda place: -scores[place].mean())
    firsts = [cells[place][0] for place in order]
    folds = firsts[0].setting["segment.folds"]
    columns = (
        *(Column(title, "setting") for title in CELL),
        Column("folds", "score"),
        Column("mIoU", "score"),
        Column("deviation", "score"),
    )
    rows = tuple(
        (
            *(as_text(cells[place][0].setting.get(name)) for name in CELL.values()),
            f"{len(cells[place])} of {folds}",
            f"{scores[place].mean():.2f}",
            f"{scores[place].std(ddof=1):.2f}" if len(scores[place]) > 1 else "—",
        )
        for place in order
    )
    note = (
        "mIoU on the validation fold in per cent, of the best epoch: mean and standard deviation over folds, the best "
        "cell first. Cells with missing folds are not comparable."
    )
    first = firsts[0]
    title = f"Grid search of {first.text('network').replace('_', ' ')}, {first.data}, scale {first.text('scale')}"
    return Table(title, columns, rows, tuple(firsts), note)


def class_ious(runs: Iterable[RecordedRun]) -> list[Table]:
    """IoU of each class in per cent, one table for each data set."""
    tested = [run for run in runs if run.tested and any(name.startswith(IOU) for name in run.metrics)]
    return [_class_ious(group) for group in grouped(tested, lambda run: run.data)]


def _class_ious(runs: list[RecordedRun]) -> Table:
    # The classes in the order of their ids, as in the runs' metrics.
    every = dict.fromkeys(name for run in runs for name in run.metrics if name.startswith(IOU))
    names = list(every)[:MOST_CLASSES]
    ious = {as_text(name[len(IOU) :].replace("_", " ")): [percent(run.metric(name)) for run in runs] for name in names}
    note = "IoU on the test set in per cent; — for a class that occurs neither in ground truth nor in prediction."
    return _table(f"IoU by class, {runs[0].data}", runs, {"labels": [run.fraction for run in runs]}, "bar", ious, note)


def _table(
    title: str,
    runs: list[RecordedRun],
    settings: dict[str, list[str]],
    kind: Kind,
    numbers: dict[str, list[str]],
    note: str,
    context: Mapping[str, list[str]] = MappingProxyType({}),
) -> Table:
    """A table from its columns' cells, numbers before common settings; empty columns are left out."""
    names = variants(runs)
    columns = {
        Column("run", "run"): [run.id for run in runs],
        Column("method", "method"): [run.method or "—" for run in runs],
        Column("variant", "setting"): [names[run.path] for run in runs],
        **{Column(head, "setting"): cells for head, cells in settings.items()},
        **{Column(head, kind): cells for head, cells in numbers.items()},
        **{Column(head, "setting"): cells for head, cells in context.items()},
    }
    filled = {column: cells for column, cells in columns.items() if any(cells)}
    return Table(title, tuple(filled), tuple(zip(*filled.values(), strict=True)), tuple(runs), note)


def _plain(number: float) -> str:
    """A number with four digits; "" for NaN."""
    return "" if math.isnan(number) else f"{number:.4g}"


LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "—": "---",
    "·": r"$\cdot$",
}


def _in_latex(cell: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in cell.replace("\n", " "))


def _count(number: float) -> str:
    """A number of images; "" for NaN."""
    return "" if math.isnan(number) else f"{number:.0f}"


def percent(share: float) -> str:
    """A share (0..1) in per cent with two decimals; an em dash for NaN."""
    return "—" if math.isnan(share) else f"{100 * share:.2f}"


def print_results(runs: Iterable[RecordedRun], console: Console | None = None) -> None:
    """Print the tables of results, evaluations and segmenters, or one line if no fine-tuning run is done.

    Args:
        runs: runs of any stage and state.
        console: where to print; standard output by default.
    """
    console = console or Console()
    runs = list(runs)
    table = results(runs)
    if table.rows or not any(run.of_masks for run in runs):
        console.print(table.rich() if table.rows else Text("No fine-tuning run is done yet."))
    if (evaluations := across(runs)).rows:
        console.print(evaluations.rich(without=PAGE_ONLY))
    for search in grid_searches(runs):
        console.print(search.rich())
    if (masks := occlusion(runs)).rows:
        console.print(
            masks.rich(
                without=(
                    *PAGE_ONLY,
                    "scale",
                    "recipe",
                    "SSIM",
                    "cleaned mIoU",
                    "cleaned Dice",
                    "false area",
                    "cleaned box IoU",
                )
            )
        )
