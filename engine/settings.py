"""Settings are declared once: type, range, default, description, and whether they enter a run's id.

A group of settings is a pydantic model; :func:`setting` declares its fields. Validation, ``--help``, the YAML files of
defaults, ``docs/settings.md`` and run ids are derived from it. Every setting of the groups that a stage reads enters
its id, except settings that are ``harmless``, settings that have no effect next to the others (``only``), and the
defaults of settings that are declared ``later`` than the runs they describe.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

CONF = Path(__file__).parent.parent / "conf"
FREE = ("callbacks", "logger")
"""Groups of ``_target_`` objects to which a user may add entries."""


class Settings(BaseModel):
    """Base class of a group of settings; ``settings["optimizer.lr"]`` is ``settings.optimizer.lr``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def __getitem__(self, key: str) -> Any:
        value: Any = self
        for name in key.split("."):
            value = getattr(value, name)
        return value

    def flat(self, prefix: str = "") -> dict[str, Any]:
        """The value of every setting, by dotted name."""
        found: dict[str, Any] = {}
        for name, value in self:
            found |= value.flat(f"{prefix}{name}.") if isinstance(value, Settings) else {prefix + name: value}
        return found


def setting(
    default: Any = ...,
    description: str = "",
    *,
    harmless: str = "",
    only: str = "",
    written: str = "",
    later: bool = False,
    **limits: Any,
) -> Any:
    """Declare one setting of a group.

    Args:
        default: its default value; without one the user must set it.
        description: one line.
        harmless: the reason why it changes no result; it then enters no id.
        only: the condition under which it has an effect, such as ``name=sgd`` or ``head!=conv and
            kernel=rbf|nystroem``: names of the same group, or dotted names of the command. Otherwise it does not
            enter the id.
        written: the default in YAML if it refers to another key, such as ``${seed}``.
        later: declared after runs existed that had its default's behaviour: the default does not enter the id, so that
            their ids stay.
        limits: ``ge``, ``gt``, ``le``, ``multiple_of``, as in pydantic.
    """
    extra: dict[str, Any] = {"harmless": harmless, "only": only, "written": written, "later": "later" if later else ""}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def note(field: FieldInfo, name: str) -> str:
    """The ``harmless``, ``only``, ``written`` or ``later`` of a setting, "" if it has none."""
    extra = field.json_schema_extra
    return str(extra.get(name) or "") if isinstance(extra, dict) else ""


def _ordered(pair: list[Any]) -> list[Any]:
    if pair[0] > pair[1]:
        raise ValueError("the second must not be smaller than the first")
    return pair


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
SizeRange = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
ScaleRange = Annotated[
    list[Annotated[float, Field(ge=0.1, le=10)]], Field(min_length=2, max_length=2), AfterValidator(_ordered)
]
MaskValue = Annotated[int, Field(ge=0, le=255)]
MaskColour = Annotated[list[MaskValue], Field(min_length=3, max_length=3)]
PATH = object()
PathText = Annotated[str, PATH]
"""A setting that is a path, or may be one: on the command line its value is the text that is typed."""
Plugin = dict[str, Any]
"""``{_target_: my_package.MyClass, argument: value}``: user code, see :mod:`engine.plugins`."""


def fields(group: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of a group and its subgroups, with its dotted name."""
    for name, field in group.model_fields.items():
        if (inner := subgroup(field)) is not None:
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def paths(group: type[Settings]) -> list[str]:
    """The settings of a group and its subgroups that are a :data:`PathText`."""
    return [
        name
        for name, field in fields(group)
        if PATH in field.metadata
        or any(PATH in getattr(kind, "__metadata__", ()) for kind in get_args(field.annotation))
    ]


def subgroup(field: FieldInfo) -> type[Settings] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def group_options(group: str, own: Iterable[Path] = ()) -> list[str]:
    """The options of a configuration group: the files of its folder in ``conf/`` and in folders of the user."""
    return sorted({path.stem for folder in (CONF, *own) for path in (folder / group).glob("*.yaml")})


def _choices(group: str, indent: int) -> str:
    """The options of a group for ``--help``, in lines of at most 118 characters.

    Experiments that differ in their label fraction alone are one: ``semi_lapa*``.
    """
    names = group_options(group)
    bases = {name for name in names if f"{name}_1pct" in names}
    shorter = [name for name in names if name.rpartition("_")[0] not in bases or FRACTION.fullmatch(name) is None]
    words = ", ".join(f"{name}*" if name in bases else name for name in shorter)
    return textwrap.fill(words, 118, initial_indent=" " * indent, subsequent_indent=" " * indent).lstrip()


FRACTION = re.compile(r".*_(\d+pct|full)")
OmegaConf.register_new_resolver("choices", _choices, replace=True)


def groups(own: Iterable[Path] = ()) -> list[str]:
    """The configuration groups: the folders of ``conf/`` and of configuration folders of the user."""
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
    """The inverse of :func:`flatten`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value
    return nested


def plain(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return str(value.get("_target_", dict(value)))
    return f"{value:g}" if isinstance(value, float) else str(value)


def entering(command: Settings, read: Iterable[str]) -> dict[str, Any]:
    """The settings of a command that can change a result, by dotted name.

    Args:
        command: all settings.
        read: groups and single settings that the stage reads, such as ``model`` or ``datamodule.image_size``.
    """
    prefixes = tuple(read)
    found = {
        name: command[name]
        for name, field in fields(type(command))
        if is_read(name, prefixes)
        and not note(field, "harmless")
        and not (note(field, "later") and command[name] == field.get_default())
        and _has_effect(name, note(field, "only"), command)
    }
    for prefix in prefixes:  # undeclared settings (trainer.*) enter too
        group = command[prefix]
        if isinstance(group, Settings):
            found |= {f"{prefix}.{name}": value for name, value in (group.model_extra or {}).items()}
    return found


def is_read(name: str, read: Iterable[str]) -> bool:
    """Whether a setting is among groups and single settings."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in read)


def _has_effect(name: str, condition: str, command: Settings) -> bool:
    """Whether a setting has an effect next to the others, see ``only`` of :func:`setting`."""

    def holds(comparison: str) -> bool:
        other, _, values = comparison.strip().partition("=")
        key = other.rstrip("!")
        key = key if "." in key else f"{name.rpartition('.')[0]}.{key}".lstrip(".")
        return (plain(command[key]) in values.split("|")) != other.endswith("!")

    return not condition or any(all(map(holds, part.split(" and "))) for part in condition.split(" or "))
