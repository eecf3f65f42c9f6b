"""Checks what a checkpoint, a status or an exported file says of its network, before anything is built from it.

Such a file may come from anywhere. Its names are looked up in the lists that settings are checked against, never on a
network; imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.declared_classes import MOST_CLASSES
from datamodules.labels import LabelSet, recorded_classes
from foundation.errors import DataError

NAME = re.compile(r"\w[\w. -]{0,62}")
"""Stages, ids and data sets: they become parts of file names."""
LARGEST = 8192
"""Largest side of a network's input that a file may record, in pixels."""
CHOICES = {
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed", "64-true"),
    "datamodule.merging": ("official", "zllrunning", "farl"),
    "finetune.background": ("literature", "in", "out"),
    **{f"{stage}.score_at": ("label", "input") for stage in ("finetune", "semi", "classify", "segment")},
}
"""Recorded settings that evaluation takes over, and their values."""


def require_record(record: Any, source: object) -> LabelSet | None:
    """Check stage, id, data set, settings and classes of a network.

    Args:
        record: what the file says.
        source: the file, for messages.

    Returns:
        The classes, if they are recorded.

    Raises:
        DataError: with the first entry that is invalid.
    """
    if not isinstance(record, Mapping):
        raise _invalid(source, f"it holds a {type(record).__name__}")
    for key in ("stage", "id", "dataset"):
        value = record.get(key)
        if key not in record:
            raise _invalid(source, f"it has no {key}")
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise _invalid(source, f"its {key} is {_shown(value)}")
    settings = record.get("settings", {})
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise _invalid(source, f"its settings are a {type(settings).__name__}")
    size = settings.get("datamodule.image_size")
    if size is not None and (type(size) is not int or size % 32 or not 32 <= size <= LARGEST):
        raise _invalid(source, f"its datamodule.image_size is {_shown(size)}, no multiple of 32 from 32 to {LARGEST}")
    layout = settings.get("datamodule.layout")
    if layout is not None and not (isinstance(layout, Mapping) and isinstance(layout.get("_target_"), str)):
        raise _invalid(source, f"its datamodule.layout is {_shown(layout)}")
    for name, known in CHOICES.items():
        if settings.get(name) is not None and settings[name] not in known:
            raise _invalid(source, f"its {name} is {_shown(settings[name])}, none of {', '.join(known)}")
    return _classes(record, source)


def recorded_settings(status: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The settings in the status of a run; {} if it has none.

    Raises:
        DataError: if they are no mapping.
    """
    identity = status.get("identity", {})
    settings = identity.get("settings", {}) if isinstance(identity, Mapping) else identity
    if not isinstance(settings, Mapping):
        raise _invalid(folder / "status.json", f"its settings are a {type(settings).__name__}")
    return settings


def _classes(record: Mapping[str, Any], source: object) -> LabelSet | None:
    try:
        labels = recorded_classes(record)
        if labels is None:
            return None
        names = [labels.name, *labels.classes, *(part for parts in labels.mappings.values() for part in parts.values())]
        colours = [channel for colour in labels.palette for channel in colour]
        pairs = [place for pair in labels.mirrored for place in pair]
        sound = (
            all(isinstance(name, str) and len(name) <= 64 and name.isprintable() for name in names)
            and 1 <= len(labels) <= MOST_CLASSES
            and len(labels.palette) == len(labels)
            and all(len(colour) == 3 for colour in labels.palette)
            and all(type(channel) is int and 0 <= channel <= 255 for channel in colours)
            and all(type(place) is int and 0 <= place < len(labels) for place in pairs)
            and all(set(parts) == set(labels.classes) for parts in labels.mappings.values())
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _invalid(source, "its classes are not those of a data set") from error
    if not sound:
        raise _invalid(source, f"its classes are not 1 to {MOST_CLASSES} names with a colour each")
    return labels


def require_hyperparameters(record: Mapping[str, Any], labels: LabelSet | None, source: object) -> None:
    """Check the hyper-parameters of a record, as far as they are the same for every network.

    Raises:
        DataError: if they are none, or name other classes than the record.
    """
    values = record.get("hyper_parameters")
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise _invalid(
            source, "it has no hyper_parameters" if values is None else "its hyper_parameters are no mapping"
        )
    classes = values.get("classes")
    if labels is None or classes is None or record["stage"] == "segment":
        return
    if not isinstance(classes, list | tuple) or len(classes) != len(labels):
        count = len(classes) if isinstance(classes, list | tuple) else _shown(classes)
        raise _invalid(source, f"its network has {count} classes, its data set {len(labels)}")


def _invalid(source: object, reason: str) -> DataError:
    return DataError(f"{source} is invalid: {reason}.\nIt must be written by this project's train.py or export.py.")


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
