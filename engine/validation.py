"""Validate a composed configuration against its settings, with messages that name the nearest valid key or value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from engine.settings import FREE, Settings, fields, flatten, group_options, groups, nest, plain, subgroup
from engine.settings_text import expected, options
from foundation.errors import ConfigError, nearest

S = TypeVar("S", bound=Settings)


def validated(group: type[S], config: Mapping[str, Any]) -> S:
    """Validate a composed configuration, nested or flat.

    Raises:
        ConfigError: for an unknown, missing or invalid setting; names what is valid and the nearest match.
    """
    flat = flatten(config)
    known = dict(fields(group))
    for name in flat:
        if name not in known and not _is_extra(group, name):
            raise ConfigError(unknown_key(name, known))
    for name, field in known.items():
        if name not in flat or flat[name] == "":
            raise ConfigError(f"The setting {name} is missing.\nIt must be {expected(field)}: {field.description}.")
    try:
        return group.model_validate(nest(flat))
    except ValidationError as error:
        names = (name_of(problem["loc"], known) for problem in error.errors())
        name = next((name for name in names if name is not None), "")
        if not name:
            raise
        raise ConfigError(invalid(name, flat[name], known[name])) from error


def _is_extra(group: type[Settings], name: str) -> bool:
    """Whether a setting belongs to a subgroup that allows undeclared settings."""
    *path, _ = name.split(".")
    kind: type[Settings] | None = group
    for part in path:
        field = kind.model_fields.get(part) if kind is not None else None
        kind = None if field is None else subgroup(field)
    return kind is not None and kind.model_config.get("extra") == "allow"


def name_of(loc: Iterable[int | str], known: Mapping[str, Any]) -> str | None:
    """The dotted name of the setting in the location of a pydantic error, which may continue with types and indices."""
    path: list[str] = []
    for part in loc:
        path.append(str(part))
        if ".".join(path) in known:
            return ".".join(path)
    return None


def invalid(name: str, value: Any, field: FieldInfo) -> str:
    """The message about a value of the wrong range or type."""
    choices = [choice for choice in options(field) if isinstance(choice, str)]
    near = nearest(str(value), choices)
    return f"{name}={plain(value)} is invalid.\nIt must be {expected(field)}." + (
        f" Did you mean {near}?" if near else ""
    )


def unknown_key(name: str, keys: Iterable[str]) -> str:
    """The message about a key that does not exist."""
    keys = list(keys)
    leaf = name.rpartition(".")[2]
    same_leaf = [key for key in keys if key.rpartition(".")[2] == leaf]  # finetune.lr: finetune.optimizer.lr
    near = nearest(name, same_leaf) or nearest(name, keys) or next(iter(same_leaf), None)
    hint = f"Did you mean {near}?" if near else "See conf/ or --help for all settings."
    return f"There is no setting {name}.\n{hint}"


def explain_overrides(overrides: Iterable[str], keys: Iterable[str]) -> str | None:
    """The message about command-line overrides that Hydra rejected; None if the cause is unknown."""
    keys = list(keys)
    for override in overrides:
        name, equals, value = override.lstrip("+~").partition("=")
        name = name.partition("@")[0]
        if value.startswith("~"):
            return f"{override!r}: the shell does not expand ~ there.\nWrite {name}=$HOME{value[1:]}."
        if not equals and not override.startswith("~"):
            return f"{override!r} is not a setting.\nIt must be key=value, as in label_fraction=0.01."
        if name in groups():
            for choice in value.split(","):
                if choice not in group_options(name):
                    near = nearest(choice, group_options(name))
                    return (
                        f"{name}={choice} does not exist.\nIt must be one of {', '.join(group_options(name))}"
                        f" (or a file of your own, see --config-dir)." + (f" Did you mean {near}?" if near else "")
                    )
        elif name not in keys and name.partition(".")[0] not in ("hydra", *FREE):
            return unknown_key(name, keys if "." in name else [*keys, *groups()])
    return None
