"""Cross-validations of self-training: the scores of their folds as one table."""

from __future__ import annotations

from collections.abc import Iterable

from engine.cross_validation import IOU, class_scores, in_per_cent
from foundation.recorded_runs import RecordedRun, as_text
from reports.comparisons import grouped
from reports.tables import MOST_CLASSES, Column, Table

COLUMNS = (Column("class", "setting"), Column("IoU", "score"), Column("F1", "score"))
NOTE = (
    "Per cent, mean ± standard deviation over folds: scores of networks that were trained without the labels of their "
    "fold. Folds that are missing may change them."
)


def cross_validations(runs: Iterable[RecordedRun]) -> list[Table]:
    """One table for each cross-validation, a row for each class and one for their mean."""
    folds = [run for run in runs if run.stage == "semi" and run.in_a_fold and run.state == "done"]
    return [_table(group) for group in grouped(folds, _validation_of)]


def _validation_of(run: RecordedRun) -> tuple[str, ...]:
    """All that enters a run's id but its fold: equal for all runs of a cross-validation."""
    settings = (f"{name}={value}" for name, value in sorted(run.setting.items()) if name != "semi.fold")
    return (run.data, run.version, run.text("data_digest"), run.text("manifest"), *settings)


def _table(runs: list[RecordedRun]) -> Table:
    first = runs[0]
    class_set = first.status.get("class_set")
    named = class_set.get("classes") if isinstance(class_set, dict) else None
    order = named if isinstance(named, list) else []
    scored = [name.removeprefix(IOU) for name in first.metrics if name.startswith(IOU)]
    classes = sorted(scored, key=lambda name: order.index(name) if name in order else len(order))[:MOST_CLASSES]
    metrics = [{name: run.metric(name) for name in run.metrics} for run in runs]
    rows = [(as_text(one.name), in_per_cent(one.iou), in_per_cent(one.f1)) for one in class_scores(metrics, classes)]
    title = f"Cross-validation, {len(runs)} of {as_text(first.setting.get('semi.folds'))} folds, {first.data}"
    return Table(title, COLUMNS, tuple(rows), (first,) * len(rows), NOTE)
