"""Complete W&B runs from run folders: ``python report.py view=wandb_sync``.

W&B's own log of a killed training has two parts and lacks the last steps. ``metrics.csv`` has every step exactly once:
from it, a complete offline run is written for upload.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track

from engine.wandb_runs import described, log_classes, wandb_run
from foundation.errors import ConfigError
from foundation.files import atomic_path, remove_drafts
from foundation.recorded_runs import RecordedRun

OFFLINE: dict[str, Any] = {"project": "halfmask", "mode": "offline", "group": None, "tags": []}
"""W&B settings of a run that was trained with logger=none."""
PLACES = {"epoch": "epoch", "step": "trainer/global_step"}
"""Columns of integers, and their names in W&B."""


def write_wandb_runs(runs: Sequence[RecordedRun], output_dir: Path, console: Console) -> list[Path]:
    """Write ``<output_dir>/wandb/<run>/`` for every ended run with curves, unless it exists and is newer.

    Returns:
        The folders, for ``wandb sync``.

    Raises:
        ConfigError: if there is no run with curves.
    """
    ended = [run for run in runs if run.state in ("done", "failed", "interrupted") and run.curves]
    if not ended:
        raise ConfigError(f"No run in {output_dir / 'runs'} has ended and has a metrics.csv.\nExpected: one at least.")
    folders = []
    for run in track(ended, "writing W&B runs", console=console):
        folder = output_dir / "wandb" / run.path.name
        folders.append(folder)
        if folder.is_dir() and folder.stat().st_mtime > (run.path / "status.json").stat().st_mtime:
            continue
        remove_drafts(folder.parent, folder.name)
        with atomic_path(folder) as draft:
            draft.mkdir()
            _write(run, draft)
    return folders


def _write(run: RecordedRun, folder: Path) -> None:
    import wandb

    config = _config(run)
    how = OFFLINE | (config.get("logger", {}).get("wandb") or {}) | {"mode": "offline"}
    keys = ("experiment", "sweep", "method", "dataset", "scale")
    about = {key: run.status.get(key) for key in keys} | {"stage": run.stage}
    settled = config | {"logger": {"wandb": how}, "run_id": run.id}
    with wandb_run(folder, settled, id=run.path.name, **described(about, how["group"], how["tags"])) as opened:
        for row in zip(*run.curves.values(), strict=True):
            # A step that Ctrl-C interrupted has a learning rate and no epoch.
            values = {name: float(value) for name, value in zip(run.curves, row, strict=True) if np.isfinite(value)}
            place = {column: int(values.pop(name)) for name, column in PLACES.items() if name in values}
            opened.log(values | place)
        grids = sorted((run.path / "panels").glob("epoch_*.png"))
        if grids:
            opened.log({"panels": [wandb.Image(str(path), caption=path.stem) for path in grids]})
        log_classes(opened, run.metrics)
        opened.summary.update({name: value for name, value in run.metrics.items() if name.startswith("test/")})


def _config(run: RecordedRun) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(OmegaConf.load(run.path / "config.yaml"))
    except (OSError, ValueError):
        return {}
    return {str(name): value for name, value in plain.items()} if isinstance(plain, dict) else {}
