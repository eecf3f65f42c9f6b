"""The trained network that ``checkpoint=...`` names, for scoring, prediction and export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.declared_classes import read_classes
from datamodules.labels import LabelSet, recorded_classes
from foundation.errors import ConfigError, did_you_mean
from foundation.names import file_name
from foundation.pretrained import run_path, weights
from foundation.run_folder import EVALUATE, RunFolder
from lightning_modules.records import recorded_settings, require_record
from stages.finetuning import PARSERS


@dataclass(frozen=True)
class Trained:
    """A trained parser or segmenter on disk.

    Args:
        best: its checkpoint.
        name: its name in messages.
        settings: settings that entered the run's id; {} for a checkpoint outside a run folder that lacks them.
        status: the run's status; {} for a checkpoint outside a run folder.
        labels: its classes; None for a segmenter.
    """

    best: Path
    name: str
    id: str
    stage: str
    dataset: str
    settings: Mapping[str, Any]
    status: Mapping[str, Any]
    labels: LabelSet | None = None


def with_mappings(trained: Trained, path: Path) -> Trained:
    """A parser with the mappings of a ``classes.yaml`` instead of those of its checkpoint.

    Raises:
        ConfigError: if the file declares classes that differ from the parser's.
        DataError: if it cannot be read.
    """
    declared = read_classes(path).labels
    if trained.labels is None or declared.classes != trained.labels.classes:
        own = "occlusion" if trained.labels is None else ", ".join(trained.labels.classes)
        raise ConfigError(
            f"classes={path} declares {', '.join(declared.classes)}; {trained.name} has {own}.\n"
            f"It must be the classes of {trained.name}, with the mapping under maps_to."
        )
    return replace(trained, labels=replace(trained.labels, mappings=declared.mappings))


def find(checkpoint: str, output_dir: Path) -> Trained:
    """The network that ``checkpoint=...`` names: weights of ``pretrained/``, the name of a run, a run folder, or a
    checkpoint file.

    Raises:
        ConfigError: if it does not exist, its run is not done, or it is of another stage.
        DataError: if it cannot be read.
    """
    path = run_path(checkpoint, output_dir)
    best = path if path.is_file() else path / "checkpoints" / "best.ckpt"
    place = best.parent.parent
    folder = RunFolder.at(place.resolve()) if best.parent.name == "checkpoints" else None
    status = {} if folder is None else folder.status
    _require_scorable(checkpoint, path, {"stage": "finetune"} | status)
    if not best.is_file() or (path != best and status.get("state") != "done"):
        state = f"is {folder.state}" if folder is not None and status else "is not a trained run"
        if folder is not None and folder.done:
            state = "is done, but its checkpoints/best.ckpt is missing"
        runs = [] if path.exists() else [*weights(), *(run.name for run in (output_dir / "runs").glob("*"))]
        raise ConfigError(
            f"checkpoint={checkpoint}: {path} {state if path.exists() else 'does not exist'}.\n"
            f"It must be a finished run, by its name (finetune-0123456789ab or segment-0123456789ab) or folder, or the "
            f"path of a best.ckpt, or weights of pretrained/: {', '.join(weights())}.{did_you_mean(path.name, runs)}"
        )
    if status:
        settings = recorded_settings(status, place)
        require_record({**status, "settings": settings}, place / "status.json")
        recorded, name = status, place.name
    else:
        from callbacks.checkpoints import load  # imports torch: only for a file outside a run folder

        recorded = load(best)
        _require_scorable(checkpoint, path, recorded)
        name, settings = file_name(f"{recorded['stage']}-{recorded['id']}"), recorded.get("settings", {})
    stage = recorded["stage"]
    labels = None if stage == "segment" else recorded_classes(recorded)
    return Trained(best, name, recorded["id"], stage, recorded["dataset"], settings, status, labels)


def _require_scorable(checkpoint: str, path: Path, recorded: Mapping[str, Any]) -> None:
    """See that a status or checkpoint is of a stage that parses or segments; one of the user's own records classes."""
    stage = recorded.get("stage", "unknown")
    own = recorded.get("class_set") is not None and stage != EVALUATE
    if stage not in (*PARSERS, "classify", "segment") and not own:
        raise ConfigError(
            f"checkpoint={checkpoint}: {path} is of stage {stage}, which has no parser or segmenter.\n"
            f"It must be a run of fine-tuning, such as finetune-0123456789ab."
        )
