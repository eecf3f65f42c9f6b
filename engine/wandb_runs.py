"""Weights & Biases runs: opened with what they belong to, and finished whatever happens."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.errors import ConfigError

BEST = {"val/miou": "max", "val/mean_f1": "max", "val/psnr": "max", "val/loss": "min"}
"""What the summary of a W&B run keeps of a curve."""


def described(about: Mapping[str, Any], group: str | None, tags: Sequence[str]) -> dict[str, Any]:
    """Name, group, job type and tags of a run.

    Args:
        about: ``stage``, ``experiment``, ``sweep``, ``method``, ``dataset`` and ``scale``, as the status has them.
        group: None is the sweep with its experiment; a run that belongs to no sweep's file has the experiment alone.
        tags: those of the user.
    """
    return {
        "name": f"{about['experiment']} {about['stage']}",
        "group": group or " ".join(filter(None, (about.get("sweep"), about["experiment"]))),
        "job_type": about["stage"],
        "tags": [*tags, str(about["method"]), str(about["dataset"]), f"scale:{about['scale']}"],
    }


@contextlib.contextmanager
def wandb_run(folder: Path, config: Mapping[str, Any], **description: Any) -> Iterator[Any]:
    """Open a run and finish it with the stage: the next one of this process would continue it otherwise.

    Args:
        folder: where the offline files go.
        config: the composed configuration, kept with the run; ``config["logger"]["wandb"]`` says how to log.
        description: ``id``, and what :func:`described` says.

    Raises:
        ConfigError: if W&B refuses, as without a login.
    """
    import wandb

    how = config["logger"]["wandb"]
    try:
        run = wandb.init(
            project=how["project"],
            dir=folder,
            mode=how["mode"],
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True),
            **description,
        )
    except wandb.errors.Error as error:
        raise ConfigError(
            f"Weights & Biases: {error}\nDo one of: wandb login; logger.wandb.mode=offline; logger=none."
        ) from error
    try:
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        for name, summary in BEST.items():
            run.define_metric(name, step_metric="trainer/global_step", summary=summary)
        yield run
    except BaseException:
        _finish(run, 1)
        raise
    _finish(run, 0)


def log_classes(run: Any, metrics: Mapping[str, float]) -> None:
    """Put the test scores of single classes into a run as one table, ``test/classes``, a row for each class.

    Args:
        run: an open W&B run.
        metrics: all metrics, flat: ``test/<score>/<class or group of faces>``; without any, nothing is logged.
    """
    import wandb

    cells = {tuple(name.split("/", 2)[1:]): value for name, value in metrics.items() if name.startswith("test/")}
    # Of a group, as type/surgical, the name goes on; what was cleaned has scores of its own and no class.
    by_class = {key: value for key, value in cells.items() if len(key) == 2 and key[0] != "cleaned"}
    kinds = sorted({kind for kind, _ in by_class})
    rows = [[name, *(by_class.get((kind, name)) for kind in kinds)] for name in dict.fromkeys(n for _, n in by_class)]
    if rows:
        run.summary["test/classes"] = wandb.Table(["class", *kinds], rows)


def _finish(run: Any, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:  # what W&B cannot do shall change nothing
        warnings.warn(f"W&B run {run.id} could not be finished ({error}); metrics.csv is whole.", stacklevel=2)
