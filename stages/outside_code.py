"""Code from outside that a command names: its layout, callbacks, loggers and stages, checked before anything is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datamodules.layouts import LAYOUTS, Layout
from datamodules.mask_rules import MaskRules
from engine.plugins import build, is_plugin, require
from engine.settings import fields, flatten, nest, note, plain
from engine.stage import Stage
from foundation.errors import ConfigError, did_you_mean
from stages.groups import MaskSettings

FIRST = ("pretrain", "segment")
"""Stages that start from nothing of a run before them."""


def stages_of(listed: Any, known: Mapping[str, Stage], taken: Iterable[str]) -> list[Stage]:
    """The stages that the setting ``stages`` lists.

    Args:
        listed: names, and ``_target_`` with arguments.
        known: this project's stages by name.
        taken: names that no stage may have, since settings have them.

    Raises:
        ConfigError: if one is none, or their order leaves one without the run that it starts from.
    """
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"stages={listed} is invalid.\nIt must be a list, as [pretrain, finetune].")
    stages = [_stage(entry, f"stages[{place}]", known) for place, entry in enumerate(listed)]
    names = [stage.name for stage in stages]
    for place, name in enumerate(names):
        if name in taken and name not in known:
            raise ConfigError(f"stages[{place}]: the name {name} is that of a setting.\nIt must be another one.")
        if name in names[:place]:
            raise ConfigError(f"stages lists {name} twice.\nEach must have a name of its own.")
        if place and name in FIRST:
            raise ConfigError(f"stages: {name} starts from no other run.\nIt must be the first of them.")
    if "classify" in names and not {"pretrain", "finetune", "semi"} & {*names[: names.index("classify")]}:
        raise ConfigError(
            "stages: classify reads the features of a network.\nIt must come after pretrain, finetune or semi."
        )
    return stages


def _stage(entry: Any, key: str, known: Mapping[str, Stage]) -> Stage:
    if not is_plugin(entry):
        if isinstance(entry, str) and entry in known:
            return known[entry]
        raise ConfigError(
            f"{key}={entry} is invalid.\nIt must be one of {', '.join(known)}, or a mapping with _target_."
            + did_you_mean(str(entry), known)
        )
    stage = build(entry, key, kind=Stage)
    if absent := [name for name in ("name", "version", "settings", "reads") if not hasattr(stage, name)]:
        raise ConfigError(f"{key}: {entry['_target_']} has no {', '.join(absent)}.\nSee engine.stage.Stage.")
    stage.arguments = {name: value for name, value in entry.items() if name != "_target_"}
    return stage


def with_defaults(config: Mapping[str, Any], stages: Iterable[Stage]) -> dict[str, Any]:
    """A composed configuration, flat, in which stages from outside have the defaults of what it does not name."""
    flat = flatten(config)
    for stage in stages:
        for name, field in fields(stage.settings, f"{stage.name}."):
            if name in flat or field.is_required():
                continue
            written = note(field, "written")  # as ${seed}
            flat[name] = flat.get(written[2:-1], field.get_default(call_default_factory=True))
    return nest(flat)


def check_objects(free: Mapping[str, Any]) -> None:
    """See that callbacks and loggers are objects by ``_target_``, or null.

    Raises:
        ConfigError: if not, or one from outside cannot be imported or does not take its arguments.
    """
    for group, entries in free.items():
        if not isinstance(entries, Mapping):
            raise ConfigError(f"{group}={entries} is invalid.\nIt must be a mapping of names.")
        for name, entry in entries.items():
            if entry is not None and not isinstance(entry, Mapping):
                raise ConfigError(
                    f"{group}.{name}={entry} is invalid.\nIt must be null, or _target_ and its arguments."
                )
            if entry is not None and not (is_plugin(entry) or (group, name) == ("logger", "wandb")):
                raise ConfigError(f"{group}.{name} has no _target_.\nIt must name a class, as my_package.MyThing.")
    loggers = {f"logger.{name}": entry for name, entry in free["logger"].items() if is_plugin(entry)}
    for name, entry in (outside_objects(free) | loggers).items():
        from pytorch_lightning.callbacks import Callback  # seconds: only for what comes from outside
        from pytorch_lightning.loggers import Logger

        require(entry, name, kind=Logger if name in loggers else Callback)
    mode = (free["logger"].get("wandb") or {}).get("mode", "offline")
    if mode not in (modes := ("offline", "online", "disabled")):
        raise ConfigError(
            f"logger.wandb.mode={mode} is invalid.\nIt must be one of {', '.join(modes)}."
            + did_you_mean(str(mode), modes)
        )


def outside_objects(config: Mapping[str, Any]) -> dict[str, Any]:
    """Callbacks from outside: they may change results, and enter every id of a command."""
    callbacks = config.get("callbacks") or {}
    return {
        f"callbacks.{name}": entry
        for name, entry in callbacks.items()
        if entry is not None and not str(entry["_target_"]).startswith("callbacks.")
    }


def check_masks(dataset: str | None, mask: MaskSettings, prefix: str = "") -> None:
    """See that something is declared about masks only for a data set that has masks of its own.

    Args:
        dataset: its layout; None for one from outside.
        mask: the settings.
        prefix: of their names, for messages.

    Raises:
        ConfigError: if not.
    """
    known = LAYOUTS.get(dataset or "")
    if mask.rules == MaskRules() or known is None or (known.kind == "occlusion" and known.mask is not None):
        return
    name = next(name for name, value in mask if value not in (None, False))
    raise ConfigError(
        f"{prefix}mask.{name}={plain(mask[name])} does not go with {dataset}, which has no masks of its own.\n"
        f"It must be left out; or the data set image_mask_folder."
    )


def declared(layout: Layout, mask: MaskSettings) -> Layout:
    """A layout with what is declared about its masks, if it has any."""
    if mask.rules != MaskRules() and layout.kind == "occlusion" and layout.mask is not None:
        layout.mask = mask.rules
    return layout


def outside_layout(value: Mapping[str, Any], key: str, root: Path) -> Layout:
    """The layout of the folder ``root`` that ``{_target_: ..., argument: value}``, the setting ``key``, describes.

    Raises:
        ConfigError: if it cannot be built, or is no layout.
    """
    layout = build(value, key, root=root, kind=Layout)
    if absent := [name for name in ("root", "name", "labels", "title", "published") if not hasattr(layout, name)]:
        raise ConfigError(f"{key}: {value['_target_']} has no {', '.join(absent)}.\nSee datamodules.layouts.Layout.")
    return layout
