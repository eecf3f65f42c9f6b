"""Settings as text: what a value must be, the YAML files of defaults, the table of ``docs/settings.md``."""

from __future__ import annotations

import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MultipleOf
from pydantic.fields import FieldInfo

from engine.settings import Settings, fields, note, plain, subgroup


def options(field: FieldInfo) -> list[Any]:
    """The values of a setting that has a fixed list of them, without null; else []."""
    found: list[Any] = []
    for kind in _alternatives(field.annotation):
        if get_origin(kind) is Literal:
            found += get_args(kind)
        elif kind is bool:
            found += [True, False]
    return found


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
        return _kind(get_args(kind)[0], [*_limits(get_args(kind)[1:]), *metadata])
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        return f"[smallest, largest], each {_kind(item, ())}" if get_origin(item) is Annotated else "a list"
    if get_origin(kind) is dict:
        return "_target_ and its arguments"
    if kind is str:
        return "a text"
    low, above, high, multiple = (
        next((getattr(limit, name) for limit in _limits(metadata) if isinstance(limit, kind_of)), None)
        for kind_of, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (MultipleOf, "multiple_of"))
    )
    text = "an integer" if kind is int else "a number"
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


def yaml_of(group: type[Settings], indent: str = "") -> str:
    """The defaults of a group as a YAML file with comments."""
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
    return textwrap.wrap(comment, 116, initial_indent=indent, subsequent_indent=f"{indent}# ")


def yaml_value(value: Any) -> str:
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    if isinstance(value, float):
        return repr(value)
    return plain(value)


def about(field: FieldInfo) -> str:
    """Description, choices and condition of a setting in one line."""
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
        stages: a stage's name -> what it reads, see :func:`engine.settings.entering`.
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
