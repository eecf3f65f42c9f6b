"""An evaluation, from its configuration to its result: a trained parser scored on a data set, once.

Nothing heavy is imported until something has to be scored, or a checkpoint lies outside any run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from datamodules.declared_classes import read_classes
from datamodules.labels import CLASS_SETS, LabelSet, recorded_classes, shared_classes
from datamodules.layouts import ANNOTATED, MASKED, PARSED, Layout, open_layout
from datamodules.layouts.layout import ALL
from engine.processes import is_sweep
from engine.screen import results_table
from engine.settings import IN_PARTS, check_evaluation
from engine.stages import CLASSIFY, FINETUNE, SEGMENT, data_digest, digest_cache, identity_digest
from foundation.digests import DigestCache
from foundation.errors import ConfigError, DataError, RunError, nearest
from foundation.run_folder import EVALUATE, RunFolder

VERSION = 3
"""Raised by hand when a change of the code changes the results of evaluations."""

ROOTS = {"lapa": "data/LaPa", "celebamask_hq": "data/CelebAMask-HQ"}
ROOTS |= {"mafa": "data/MAFA", "fmld": "data/FMLD", "folder_per_class": "data/RMFD"}
ROOTS |= {"augmented_celeba": "data/AugmentedCelebA", "image_mask_folder": "data/MFSD", "folder": "data/my_faces"}
"""Where each data set lies unless it is said."""

_forced: set[Path] = set()  # scored anew by this sweep

console = Console(highlight=False)


@dataclass(frozen=True)
class Trained:
    """A trained parser or segmenter on disk.

    Args:
        best: its checkpoint.
        name: what it is called in messages.
        id: its run's id.
        stage: the stage that trained it.
        settings: those that entered its run's id; {} for a checkpoint that was moved and does not hold them.
        status: its run's status; {} for one that was moved.
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


@dataclass(frozen=True)
class Evaluation:
    """What is scored on what, and where the result lies.

    Args:
        settings: canonical settings, with the parser's own where they were null.
        identity: all that enters the id.
        folder: the run folder.
        layout: reader of the data.
        trained: the parser.
        scored_in: the class set that the scores are in: the network's, the data's, or one that both are mapped to.
    """

    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    folder: RunFolder
    layout: Layout
    trained: Trained
    scored_in: LabelSet

    @property
    def mapped(self) -> tuple[LabelSet, LabelSet] | None:
        """The network's classes and those that its logits are brought to; None where these are the same."""
        own = self.trained.labels
        return None if own is None or own.is_same_as(self.scored_in) else (own, self.scored_in)

    @property
    def classes(self) -> str:
        """The name of the class set that is scored; of segmenters the data set."""
        return self.layout.name if self.trained.labels is None else self.scored_in.name


def evaluate(config: DictConfig) -> list[dict[str, Any]]:
    """Score a checkpoint unless that is done, and show the result.

    Returns:
        ``name`` of the run, and whether it ``ran`` now or was there already, as plain data.

    Raises:
        ConfigError: if a setting cannot be.
        DataError: if data or the checkpoint is missing or broken.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)  # noqa: S101 (for the type checker: a composed configuration is a mapping)
    composed = {str(name): value for name, value in plain.items()}
    evaluation = plan_evaluation(check_evaluation(composed))
    folder = evaluation.folder
    with folder.lock():  # of two commands at once, the second one finds it done
        forced = evaluation.settings["force"] and not (is_sweep() and folder.path in _forced)
        done = folder.done and not forced
        if done:
            console.print(f"Done already: [bold]{folder.name}[/] (force=true scores it again)")
        else:
            if forced:
                _forced.add(folder.path)
                folder.set_aside()
            console.print(
                f"Scoring {evaluation.trained.name} as [bold]{folder.name}[/], classes of {evaluation.classes}"
            )
            from engine.scoring import score  # torch and Lightning, seconds

            score(evaluation, composed)
    console.print(results_table([folder.path]))
    return [{"name": folder.name, "ran": not done}]


def plan_evaluation(settings: Mapping[str, Any]) -> Evaluation:
    """An evaluation with its id and folder; nothing is scored yet.

    Raises:
        ConfigError: if the checkpoint does not exist, is of no parser, or parses classes that are not comparable.
        DataError: if the data is not where the settings say.
    """
    output_dir = Path(settings["output_dir"])
    trained = find(settings["checkpoint"], output_dir)
    _require_fitting(settings["dataset"], trained)
    if settings.get("classes") is not None:
        trained = _with_mappings(trained, Path(settings["classes"]))
    filled = {**settings, **_own(settings, trained)}
    try:
        layout = open_layout(settings["dataset"], settings["root"] or ROOTS[settings["dataset"]])
    except DataError as fault:
        raise DataError(str(fault).replace("datamodule.root=", "root=")) from fault
    scored_in = _scored_in(trained, layout)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with DigestCache(digest_cache(output_dir)) as digests:
            data = data_digest(layout, [settings["split"]], True, digests)
            weights = digests.of_file(trained.best)
    except DataError as fault:
        said = str(fault).replace("datamodule.root=", "root=")  # as this door calls it
        if settings["split"] != ALL and layout.root.is_dir():
            said += f"\n  - or score every face there is, without lists of splits: split={ALL}"
        raise DataError(said) from fault
    except OSError as fault:
        raise ConfigError(f"output_dir={output_dir} cannot be written to: {fault.strerror}.") from fault
    entering = ("dataset", "merging", "split", "score_at", "background", "image_size", "trainer.precision")
    identity: dict[str, Any] = {
        "stage": EVALUATE,
        "version": VERSION,
        "data": data,
        "weights": weights,
        "upstream": trained.id,
        "settings": {name: filled[name] for name in entering},
    }
    sets = [] if trained.labels is None else [trained.labels, layout.labels]
    if any(labels.name not in CLASS_SETS for labels in sets):  # published sets and their mappings are the code's
        tables = [labels.table_to(scored_in)[: len(labels)].tolist() for labels in sets]
        identity["mapping"] = {"classes": list(scored_in.classes), "tables": tables}
    folder = RunFolder(output_dir, EVALUATE, identity_digest(identity))
    return Evaluation(filled, identity, folder, layout, trained, scored_in)


def _scored_in(trained: Trained, layout: Layout) -> LabelSet:
    """The class set in which a parser can be scored on a data set; of a segmenter the one that there is."""
    try:
        return layout.labels if trained.labels is None else shared_classes(trained.labels, layout.labels)
    except ConfigError as error:
        raise ConfigError(f"{trained.name} cannot be scored on {layout.root}. {error}") from error


def _with_mappings(trained: Trained, path: Path) -> Trained:
    """A parser with the mappings of a ``classes.yaml`` instead of those of its checkpoint.

    Raises:
        ConfigError: if it declares other classes than the parser has.
        DataError: if it cannot be read.
    """
    declared = read_classes(path).labels
    if trained.labels is None or declared.classes != trained.labels.classes:
        own = "occlusion" if trained.labels is None else ", ".join(trained.labels.classes)
        raise ConfigError(
            f"classes={path} declares {', '.join(declared.classes)}; {trained.name} has {own}.\n"
            f"Expected: the classes of {trained.name}, with the mapping under maps_to."
        )
    return replace(trained, labels=replace(trained.labels, mappings=declared.mappings))


def require_same(evaluation: Evaluation) -> None:
    """See that data and weights still are what the identity says, now that they were read.

    Raises:
        RunError: if they are not.
    """
    with DigestCache(digest_cache(evaluation.folder.output_dir)) as digests:
        data = data_digest(evaluation.layout, [evaluation.settings["split"]], True, digests)
        weights = digests.of_file(evaluation.trained.best)
    if (data, weights) != (evaluation.identity["data"], evaluation.identity["weights"]):
        raise RunError(
            f"{evaluation.trained.best} or files in {evaluation.layout.root} changed while they were scored.\n"
            f"Run again."
        )


def find(checkpoint: str, output_dir: Path) -> Trained:
    """The parser that ``checkpoint=...`` names: a run's name, a run folder, or a checkpoint file.

    Raises:
        ConfigError: if there is none, it is not done, or it is of another stage.
        DataError: if it cannot be read.
    """
    path = Path(checkpoint)
    if not path.exists() and len(path.parts) == 1:
        path = output_dir / "runs" / path
    best = path if path.is_file() else path / "checkpoints" / "best.ckpt"
    place = best.parent.parent
    folder = RunFolder.at(place.resolve()) if best.parent.name == "checkpoints" else None
    status = {} if folder is None else folder.status
    _require_scorable(checkpoint, path, status.get("stage", FINETUNE.name))
    if not best.is_file() or (path != best and status.get("state") != "done"):
        state = f"is {folder.state}" if folder is not None and status else "is no run that was trained"
        if folder is not None and folder.done:
            state = "is done, but its checkpoints/best.ckpt is gone"
        runs = [] if path.exists() else [run.name for run in (output_dir / "runs").glob("*")]
        near = nearest(path.name, runs)
        raise ConfigError(
            f"checkpoint={checkpoint}: {path} {state if path.exists() else 'does not exist'}.\n"
            f"Expected: a run that is done, by its name, as finetune-0123456789ab or segment-0123456789ab, or its "
            f"folder; or the path of a best.ckpt." + (f"\nDid you mean {near}?" if near else "")
        )
    if status:
        settings = status.get("identity", {}).get("settings", {})
        run_id, stage, dataset = (str(status.get(key)) for key in ("id", "stage", "dataset"))
        return Trained(best, place.name, run_id, stage, dataset, settings, status, _classes_of(stage, status))
    from engine.checkpoints import load  # torch: only for a file without a run folder around it

    content = load(best)
    stage = content.get("stage", "something else")
    _require_scorable(checkpoint, path, stage)
    name = f"{stage}-{content['id']}"
    settings = content.get("settings", {})
    return Trained(best, name, content["id"], stage, content["dataset"], settings, {}, _classes_of(stage, content))


def _classes_of(stage: str, recorded: Mapping[str, Any]) -> LabelSet | None:
    """The classes of a parser, by its status or checkpoint; None for a segmenter."""
    return None if stage == SEGMENT.name else recorded_classes(recorded)


def _require_scorable(checkpoint: str, path: Path, stage: str) -> None:
    if stage not in (FINETUNE.name, CLASSIFY.name, SEGMENT.name):
        raise ConfigError(
            f"checkpoint={checkpoint}: {path} is of stage {stage}, which parses nothing.\n"
            f"Expected: a fine-tuning, as finetune-0123456789ab; of a pre-training, the one that starts from it."
        )


def _require_fitting(dataset: str, trained: Trained) -> None:
    fitting = tuple((MASKED | ANNOTATED) if trained.stage == SEGMENT.name else PARSED)
    if dataset not in fitting:
        raise ConfigError(
            f"dataset={dataset} has no labels for {trained.name}.\n"
            f"Expected: one of {', '.join(fitting)}, with what it has learnt to tell apart."
        )
    if trained.labels is None and trained.stage != SEGMENT.name:
        raise ConfigError(f"{trained.best} does not hold its classes.\nExpected: a checkpoint of this project.")


def _own(settings: Mapping[str, Any], trained: Trained) -> dict[str, Any]:
    """Settings that are null, as the parser's own run had them.

    Raises:
        ConfigError: if one must be known and is not.
    """
    names = {
        "score_at": (f"{trained.stage}.score_at", "label"),
        "background": ("finetune.background", "literature"),
        "image_size": ("datamodule.image_size", None),
        "trainer.precision": ("trainer.precision", "32-true"),
    }
    if settings["dataset"] in IN_PARTS:
        names["merging"] = ("datamodule.merging", "official")
    own = {}
    for name, (its, otherwise) in names.items():
        value = settings[name] if settings[name] is not None else trained.settings.get(its, otherwise)
        if value is None:
            raise ConfigError(
                f"{trained.best} does not say what {name} it was trained with.\nExpected: {name}=480, or what it was."
            )
        own[name] = value
    return own
