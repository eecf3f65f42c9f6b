"""A W&B workspace with the curves and scores of the report: ``view=wandb_workspace``."""

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
    return ws.Workspace(entity=entity, project=project, name="Faces: runs and sweeps", sections=sections)


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
