"""What a command that labels images says: what it found and how long it takes, and in the end how good it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datamodules.layouts import Sample
from datamodules.layouts.layout import raise_error
from engine.cross_validation import ClassScore, class_scores, in_per_cent, mean_and_deviation
from engine.stage import Run
from engine.step_timing import forecast
from foundation.errors import BrokenFileError, DataError
from foundation.files import to_csv, write_text_atomically
from foundation.notices import notice
from stages.finetuning import Finetuning

SCORES = "scores.csv"


def announce(run: Run, folds: Sequence[Run], force: bool, console: Console) -> None:
    """Print what a command found, how it scores, and how long it takes; reads every label map that is trained on.

    Raises:
        DataError: if a label map cannot be used.
    """
    layout = run.layout
    chosen = set() if run.manifest is None else {*run.manifest.ids}
    trained = [one for one in layout.samples("train") if one.id in chosen] if chosen else []
    images = layout.samples("train", labelled=False)
    without, classes = len(images) - len(trained), ", ".join(layout.labels.classes)
    console.print(
        f"{layout.root}: {len(images)} images to train on, {len(trained)} with label maps and {without} without. "
        f"{len(layout.labels)} classes: {classes}."
    )
    if unlisted := layout.survey(raise_error).get(""):
        console.print(f"Left out: {len(unlisted)} images with label maps that no list names.")
    if len(images) == len(trained):
        console.print("No image is without a label map: self-training has only the labelled ones to learn from.")
    if trained and trained[0].parts is None:
        _announce_classes(run, trained, console)
    if isinstance(run.stage, Finetuning) and run.upstream is not None:
        console.print(run.stage.start_description(run))
    console.print(_scoring(run, folds, len(trained)))
    time = forecast([run, *folds], force)
    if time is not None:
        first = " The label maps come after the first." if time.runs > 1 and not run.folder.done else ""
        console.print(f"Training takes {time}, on this machine as busy as it is now.{first}")


def _announce_classes(run: Run, trained: Sequence[Sample], console: Console) -> None:
    """Print the shares of the classes; a notice names those that no label map has."""
    from datamodules.label_survey import class_pixels

    labels = run.layout.labels
    try:
        pixels = class_pixels(trained, labels)
    except BrokenFileError as error:
        raise DataError(str(error)) from error  # found before a run has failed of it
    shares = zip(labels.classes, (100 * pixels / max(1, pixels.sum())).tolist(), strict=True)
    console.print(f"Labelled pixels: {', '.join(f'{name} {share:.2g} %' for name, share in shares)}.")
    absent = [name for name, count in zip(labels.classes, pixels.tolist(), strict=True) if not count]
    if absent:
        notice(
            f"No label map has a pixel of {', '.join(absent)}: not learnt from them.\n"
            f"Label an image that shows {'it' if len(absent) == 1 else 'them'}; or take the class out of classes.yaml."
        )


def _scoring(run: Run, folds: Sequence[Run], labelled: int) -> str:
    """One sentence about how the network will be scored."""
    if run.stage.is_tested(run):
        split = run.stage.splits_of(run)[-1]
        return f"Score: on the {len(run.layout.samples(split))} labelled images of the {split} split."
    if folds:
        least = labelled - -(-labelled // len(folds))
        return (
            f"Score: by {len(folds)} more trainings, each on all labels but those of one fold ({least} or more of "
            f"{labelled}), scored on the fold."
        )
    why = "folds=0" if labelled > 1 else "of two labelled images at least, one can be held out"
    return f"Score: none, since the data hold no labelled val or test split ({why})."


def report_scores(run: Run, folds: Sequence[Run], out: Path, console: Console) -> None:
    """Print the scores of a command's test or folds, and write them to ``scores.csv``."""
    scored = [one for one in folds or [run] if one.stage.is_tested(one)]
    if not scored:
        return
    statuses = [one.folder.status for one in scored]
    rows = class_scores([status.get("metrics", {}) for status in statuses], run.layout.labels.classes)
    if folds:
        title = f"Cross-validation over {len(folds)} folds"
        labels = sorted({status["labelled"] for status in statuses})
        trained = f"{labels[0]} to {labels[-1]}" if len(labels) > 1 else str(labels[0])
        note = (
            f"Per cent, mean ± standard deviation over folds. Of networks that were trained on {trained} of the "
            f"{run.folder.status.get('labelled')} labels; the network of the label maps was trained on all of them."
        )
    else:
        title = f"Scores on the {run.stage.splits_of(run)[-1]} split"
        note = "Per cent."
    table = Table(box=SIMPLE, title=title, caption=note, title_justify="left", caption_justify="left")
    for column in ("class", "IoU", "F1"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in rows:
        table.add_row(escape(row.name), in_per_cent(row.iou), in_per_cent(row.f1))
    Console(highlight=False).print(table)
    write_text_atomically(out / SCORES, to_csv([HEADER, *map(_cells, rows)]))
    console.print(f"Scores: {out / SCORES}")


HEADER = ("class", "iou", "iou_deviation", "f1", "f1_deviation", "folds")


def _cells(row: ClassScore) -> list[str]:
    numbers = [*mean_and_deviation(row.iou), *mean_and_deviation(row.f1)]
    return [row.name, *("" if math.isnan(number) else f"{number:.4f}" for number in numbers), str(len(row.iou))]
