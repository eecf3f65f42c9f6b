"""A W&B workspace with the report's content: scores, curves, images, classes, settings: ``view=wandb_workspace``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foundation.errors import ConfigError
from foundation.recorded_runs import RecordedRun

SECTIONS = (
    ("Fine-tuning: validation", "epoch", ("val/miou", "val/mean_f1", "val/miou_small", "val/pixel_accuracy")),
    ("Occlusion segmentation: validation", "epoch", ("val/iou", "val/dice", "val/accuracy", "val/ssim")),
    ("Occlusion segmentation: training", "epoch", ("train/accuracy",)),
    ("Pre-training: validation", "epoch", ("val/psnr",)),
    ("Optimisation", "trainer/global_step", ("train/loss", "val/loss", "train/lr")),
)
"""Title, axis and metrics of each section; metrics that no run has logged are left out."""

IMAGES = ("panels", "test/image", "test/ground_truth", "test/prediction", "test/confusion")
"""Images of runs: validation faces by epoch, test faces and the confusion matrix, see :mod:`reports.wandb_sync`."""

TESTED = ("test/miou", "test/mean_f1", "test/miou_small", "test/pixel_accuracy", "test/dice")


def workspace(runs: Sequence[RecordedRun], entity: str, project: str) -> Any:
    """The workspace of a project, not saved yet: test scores by group, then curves, runs grouped as sweeps are.

    Args:
        runs: the runs, whose metrics are shown.
        entity: the user or team in W&B.
        project: the project that the runs are uploaded to.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace``.

    Raises:
        ConfigError: if the optional package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError(
            "view=wandb_workspace needs the package wandb-workspaces.\nDo: pip install 'wandb-workspaces>=0.4'"
        ) from error
    logged = {name for run in runs for name in run.curves}
    scored = {name for run in runs for name in run.metrics}
    bars: list[Any] = [
        panels.BarPlot(title=name, metrics=[panels.SummaryMetric(name)], groupby="group", groupby_rangefunc="stddev")
        for name in TESTED
        if name in scored
    ]
    sections = [ws.Section(name="Test", panels=bars, is_open=True)] if bars else []
    for title, axis, metrics in SECTIONS:
        lines: list[Any] = [panels.LinePlot(title=name, x=axis, y=[name]) for name in metrics if name in logged]
        if lines:
            sections.append(ws.Section(name=title, panels=lines, is_open=True))
    sections += _tables_and_images(runs, panels, ws)
    return ws.Workspace(entity=entity, project=project, name="Faces: runs and sweeps", sections=sections)


def _tables_and_images(runs: Sequence[RecordedRun], panels: Any, ws: Any) -> list[Any]:
    """Sections of images with a step slider, scores by class, and settings, those that differ first."""
    found = []
    if any(run.panels for run in runs):
        shown = [panels.MediaBrowser(title=name, media_keys=[name], num_columns=3) for name in IMAGES]
        found.append(ws.Section(name="Images", panels=shown, is_open=True))
    if any(name.startswith("test/iou/") for run in runs for name in run.metrics):
        table = panels.WeavePanelSummaryTable(table_name="test/classes")
        found.append(ws.Section(name="Classes", panels=[table], is_open=True))
    swept = _swept(runs)
    compared: list[Any] = [panels.RunComparer(diff_only="split")]
    if swept and any("test/miou" in run.metrics for run in runs):
        columns = [panels.ParallelCoordinatesPlotColumn(panels.Config(name)) for name in swept]
        score = panels.ParallelCoordinatesPlotColumn(panels.SummaryMetric("test/miou"))
        compared.append(panels.ParallelCoordinatesPlot(columns=[*columns, score], title="Settings and test mIoU"))
    found.append(ws.Section(name="Settings", panels=compared, is_open=True))
    return found


MOST_SWEPT = 6


def _swept(runs: Sequence[RecordedRun]) -> list[str]:
    """The first settings that differ between finished parsers, by their names in W&B's configuration."""
    tested = [run.setting for run in runs if run.tested]
    shared = set.intersection(*map(set, tested)) if tested else set()
    return [name for name in sorted(shared) if len({str(own[name]) for own in tested}) > 1][:MOST_SWEPT]


def save_workspace(runs: Sequence[RecordedRun], entity: str | None, project: str) -> str:
    """Save the workspace; its address.

    Raises:
        ConfigError: without an entity, the package or a login.
    """
    if entity is None:
        raise ConfigError("view=wandb_workspace needs entity=<your user or team in W&B>.")
    made = workspace(runs, entity, project)
    import wandb

    try:
        return str(made.save().url)
    except wandb.errors.Error as error:
        raise ConfigError(f"Weights & Biases: {error}\nDo: wandb login, then the same command again.") from error
