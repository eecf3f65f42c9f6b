"""Settings declared once: type, range, default, meaning, and whether they enter a run's id.

A group of settings is a pydantic model whose fields are made by :func:`setting`. Validation, ``--help``, the YAML files
of defaults, ``docs/settings.md`` and identities all come from it. Identity is opt-out: every setting of the groups that
a stage reads enters its id, except those that are ``harmless`` and those that others leave without effect (``only``).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le, MultipleOf
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from foundation.errors import ConfigError, nearest

CONF = Path(__file__).parent.parent / "conf"
FREE = ("callbacks", "logger")
"""Groups of objects by ``_target_``, to which a user may add."""
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """A group of settings; ``settings["optimizer.lr"]`` is ``settings.optimizer.lr``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def __getitem__(self, key: str) -> Any:
        value: Any = self
        for name in key.split("."):
            value = getattr(value, name)
        return value

    def flat(self, prefix: str = "") -> dict[str, Any]:
        """Every setting by its dotted name, as plain values."""
        return dict(self._leaves(prefix))

    def _leaves(self, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in self:
            if isinstance(value, Settings):
                yield from value._leaves(f"{prefix}{name}.")
            else:
                yield prefix + name, value


def setting(
    default: Any = ...,
    description: str = "",
    *,
    harmless: str = "",
    only: str = "",
    written: str = "",
    **limits: Any,
) -> Any:
    """One setting of a group.

    Args:
        default: its value where nothing is said; without one it must be given.
        description: what it is, one line.
        harmless: why it changes no result; it then stays out of every id.
        only: when it has an effect, as ``name=sgd`` or ``head!=conv and machine=rbf|nystroem``: names of the same
            group, or dotted ones of the whole command. It stays out of the id otherwise.
        written: the default in YAML where it refers to another key, as ``${seed}``.
        limits: ``ge``, ``gt``, ``le``, ``multiple_of``, as pydantic has them.
    """
    extra: dict[str, Any] = {"harmless": harmless, "only": only, "written": written}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def note(field: FieldInfo, name: str) -> str:
    """What :func:`setting` was given by this name."""
    extra = field.json_schema_extra
    return str(extra.get(name) or "") if isinstance(extra, dict) else ""


def _ordered(pair: list[Any]) -> list[Any]:
    if pair[0] > pair[1]:
        raise ValueError("the second must not be below the first")
    return pair


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
SizeRange = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
ScaleRange = Annotated[
    list[Annotated[float, Field(ge=0.1, le=10)]], Field(min_length=2, max_length=2), AfterValidator(_ordered)
]
Plugin = dict[str, Any]
"""``{_target_: my_package.Thing, argument: value}``: code from outside, see :mod:`engine.plugins`."""


# What there is


def fields(group: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of a group and its subgroups, by dotted name."""
    for name, field in group.model_fields.items():
        if (inner := subgroup(field)) is not None:
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def subgroup(field: FieldInfo) -> type[Settings] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def group_options(group: str, own: Iterable[Path] = ()) -> list[str]:
    """The choices of a configuration group: the files of its folder, here and in the user's own configuration."""
    return sorted({path.stem for folder in (CONF, *own) for path in (folder / group).glob("*.yaml")})


def groups(own: Iterable[Path] = ()) -> list[str]:
    """The configuration groups: the folders of ``conf/``, and of the user's own configuration."""
    folders = [folder for folder in (CONF, *own) if folder.is_dir()]
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings -> {"a.b.c": value}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        opaque = (not prefix and name in FREE) or (isinstance(value, Mapping) and "_target_" in value)
        if isinstance(value, Mapping) and not opaque:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of :func:`flatten`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value
    return nested


# Validation


def validated(group: type[S], config: Mapping[str, Any]) -> S:
    """A composed configuration, nested or flat, as settings.

    Raises:
        ConfigError: for a setting that is unknown, missing or invalid, with what it must be and the nearest right one.
    """
    flat = flatten(config)
    known = dict(fields(group))
    for name in flat:
        if name not in known and not _is_extra(group, name):
            parent = name.rpartition(".")[0]
            if parent in known:  # a mapping where an object is due
                raise ConfigError(f"{parent} has no _target_.\nIt must be {expected(known[parent])}.")
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
    """Whether a setting belongs to a subgroup that takes any."""
    *path, _ = name.split(".")
    kind: type[Settings] | None = group
    for part in path:
        field = kind.model_fields.get(part) if kind is not None else None
        kind = None if field is None else subgroup(field)
    return kind is not None and kind.model_config.get("extra") == "allow"


def name_of(loc: Iterable[int | str], known: Mapping[str, Any]) -> str | None:
    """The dotted setting at a place in an error of pydantic, which names kinds and items behind it."""
    path: list[str] = []
    for part in loc:
        path.append(str(part))
        if ".".join(path) in known:
            return ".".join(path)
    return None


def invalid(name: str, value: Any, field: FieldInfo) -> str:
    """The message about a value that is out of range or of the wrong type."""
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
    hint = f"Did you mean {near}?" if near else "See conf/ or --help for those that exist."
    return f"There is no setting {name}.\n{hint}"


def explain_overrides(overrides: Iterable[str], keys: Iterable[str], own: Iterable[Path] = ()) -> str | None:
    """What is wrong with command-line overrides that Hydra refused, in this project's words; None if unknown.

    Args:
        overrides: as ``key=value``.
        keys: settings that exist.
        own: folders of the user's own configuration.
    """
    keys, own = list(keys), list(own)
    for folder in own:
        if not folder.is_dir():
            return f"--config-dir {folder} is no folder.\nIt must hold experiment/ or other groups of conf/."
    for override in overrides:
        name, equals, value = override.lstrip("+~").partition("=")
        name = name.partition("@")[0]
        if value.startswith("~"):
            return f"{override!r}: the shell leaves ~ as it is there.\nWrite {name}=$HOME{value[1:]}."
        if not equals and not override.startswith("~"):
            return f"{override!r} is not a setting.\nIt must be key=value, as in label_fraction=0.01."
        if name in groups(own):
            options = group_options(name, own)
            for choice in value.split(","):
                if choice not in options:
                    near = nearest(choice, options)
                    return (
                        f"{name}={choice} does not exist.\nIt must be one of {', '.join(options)}"
                        f" (or a file of your own, see --config-dir)." + (f" Did you mean {near}?" if near else "")
                    )
        elif name not in keys and name.partition(".")[0] not in ("hydra", *FREE):
            return unknown_key(name, keys if "." in name else [*keys, *groups(own)])
    return None


# What a setting must be, in words


def options(field: FieldInfo) -> list[Any]:
    """The values that a setting may take, where they are few; null is left out."""
    found: list[Any] = []
    for kind in _alternatives(field.annotation):
        if get_origin(kind) is Literal:
            found += get_args(kind)
        elif kind is bool:
            found += [True, False]
    return found


def expected(field: FieldInfo) -> str:
    """What a setting must be, in words, from its type and limits."""
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
        return _kind(get_args(kind)[0], [*_limits(get_args(kind)[1:]), *metadata])
    if get_origin(kind) is list:
        return f"[smallest, largest], each {_kind(get_args(kind)[0], ())}"
    if get_origin(kind) is dict:
        return "_target_ and its arguments"
    if kind is str:
        return "a text"
    low, above, high, multiple = (
        next((getattr(limit, name) for limit in _limits(metadata) if isinstance(limit, kind_of)), None)
        for kind_of, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (MultipleOf, "multiple_of"))
    )
    text = "a whole number" if kind is int else "a number"
    bounds = [f"above {above:g}"] if above is not None else [] if low is None else [f"of at least {low:.10g}"]
    bounds += [] if high is None else [f"at most {high:.10g}"]
    text += f" {' and '.join(bounds)}" if bounds else ""
    return text + ("" if multiple is None else f", a multiple of {multiple}")


def _limits(metadata: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for part in metadata:
        found += part.metadata if isinstance(part, FieldInfo) else [part]
    return found


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) in (types.UnionType, typing.Union):
        return [inner for part in get_args(kind) for inner in _alternatives(part)]
    return [kind]


def plain(value: Any) -> str:
    """A value as one writes it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return str(value.get("_target_", dict(value)))
    return f"{value:g}" if isinstance(value, float) else str(value)


# Identity


def entering(command: Settings, read: Iterable[str]) -> dict[str, Any]:
    """The settings of a command that can change a result, by dotted name.

    Args:
        command: all settings.
        read: the groups and single settings that the stage reads, as ``model`` or ``datamodule.image_size``.
    """
    prefixes = tuple(read)
    found: dict[str, Any] = {}
    for name, field in fields(type(command)):
        if not any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes):
            continue
        if not note(field, "harmless") and has_effect(name, note(field, "only"), command):
            found[name] = command[name]
    for prefix in prefixes:  # settings beyond those that are declared enter too
        group = command[prefix]
        if isinstance(group, Settings):
            found |= {f"{prefix}.{name}": value for name, value in (group.model_extra or {}).items()}
    return found


def has_effect(name: str, condition: str, command: Settings) -> bool:
    """Whether a setting has an effect next to the others, see :func:`setting`."""
    if not condition:
        return True
    return any(
        all(_holds(name, part.strip(), command) for part in alternative.split(" and "))
        for alternative in condition.split(" or ")
    )


def _holds(name: str, comparison: str, command: Settings) -> bool:
    other, _, values = comparison.partition("=")
    negated = other.endswith("!")
    other = other.rstrip("!")
    key = other if "." in other else f"{name.rpartition('.')[0]}.{other}".lstrip(".")
    return (plain(command[key]) in values.split("|")) != negated


# In print


def yaml_of(group: type[Settings], indent: str = "") -> str:
    """The defaults of a group as a YAML file, each with its description and what it must be."""
    lines: list[str] = []
    for name, field in group.model_fields.items():
        if (inner := subgroup(field)) is not None:
            lines += [f"{indent}{name}:", yaml_of(inner, indent + "  ").rstrip("\n")]
            continue
        value = note(field, "written") or yaml_value(field.get_default(call_default_factory=True))
        line = f"{indent}{name}: {value}"
        comment = f"# {about(field)}"
        if len(line) < 32 and len(line) + len(comment) + 2 < 118:
            lines.append(f"{line:<28} {comment}" if len(line) < 28 else f"{line}  {comment}")
        else:
            lines += [*_wrapped(comment, indent), line]
    return "\n".join(lines) + "\n"


def _wrapped(comment: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(comment, 116, initial_indent=indent, subsequent_indent=f"{indent}# ")


def yaml_value(value: Any) -> str:
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    if isinstance(value, float):
        return repr(value)
    return plain(value)


def about(field: FieldInfo) -> str:
    """Description, choices and conditions of a setting in one line."""
    text = field.description or ""
    if (choices := options(field)) and choices != [True, False]:
        text += f" ({', '.join(plain(choice) for choice in choices)})"
    if only := note(field, "only"):
        text += f"; only with {only}"
    return text


def table(group: type[Settings], stages: Mapping[str, Iterable[str]]) -> str:
    """All settings as a Markdown table.

    Args:
        group: the command's settings.
        stages: a stage's name -> what it reads, see :func:`entering`.
    """
    lines = [
        "| setting | default | must be | in the id of | meaning |",
        "|---|---|---|---|---|",
    ]
    for name, field in fields(group):
        readers = [
            stage
            for stage, read in stages.items()
            if any(name == prefix or name.startswith(f"{prefix}.") for prefix in read)
        ]
        identity = f"none: {note(field, 'harmless')}" if note(field, "harmless") else ", ".join(readers) or "none"
        only = f"; only with {note(field, 'only')}" if note(field, "only") else ""
        default = "" if field.is_required() else note(field, "written") or yaml_value(field.get_default())
        cells = (
            f"`{name}`",
            f"`{default}`" if default else "",
            expected(field),
            identity,
            f"{field.description}{only}",
        )
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)
