"""Stage ``evaluate``: score a trained parser or segmenter on a data set.

Torch is imported only if something has to be scored, or the checkpoint is outside a run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig
from pydantic import Field

from datamodules.labels import CLASS_SETS, LabelSet, shared_classes
from datamodules.layouts import ANNOTATED, MASKED, PARSED, Layout, open_layout
from datamodules.layouts.layout import ALL
from engine.planning import plan as plan_runs
from engine.settings import PathText, Plugin, Settings, plain, setting
from engine.stage import Run, Stage
from engine.training import execute
from engine.validation import validated
from foundation.digests import DigestCache
from foundation.errors import ConfigError, DataError
from foundation.files import require_folder
from foundation.run_folder import EVALUATE
from stages.command import ACTION, MERGED_DATA, plain_config
from stages.finetuning import PARSERS
from stages.groups import LOCATION_ONLY, ROUNDING_ONLY, SPEED_ONLY, MaskSettings
from stages.outside_code import check_masks, declared, outside_layout
from stages.trained import Trained, find, with_mappings

ROOTS = {"lapa": "data/LaPa", "celebamask_hq": "data/CelebAMask-HQ", "folder": "data/my_faces"}
ROOTS |= {"augmented_celeba": "data/AugmentedCelebA", "image_mask_folder": "data/MFSD"}
ROOTS |= {"mafa": "data/MAFA", "fmld": "data/FMLD", "folder_per_class": "data/RMFD"}
"""Default folder of each data set."""
if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from pytorch_lightning.loggers import Logger

    Dataset = str
else:
    Dataset = Literal[tuple(ROOTS)]

BY_CONTENT = "enters by its content"


class EvaluationTrainer(Settings):
    """Device and number format."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting("auto", "kind of device", harmless=ROUNDING_ONLY)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] | None = setting(None, "number format")


class EvaluationSettings(Settings):
    """Every setting of ``evaluate.py``; null: the value of the checkpoint's run."""

    checkpoint: PathText = setting(
        ..., "name of a run (finetune-0123456789ab), its folder, or a best.ckpt", harmless=BY_CONTENT
    )
    dataset: Dataset | None = setting(..., "the data set's layout; null: that of layout")
    layout: Plugin | None = setting(None, "your own layout, by _target_; called with root", only="layout!=null")
    root: PathText | None = setting(None, "its folder; null: its default folder in data/", harmless=LOCATION_ONLY)
    classes: PathText | None = setting(
        None, "a classes.yaml whose maps_to replaces the mapping of the checkpoint", harmless="enters as the mapping"
    )
    merging: Literal[None, "official", "zllrunning", "farl"] = setting(None, "painting order of CelebAMask-HQ's masks")
    mask: MaskSettings = Field(default_factory=MaskSettings)
    split: Literal["test", "val", "all"] = setting(
        "test", "all: includes images that the network may have been trained on"
    )
    score_at: Literal[None, "label", "input"] = setting(
        None, "score at the size of the label map, or of the network's input"
    )
    background: Literal[None, "literature", "in", "out"] = setting(None, "background in mean scores")
    image_size: int | None = setting(None, "side of the network's input in pixels", ge=32, multiple_of=32)
    batch_size: int = setting(16, "images in a batch", ge=1, harmless=SPEED_ONLY)
    workers: int | None = setting(None, "loader processes; null: one per core, at most 8", ge=0, harmless=SPEED_ONLY)
    skip_broken: bool = setting(False, "of mafa and fmld: leave broken annotations out", only="skip_broken=true")
    verify: bool = setting(False, "read all data again for their digests, whatever is known of them", harmless=ACTION)
    panels: int = setting(6, "number of faces of the first batch in panels/test; 0: none", ge=0, harmless=ACTION)
    trust: str | None = setting(
        None, "trusted package: the checkpoint may use a network or loss of it", harmless=BY_CONTENT
    )
    trainer: EvaluationTrainer = Field(default_factory=EvaluationTrainer)
    output_dir: PathText = setting(
        "outputs", "contains the checkpoint's run and the evaluation", harmless=LOCATION_ONLY
    )
    force: bool = setting(False, "score again; the earlier result moves to output_dir/replaced", harmless=ACTION)


class Evaluation(Stage):
    """The scoring of one checkpoint.

    Args:
        trained: the network.
        split: ``test``, ``val`` or ``all``.
        scored_in: the class set of the scores: the network's, the data's, or one that both map to.
    """

    name = EVALUATE
    version = 4
    settings = EvaluationSettings
    reads = (
        *("dataset", "layout", "merging", "mask", "split", "score_at", "background", "image_size", "skip_broken"),
        "trainer",
    )
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
            **self._mapping(run.layout.labels),
        }

    def _mapping(self, data: LabelSet) -> dict[str, Any]:
        """The mapping of declared classes; mappings between the published class sets belong to the code."""
        own = self.trained.labels
        if own is None or (own.name in CLASS_SETS and data.name in CLASS_SETS):
            return {}
        tables = [labels.table_to(self.scored_in)[: len(labels)].tolist() for labels in (own, data)]
        return {"mapping": {"classes": list(self.scored_in.classes), "tables": tables}}

    @property
    def mapped(self) -> tuple[LabelSet, LabelSet] | None:
        """The network's classes and those that its logits are mapped to; None if they are equal."""
        own = self.trained.labels
        return None if own is None or own.is_same_as(self.scored_in) else (own, self.scored_in)

    def classes(self, run: Run) -> str:
        """The name of the scored class set; for segmenters of the data set."""
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
    *("experiment", "method", "ablation", "masking", "loss", "network", "after", "head", "kernel", "features"),
    *("recipe", "scale", "label_fraction", "labelled", "subset"),
)
"""Keys that the status copies from the run that trained the network."""


def evaluate(config: DictConfig) -> list[dict[str, Any]]:
    """Score a checkpoint unless it is scored already, and print the result.

    Returns:
        ``name`` of the run and whether it ``ran`` now or was finished before, as plain data.

    Raises:
        ConfigError: for an invalid setting.
        DataError: if data or the checkpoint is missing or broken.
    """
    composed = plain_config(config)
    run = plan_evaluation(check_evaluation(composed))
    return execute([run], composed, run.settings.force)


def check_evaluation(config: Mapping[str, Any]) -> EvaluationSettings:
    """Validate the composed configuration of an evaluation.

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
    check_masks(settings.dataset, settings.mask)
    if settings.skip_broken and settings.dataset not in ("mafa", "fmld"):
        raise ConfigError(
            f"skip_broken=true does not go with dataset={plain(settings.dataset)}.\nIt must be false; or mafa or fmld."
        )
    if settings.merging is not None and settings.dataset not in MERGED_DATA:
        raise ConfigError(
            f"merging={settings.merging} does not go with dataset={settings.dataset}.\n"
            f"It must be null; it is the painting order of the masks of CelebAMask-HQ."
        )
    return settings


def plan_evaluation(settings: EvaluationSettings) -> Run:
    """An evaluation with its id and folder; scores nothing.

    Raises:
        ConfigError: if the checkpoint does not exist, is not a parser or segmenter, or its classes do not map to those
            of the data.
        DataError: if the data is not at the configured path.
    """
    output_dir = Path(settings.output_dir)
    trained = find(settings.checkpoint, output_dir)
    if settings.dataset is not None:
        _require_fitting(settings.dataset, trained)
    if settings.classes is not None:
        trained = with_mappings(trained, Path(settings.classes))
    filled = _filled(settings, trained)
    layout = None
    try:
        layout = _layout(settings, trained)
        stage = Evaluation(trained, settings.split, _scored_in(trained, layout))
        require_folder(output_dir, "output_dir")
        (run,) = plan_runs([(stage, filled)], None, layout, output_dir)
    except DataError as error:
        message = str(error).replace("datamodule.root=", "root=")  # the name of the setting here
        if settings.split != ALL and layout is not None and layout.root.is_dir():
            message += f"\n  - or score all faces, without lists of splits: split={ALL}"
        raise DataError(message) from error
    return run


def _layout(settings: EvaluationSettings, trained: Trained) -> Layout:
    """The reader of the data."""
    if settings.dataset is not None:
        root = settings.root or ROOTS[settings.dataset]
        split = trained.settings.get("datamodule.random_split", True)  # none of images that it was trained on
        layout = open_layout(settings.dataset, root, settings.skip_broken, split)
        return declared(layout, settings.mask)
    layout = outside_layout(settings.layout or {}, "layout", Path(settings.root or ""))
    if (layout.kind == "parsing") == (trained.stage == "segment"):
        raise ConfigError(f"layout: {layout.name} has no labels for {trained.name}.\nIts kind is {layout.kind}.")
    return declared(layout, settings.mask)


def _scored_in(trained: Trained, layout: Layout) -> LabelSet:
    """The class set in which a parser is scored on a data set; for a segmenter that of the data."""
    try:
        return layout.labels if trained.labels is None else shared_classes(trained.labels, layout.labels)
    except ConfigError as error:
        raise ConfigError(f"{trained.name} does not go with {layout.root}. {error}") from error


def _require_fitting(dataset: str, trained: Trained) -> None:
    fitting = tuple((MASKED | ANNOTATED) if trained.stage == "segment" else PARSED)
    if dataset not in fitting:
        raise ConfigError(
            f"dataset={dataset} has no labels for {trained.name}.\n"
            f"It must be one of {', '.join(fitting)}, with labels for the classes of the network."
        )
    if trained.labels is None and trained.stage != "segment":
        raise ConfigError(f"{trained.best} does not contain its classes.\nIt must be a checkpoint of this project.")


def _filled(settings: EvaluationSettings, trained: Trained) -> EvaluationSettings:
    """Fill settings that are null with the values of the checkpoint's run.

    Raises:
        ConfigError: if a required value is unknown.
    """
    names = {
        "score_at": (f"{trained.stage}.score_at", "label"),
        "background": (f"{trained.stage if trained.stage in PARSERS else 'finetune'}.background", "literature"),
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
                f"{trained.best} does not record the {name} it was trained with.\nSet {name}=480 or the actual value."
            )
        own[name] = value
    trainer = settings.trainer.model_copy(update={"precision": own.pop("trainer.precision")})
    return settings.model_copy(update={**own, "trainer": trainer})
