"""Weights & Biases runs: opened with name, group and tags, and finished also after an error."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.errors import ConfigError

BEST = {"val/miou": "max", "val/mean_f1": "max", "val/psnr": "max", "val/loss": "min"}
"""Whether the summary of a W&B run keeps the maximum or minimum of a metric."""


def described(about: Mapping[str, Any], group: str | None, tags: Sequence[str]) -> dict[str, Any]:
    """Name, group, job type and tags of a run.

    Args:
        about: ``stage``, ``experiment``, ``sweep``, ``method``, ``dataset`` and ``scale`` of the status.
        group: None: the names of sweep and experiment, or the experiment outside a sweep.
        tags: tags from the settings.
    """
    return {
        "name": f"{about['experiment']} {about['stage']}",
        "group": group or " ".join(filter(None, (about.get("sweep"), about["experiment"]))),
        "job_type": about["stage"],
        "tags": [*tags, str(about["method"]), str(about["dataset"]), f"scale:{about['scale']}"],
    }


@contextlib.contextmanager
def wandb_run(folder: Path, config: Mapping[str, Any], **description: Any) -> Iterator[Any]:
    """Open a run and finish it with the stage; otherwise the next stage of this process would log to it.

    Args:
        folder: for the offline files.
        config: saved with the run; ``config["logger"]["wandb"]`` has project and mode.
        description: ``id``, and the result of :func:`described`.

    Raises:
        ConfigError: if W&B refuses, for example without a login.
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
    exit_code = 1
    try:
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        for name, summary in BEST.items():
            run.define_metric(name, step_metric="trainer/global_step", summary=summary)
        yield run
        exit_code = 0
    finally:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:  # an error of W&B must not fail the run
            warnings.warn(f"W&B run {run.id} could not be finished ({error}); metrics.csv is complete.", stacklevel=2)


def log_classes(run: Any, metrics: Mapping[str, float]) -> None:
    """Log the test scores of single classes as one table, ``test/classes``, one row per class.

    Args:
        run: an open W&B run.
        metrics: all metrics, flat: ``test/<score>/<class or group of faces>``; nothing is logged if there are none.
    """
    import wandb

    cells = {tuple(name.split("/", 2)[1:]): value for name, value in metrics.items() if name.startswith("test/")}
    # Names of groups have a further part (type/surgical); cleaned/ has scores but no classes.
    by_class = {key: value for key, value in cells.items() if len(key) == 2 and key[0] != "cleaned"}
    kinds = sorted({kind for kind, _ in by_class})
    rows = [[name, *(by_class.get((kind, name)) for kind in kinds)] for name in dict.fromkeys(n for _, n in by_class)]
    if rows:
        run.summary["test/classes"] = wandb.Table(["class", *kinds], rows)
