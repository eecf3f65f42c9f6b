"""Weights & Biases runs: opened with name, group and tags, and finished also after an error.

What W&B raises, at any moment, is a warning: no logger costs a run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from engine.guarded_loggers import attempted, has_failed, warn
from foundation.errors import ConfigError

BEST = {"val/miou": "max", "val/mean_f1": "max", "val/psnr": "max", "val/loss": "min"}
"""Whether the summary of a W&B run keeps the maximum or minimum of a metric."""
FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}
"""W&B's folders in the home, which a container's user may lack -> folders next to the run's files."""
OF_AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
"""By these an agent of W&B names the one run that it waits for."""


def is_disabled(mode: str) -> bool:
    """Whether nothing is logged to W&B, by the setting or by W&B's own environment variables."""
    switched_off = os.environ.get("WANDB_DISABLED", "").lower() not in ("", "0", "false", "no", "off")
    return mode == "disabled" or switched_off or os.environ.get("WANDB_MODE", "").lower() == "disabled"


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
def wandb_run(folder: Path, config: Mapping[str, Any], by_agent: bool = False, **description: Any) -> Iterator[Any]:
    """Open a run and finish it with the stage; otherwise the next stage of this process would log to it.

    Args:
        folder: for the offline files, and for W&B's data, cache and configuration unless the environment names others.
        config: saved with the run; ``config["logger"]["wandb"]`` has project and mode.
        by_agent: whether it is the run that an agent of W&B (a sweep) waits for; the agent then sets its id.
        description: ``id``, and the result of :func:`described`.

    Yields:
        The run; None if W&B cannot open one.

    Raises:
        ConfigError: if ``mode=online`` lacks a login.
    """
    import wandb

    with mock.patch.dict(os.environ):
        _set_environment(folder, by_agent)
        run = _opened(folder, config, description)
        exit_code = 1
        try:
            if run is not None:
                attempted(run, "W&B", lambda: _define_metrics(run))
            yield run
            exit_code = 0
        finally:
            _finish(run, exit_code)
            with contextlib.suppress(Exception):
                wandb.teardown()  # the next run starts W&B's process again, with folders of its own


def _set_environment(folder: Path, by_agent: bool) -> None:
    own = Path(os.path.expanduser("~/.config/wandb/settings"))  # noqa: PTH111 (without a home it raises nothing)
    for name, place in FOLDERS.items():
        if name == "WANDB_CONFIG_DIR" and os.access(own, os.R_OK):  # as of wandb login --host
            continue
        os.environ.setdefault(name, str((folder / "wandb" / place).absolute()))
    for name in OF_AGENT if not by_agent else ():
        os.environ.pop(name, None)


def _opened(folder: Path, config: Mapping[str, Any], description: Mapping[str, Any]) -> Any:
    import wandb

    how = config["logger"]["wandb"]
    try:
        return wandb.init(
            project=how["project"],
            dir=folder,
            mode=how["mode"],
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True),
            **description,
        )
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:  # such as no login
        if how["mode"] == "online":
            raise ConfigError(
                f"Weights & Biases: {error}\nDo one of: wandb login; logger.wandb.mode=offline; logger=none."
            ) from error
        warn("W&B", error)
    except Exception as error:
        warn("W&B", error)
    return None


def _finish(run: Any, exit_code: int) -> None:
    if has_failed(run):
        with contextlib.suppress(Exception):
            run.finish(exit_code=exit_code)
    elif run is not None:
        attempted(run, "W&B", lambda: run.finish(exit_code=exit_code))


def _define_metrics(run: Any) -> None:
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    for name, summary in BEST.items():
        run.define_metric(name, step_metric="trainer/global_step", summary=summary)


def log_classes(run: Any, metrics: Mapping[str, float]) -> None:
    """Log the test scores of single classes as one table, ``test/classes``, one row per class.

    Args:
        run: an open W&B run.
        metrics: all metrics, flat: ``test/<score>/<class or group of faces>``; nothing is logged if there are none.
    """
    cells = {tuple(name.split("/", 2)[1:]): value for name, value in metrics.items() if name.startswith("test/")}
    # Names of groups have a further part (type/surgical); cleaned/ has scores but no classes.
    by_class = {key: value for key, value in cells.items() if len(key) == 2 and key[0] != "cleaned"}
    kinds = sorted({kind for kind, _ in by_class})
    rows = [[name, *(by_class.get((kind, name)) for kind in kinds)] for name in dict.fromkeys(n for _, n in by_class)]
    if rows:
        attempted(run, "W&B", lambda: _log_table(run, ["class", *kinds], rows))


def _log_table(run: Any, columns: list[Any], rows: list[list[Any]]) -> None:
    import wandb

    run.summary["test/classes"] = wandb.Table(columns, rows)
