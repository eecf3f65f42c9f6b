"""The tasks of ``prepare.py``, by name."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from datamodules.labels import PAINTING_ORDERS
from datamodules.layouts import LAYOUTS
from datamodules.synthesis.dataset import write_drawn_faces
from engine.errors import ConfigError

TASKS = ("synthetic_faces", "audit")


def prepare(config: DictConfig) -> None:
    """Run the task that the configuration names.

    Raises:
        ConfigError: for a task or a value that cannot be.
    """
    if OmegaConf.is_missing(config, "task") or config.task not in TASKS:
        said = "" if OmegaConf.is_missing(config, "task") else f"task={config.task} does not exist.\n"
        raise ConfigError(f"{said}Expected: task=<one of {', '.join(TASKS)}>. See python prepare.py --help.")
    if config.task == "audit":
        _audit(config)
        return
    for name in ("count", "size", "seed"):
        if isinstance(config[name], bool) or not isinstance(config[name], int):
            raise ConfigError(f"{name}={config[name]} cannot be.\nExpected: a whole number.")
    write_drawn_faces(
        Path(config.out) if config.out else None,
        layout=config.layout,
        count=config.count,
        size=config.size,
        seed=config.seed,
        workers=config.workers or os.cpu_count() or 1,
    )


def _audit(config: DictConfig) -> None:
    """Say what is wrong with a data set; what is found is no failure."""
    for name, known in (("dataset", LAYOUTS), ("merging", PAINTING_ORDERS)):
        if config[name] not in known:
            said = f"{name}={config[name]} is not known.\n" if config[name] else ""
            raise ConfigError(f"{said}Expected: {name}=<one of {', '.join(sorted(known))}>.")
    layout = LAYOUTS[config.dataset]
    from datamodules.audit.auditing import write_audit  # which needs image libraries

    write_audit(
        layout(Path(str(config.root or f"data/{layout.title}"))),
        out=Path(str(config.out or f"outputs/audit/{config.dataset}")),
        order=config.merging,
    )
