"""The command that repeats a run: its experiment, and every setting of ``config.yaml`` that differs from it."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.settings import CONF
from foundation.reading import UnreadableError, plain_yaml
from foundation.recorded_runs import RecordedRun

ENTRY_POINTS = {"evaluate": "evaluate"}
"""Stage -> entry point and configuration, of stages that train.py does not run."""
NAMES = ("experiment", "scale", "recipe", "ablation")
"""Groups that a configuration names in keys of its own."""
LEFT_OUT = ("experiment", "scale", "recipe", "output_dir", "force", "dry_run", "verify", "run_id", "hydra", "logger")
"""Keys that a command need not have: of places, and of what happens next to training."""
UNKNOWN: Any = object()
PLAIN = re.compile(r"[A-Za-z_./0-9-]+")


def command(run: RecordedRun) -> str:
    """A shell command with the settings of a run; "" if its configuration is not readable.

    Paths of the machine are those of :attr:`RecordedRun.config`, which are relative.
    """
    try:
        config = plain_yaml(run.config)
    except UnreadableError:
        return ""
    if not isinstance(config, dict):
        return ""
    entry = ENTRY_POINTS.get(run.stage, "train")
    groups = tuple(f"{name}={config[name]}" for name in NAMES if _is_name(config.get(name))) if entry == "train" else ()
    composed, groups = _composed(entry, groups)
    words = [*groups]
    for name, value in _flat(config):
        expected = composed.get(name, UNKNOWN)
        if name.partition(".")[0] in LEFT_OUT or (config.get("seed") if expected == "${seed}" else expected) == value:
            continue
        if f"ablation={value}" not in groups:
            words.append(f"{'' if name in composed else '++'}{name}={_written(value)}")
    return " ".join(("python", f"{entry}.py", *map(shlex.quote, words)))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and PLAIN.fullmatch(value) is not None


@functools.lru_cache(maxsize=256)
def _composed(entry: str, groups: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The composed settings, and those of the groups that exist here."""
    while True:
        try:
            GlobalHydra.instance().clear()
            with initialize_config_dir(str(CONF), version_base="1.3"):
                plain = OmegaConf.to_container(compose(entry, overrides=list(groups)), resolve=False)
        except (HydraException, OmegaConfBaseException):
            if not groups:
                return {}, ()
            groups = groups[:-1]  # of a group from outside
            continue
        return dict(_flat(plain if isinstance(plain, dict) else {})), groups


def _flat(config: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and value.lower() not in ("null", "true", "false") else _quoted(value)
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_written(entry)}" for name, entry in value.items()) + "}"
    return json.dumps(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'" if text else "''"
