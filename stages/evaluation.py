"""Stage ``evaluate``: score a trained parser or segmenter on a data set, once.

Nothing heavy is imported until something has to be scored, or a checkpoint lies outside any run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig
from pydantic import Field

from datamodules.declared_classes import read_classes
from datamodules.labels import CLASS_SETS, LabelSet, recorded_classes, shared_classes
from datamodules.layouts import ANNOTATED, MASKED, PARSED, Layout, open_layout
from datamodules.layouts.layout import ALL
from engine.planning import plan as plan_runs
from engine.settings import Plugin, Settings, plain, setting, validated
from engine.stage import Run, Stage
from engine.training import execute
from foundation.digests import DigestCache
from foundation.errors import ConfigError, DataError, nearest
from foundation.files import require_folder
from foundation.run_folder import EVALUATE, RunFolder
from stages.command import ACTION, MERGED_DATA, plain_config
from stages.groups import ALIKE, PLACE, SAME
from stages.outside_code import outside_layout

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from pytorch_lightning.loggers import Logger

Dataset = Literal[
    "lapa",
    "celebamask_hq",
    "folder",
    "augmented_celeba",
    "image_mask_folder",
    "mafa",
    "fmld",
    "folder_per_class",
]
ROOTS = {"lapa": "data/LaPa", "celebamask_hq": "data/CelebAMask-HQ"}
ROOTS |= {"mafa": "data/MAFA", "fmld": "data/FMLD", "folder_per_class": "data/RMFD"}
ROOTS |= {"augmented_celeba": "data/AugmentedCelebA", "image_mask_folder": "data/MFSD", "folder": "data/my_faces"}
"""Where each data set lies unless it is given."""
WEIGHTS = "enters by what it holds"


class EvaluationTrainer(Settings):
    """The device."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting("auto", "kind of device", harmless=ALIKE)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] | None = setting(None, "number format")


class EvaluationSettings(Settings):
    """Every setting of ``evaluate.py``; null is the checkpoint's own."""

    checkpoint: str = setting(
        ..., "a run's name, as finetune-0123456789ab, its folder, or a best.ckpt", harmless=WEIGHTS
    )
    dataset: Dataset | None = setting(..., "the data set's layout; null: that of layout")
    layout: Plugin | None = setting(None, "a layout of your own, by _target_; called with root", only="layout!=null")
    root: str | None = setting(None, "its folder; null: its place under data/", harmless=PLACE)
    classes: str | None = setting(
        None, "a classes.yaml whose maps_to replaces that of the checkpoint", harmless="enters as the mapping"
    )
    merging: Literal[None, "official", "zllrunning", "farl"] = setting(None, "painting order of CelebAMask-HQ's masks")
    split: Literal["test", "val", "all"] = setting("test", "all: of which the network may have seen some")
    score_at: Literal[None, "label", "input"] = setting(None, "the label map's own size, or the network's input")
    background: Literal[None, "literature", "in", "out"] = setting(None, "background in mean scores")
    image_size: int | None = setting(None, "side of the network's input in pixels", ge=32, multiple_of=32)
    batch_size: int = setting(16, "images in a batch", ge=1, harmless=SAME)
    workers: int | None = setting(None, "loader processes; null: one per core, at most 8", ge=0, harmless=SAME)
    panels: int = setting(6, "faces of the first batch that panels/test shows; 0: none", ge=0, harmless=ACTION)
    trust: str | None = setting(
        None, "package whose code the checkpoint may name: its own network or loss", harmless=WEIGHTS
    )
    trainer: EvaluationTrainer = Field(default_factory=EvaluationTrainer)
    output_dir: str = setting("outputs", "holds the checkpoint's run and the evaluation's", harmless=PLACE)
    force: bool = setting(False, "score again; the old result moves to output_dir/replaced", harmless=ACTION)


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


class Evaluation(Stage):
    """The scoring of one checkpoint.

    Args:
        trained: what is scored.
        split: ``test``, ``val`` or ``all``.
        scored_in: the class set that the scores are in: the network's, the data's, or one that both are mapped to.
    """

    name = EVALUATE
    version = 4
    settings = EvaluationSettings
    reads = ("dataset", "layout", "merging", "split", "score_at", "background", "image_size", "trainer")
    takes_fraction = False
    one_process = True
    verb = "Scoring"

    def __init__(self, trained: Trained, split: str, scored_in: LabelSet) -> None:
        self.trained = trained
        self.scored_in = scored_in
        self.splits = (split,)  # type: ignore[misc]

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        return {
            "weights": digests.of_file(self.trained.best),
            "trained": self.trained.id,
            **_identity_of_mapping(self.trained.labels, run.layout.labels, self.scored_in),
        }

    @property
    def mapped(self) -> tuple[LabelSet, LabelSet] | None:
        """The network's classes and those that its logits are brought to; None where these are the same."""
        own = self.trained.labels
        return None if own is None or own.is_same_as(self.scored_in) else (own, self.scored_in)

    def classes(self, run: Run) -> str:
        """The name of the class set that is scored; of segmenters the data set."""
        return run.layout.name if self.trained.labels is None else self.scored_in.name

    def subject(self, run: Run) -> str:
        return f": {self.trained.name}, classes of {self.classes(run)}"

    def data(self, run: Run) -> LightningDataModule:
        from stages.scoring import scored_faces

        return scored_faces(run)

    def module(self, run: Run) -> LightningModule:
        from stages.scoring import scored_network

        return scored_network(run)

    def fit(self, run: Run, config: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
        del config, loggers
        from stages.scoring import score

        return score(run)

    def description(self, run: Run) -> dict[str, Any]:
        status = self.trained.status
        return {
            **{name: status.get(name) for name in COPIED},
            "upstream": [self.trained.id],
            "seed": status.get("seed"),
            "checkpoint": str(self.trained.best),
            "trained_dataset": self.trained.dataset,
            "trained_origin": status.get("origin"),
            "trained_merging": self.trained.settings.get("datamodule.merging"),
            "merging": run.settings.merging,
            "split": run.settings.split,
            "classes": self.classes(run),
            "class_set": self.scored_in.as_plain(),
            "trained_data_name": status.get("data_name"),
        }


COPIED = (
    *("experiment", "method", "ablation", "masking", "loss", "network", "after", "head", "machine", "features"),
    *("recipe", "scale", "label_fraction", "labelled", "subset"),
)
"""What a status says of the run that trained the network."""


def evaluate(config: DictConfig) -> list[dict[str, Any]]:
    """Score a checkpoint unless that is done, and show the result.

    Returns:
        ``name`` of the run, and whether it ``ran`` now or was there already, as plain data.

    Raises:
        ConfigError: for an invalid setting.
        DataError: if data or the checkpoint is missing or broken.
    """
    composed = plain_config(config)
    run = plan_evaluation(check_evaluation(composed))
    return execute([run], composed, run.settings.force)


def check_evaluation(config: Mapping[str, Any]) -> EvaluationSettings:
    """A composed evaluation as settings.

    Raises:
        ConfigError: see :func:`stages.command.check`.
    """
    if config.get("layout") is not None and config.get("dataset") == "":
        config = {**config, "dataset": None}
    settings = validated(EvaluationSettings, config)
    if (settings.dataset is None) == (settings.layout is None) or (settings.layout and settings.root is None):
        raise ConfigError(
            f"dataset={plain(settings.dataset)} does not go with layout={plain(settings.layout)}.\n"
            f"It must be dataset=<one of those known>, or layout={{_target_: ...}} root=<its folder>."
        )
    if settings.merging is not None and settings.dataset not in MERGED_DATA:
        raise ConfigError(
            f"merging={settings.merging} does not go with dataset={settings.dataset}.\n"
            f"It must be null there; it is the order in which CelebAMask-HQ's masks are painted."
        )
    return settings


def plan_evaluation(settings: EvaluationSettings) -> Run:
    """An evaluation with its id and folder; nothing is scored yet.

    Raises:
        ConfigError: if the checkpoint does not exist, is of no parser or segmenter, or parses classes that are not
            comparable with the data's.
        DataError: if the data is not where the settings say.
    """
    output_dir = Path(settings.output_dir)
    trained = find(settings.checkpoint, output_dir)
    if settings.dataset is not None:
        _require_fitting(settings.dataset, trained)
    if settings.classes is not None:
        trained = _with_mappings(trained, Path(settings.classes))
    filled = _filled(settings, trained)
    try:
        layout = _layout(settings, trained)
    except DataError as error:
        raise DataError(str(error).replace("datamodule.root=", "root=")) from error
    stage = Evaluation(trained, settings.split, _scored_in(trained, layout))
    require_folder(output_dir, "output_dir")
    try:
        (run,) = plan_runs([(stage, filled)], None, layout, output_dir)
    except DataError as error:
        message = str(error).replace("datamodule.root=", "root=")  # as this entry point calls it
        if settings.split != ALL and layout.root.is_dir():
            message += f"\n  - or score every face there is, without lists of splits: split={ALL}"
        raise DataError(message) from error
    return run


def _layout(settings: EvaluationSettings, trained: Trained) -> Layout:
    """The reader of the data."""
    if settings.dataset is not None:
        return open_layout(settings.dataset, settings.root or ROOTS[settings.dataset])
    layout = outside_layout(settings.layout or {}, "layout", Path(settings.root or ""))
    if (layout.kind == "parsing") == (trained.stage == "segment"):
        raise ConfigError(f"layout: {layout.name} has no labels for {trained.name}.\nIts kind is {layout.kind}.")
    return layout


def _scored_in(trained: Trained, layout: Layout) -> LabelSet:
    """The class set in which a parser can be scored on a data set; of a segmenter the one that there is."""
    try:
        return layout.labels if trained.labels is None else shared_classes(trained.labels, layout.labels)
    except ConfigError as error:
        raise ConfigError(f"{trained.name} cannot be scored on {layout.root}. {error}") from error


def _identity_of_mapping(own: LabelSet | None, data: LabelSet, scored_in: LabelSet) -> dict[str, Any]:
    """How declared classes are mapped, for an id; the published sets and their mappings are the code's."""
    if own is None or (own.name in CLASS_SETS and data.name in CLASS_SETS):
        return {}
    tables = [labels.table_to(scored_in)[: len(labels)].tolist() for labels in (own, data)]
    return {"mapping": {"classes": list(scored_in.classes), "tables": tables}}


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
            f"It must be the classes of {trained.name}, with the mapping under maps_to."
        )
    return replace(trained, labels=replace(trained.labels, mappings=declared.mappings))


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
    _require_scorable(checkpoint, path, status.get("stage", "finetune"))
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
    from callbacks.checkpoints import load  # torch: only for a file without a run folder around it

    content = load(best)
    stage = content.get("stage", "something else")
    _require_scorable(checkpoint, path, stage)
    name = f"{stage}-{content['id']}"
    settings = content.get("settings", {})
    return Trained(best, name, content["id"], stage, content["dataset"], settings, {}, _classes_of(stage, content))


def _classes_of(stage: str, recorded: Mapping[str, Any]) -> LabelSet | None:
    """The classes of a parser, by its status or checkpoint; None for a segmenter."""
    return None if stage == "segment" else recorded_classes(recorded)


def _require_scorable(checkpoint: str, path: Path, stage: str) -> None:
    if stage not in ("finetune", "classify", "segment"):
        raise ConfigError(
            f"checkpoint={checkpoint}: {path} is of stage {stage}, which parses nothing.\n"
            f"Expected: a fine-tuning, as finetune-0123456789ab; of a pre-training, the one that starts from it."
        )


def _require_fitting(dataset: str, trained: Trained) -> None:
    fitting = tuple((MASKED | ANNOTATED) if trained.stage == "segment" else PARSED)
    if dataset not in fitting:
        raise ConfigError(
            f"dataset={dataset} has no labels for {trained.name}.\n"
            f"Expected: one of {', '.join(fitting)}, with what it has learnt to tell apart."
        )
    if trained.labels is None and trained.stage != "segment":
        raise ConfigError(f"{trained.best} does not hold its classes.\nExpected: a checkpoint of this project.")


def _filled(settings: EvaluationSettings, trained: Trained) -> EvaluationSettings:
    """Settings that are null, as the checkpoint's own run had them.

    Raises:
        ConfigError: if one must be known and is not.
    """
    names = {
        "score_at": (f"{trained.stage}.score_at", "label"),
        "background": ("finetune.background", "literature"),
        "image_size": ("datamodule.image_size", None),
        "trainer.precision": ("trainer.precision", "32-true"),
    }
    if settings.dataset in MERGED_DATA:
        names["merging"] = ("datamodule.merging", "official")
    own: dict[str, Any] = {}
    for name, (its, otherwise) in names.items():
        own_run = trained.settings.get(its)
        value = next((value for value in (settings[name], own_run, otherwise) if value is not None), None)
        if value is None:
            raise ConfigError(
                f"{trained.best} does not say what {name} it was trained with.\nSet {name}=480, or what it was."
            )
        own[name] = value
    trainer = settings.trainer.model_copy(update={"precision": own.pop("trainer.precision")})
    return settings.model_copy(update={**own, "trainer": trainer})
