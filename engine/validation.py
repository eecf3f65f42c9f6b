"""Validate a composed configuration against its settings, with messages that name the nearest valid key or value."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from itertools import accumulate, chain
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from engine.settings import FREE, Settings, fields, flatten, group_options, groups, nest, plain, subgroup
from foundation.errors import ConfigError, did_you_mean, nearest

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
            parent = name.rpartition(".")[0]
            if parent in known:  # a mapping instead of an object
                raise ConfigError(f"{parent} has no _target_.\nIt must be {expected(known[parent])}.")
            raise ConfigError(unknown_key(name, known))
    for name, field in known.items():
        if name not in flat or flat[name] == "":
            raise ConfigError(f"The setting {name} is missing.\nIt must be {expected(field)}: {field.description}.")
    try:
        return group.model_validate(nest(flat))
    except ValidationError as error:
        for problem in error.errors():
            for name in accumulate(map(str, problem["loc"]), "{}.{}".format):  # it may continue with types and indices
                if name in known:
                    raise ConfigError(invalid(name, flat[name], known[name])) from error
        raise


def _is_extra(group: type[Settings], name: str) -> bool:
    """Whether a setting belongs to a subgroup that allows undeclared settings."""
    *path, _ = name.split(".")
    kind: type[Settings] | None = group
    for part in path:
        field = kind.model_fields.get(part) if kind is not None else None
        kind = None if field is None else subgroup(field)
    return kind is not None and kind.model_config.get("extra") == "allow"


def invalid(name: str, value: Any, field: FieldInfo) -> str:
    """The message about a value of the wrong range or type."""
    choices = filter(lambda choice: isinstance(choice, str), options(field))
    return f"{name}={plain(value)} is invalid.\nIt must be {expected(field)}.{did_you_mean(str(value), choices)}"


def unknown_key(name: str, keys: Iterable[str]) -> str:
    """The message about a key that does not exist."""
    keys = list(keys)
    leaf = name.rpartition(".")[2]
    same_leaf = [key for key in keys if key.rpartition(".")[2] == leaf]  # finetune.lr: finetune.optimizer.lr
    near = nearest(name, same_leaf) or nearest(name, keys) or next(iter(same_leaf), None)
    hint = f"Did you mean {near}?" if near else "See conf/ or --help for all settings."
    return f"There is no setting {name}.\n{hint}"


def explain_overrides(overrides: Iterable[str], keys: Iterable[str], own: Iterable[Path] = ()) -> str | None:
    """The message about command-line overrides that Hydra rejected; None if the cause is unknown.

    Args:
        overrides: as ``key=value``.
        keys: valid settings.
        own: configuration folders of the user.
    """
    keys, own = list(keys), list(own)
    for folder in own:
        if not folder.is_dir():
            return f"--config-dir {folder} is not a folder.\nIt must contain experiment/ or other groups of conf/."
    for override in overrides:
        name, equals, value = override.lstrip("+~").partition("=")
        name = name.partition("@")[0]
        if value.startswith("~"):
            return f"{override!r}: the shell does not expand ~ there.\nWrite {name}=$HOME{value[1:]}."
        if not equals and not override.startswith("~"):
            return f"{override!r} is not a setting.\nIt must be key=value, as in label_fraction=0.01."
        if name in groups(own):
            options = group_options(name, own)
            for choice in value.split(","):
                if choice not in options:
                    return (
                        f"{name}={choice} does not exist.\nIt must be one of {', '.join(options)}"
                        f" (or a file of your own, see --config-dir).{did_you_mean(choice, options)}"
                    )
        elif name not in keys and re.split("[./]", name)[0] not in ("hydra", *FREE):
            return unknown_key(name, keys if "." in name else [*keys, *groups(own)])
    return None


def options(field: FieldInfo) -> list[Any]:
    """The values of a setting that has a fixed list of them, without null; else []."""
    kinds = _alternatives(field.annotation)
    values = [
        (True, False) if kind is bool else get_args(kind) if get_origin(kind) is Literal else () for kind in kinds
    ]
    return [*chain(*values)]


def expected(field: FieldInfo) -> str:
    """What a setting must be, as text, from its type and limits."""
    parts: list[str] = []
    alternatives = _alternatives(field.annotation)
    if type(None) in alternatives:
        parts.append("null")
    if choices := options(field):
        parts.append("one of " + ", ".join(plain(choice) for choice in choices))
    parts += [
        _kind(kind, field.metadata)
        for kind in alternatives
        if kind not in (type(None), bool) and get_origin(kind) is not Literal
    ]
    return " or ".join(parts)


def _kind(kind: Any, metadata: Iterable[Any]) -> str:
    if get_origin(kind) is Annotated:
        inner = FieldInfo.from_annotation(kind)
        return _kind(inner.annotation, [*inner.metadata, *metadata])
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        if any(getattr(limit, "min_length", 0) == 3 for limit in metadata):
            return f"[red, green, blue], each {_kind(item, ())}"
        return f"[smallest, largest], each {_kind(item, ())}" if get_origin(item) is Annotated else "a list"
    if get_origin(kind) is dict:
        return "_target_ and its arguments"
    if kind is str:
        return "a text"
    low, above, high, multiple = (
        next((getattr(limit, name) for limit in metadata if hasattr(limit, name)), None)
        for name in ("ge", "gt", "le", "multiple_of")
    )
    text = "an integer" if kind is int else "a number"
    bounds = [f"above {above:g}"] if above is not None else [] if low is None else [f"of at least {low:.10g}"]
    bounds += [] if high is None else [f"at most {high:.10g}"]
    text += f" {' and '.join(bounds)}" if bounds else ""
    return text + ("" if multiple is None else f", a multiple of {multiple}")


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) in (types.UnionType, typing.Union):
        return [inner for part in get_args(kind) for inner in _alternatives(part)]
    return [kind]
