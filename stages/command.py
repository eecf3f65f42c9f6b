"""All settings of ``train.py``, and the runs that a command consists of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, create_model

from datamodules.layouts import MASKED, PARSED, Layout, open_layout
from engine.planning import plan as plan_runs
from engine.plugins import require
from engine.processes import require_one_group
from engine.settings import FREE, PathText, Seed, Settings, group_options, setting
from engine.stage import Run, Stage
from engine.training import execute
from engine.validation import validated
from foundation.errors import ConfigError
from foundation.files import require_folder
from stages.building import ENCODER_ALONE
from stages.classification import Classification, ClassifySettings
from stages.finetuning import PARSERS, UNETPP, FinetuneSettings, Finetuning, start_of
from stages.groups import LOCATION_ONLY, DataSettings, ModelSettings, TrainerSettings
from stages.outside_code import (
    check_masks,
    check_objects,
    declared,
    outside_layout,
    outside_objects,
    stages_of,
    with_defaults,
)
from stages.pretraining import Pretraining, PretrainSettings
from stages.segmentation import Segmentation, SegmentSettings
from stages.self_training import SelfTrainingSettings, SelfTrainingStage

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (Pretraining(), Finetuning(), SelfTrainingStage(), Segmentation(), Classification())
}
METHODS = {
    "mtl": ("pretrain", "finetune"),
    "baseline": ("finetune",),
    "transfer": ("finetune",),
    "semi": ("semi",),
    "segment": ("segment",),
    "hybrid": ("pretrain", "finetune", "classify"),
}
"""``transfer`` fine-tunes from ``finetune.start_from``, a run on whatever data; ``semi`` learns from unlabelled faces
too, from random weights or from ``semi.start_from``; ``segment`` trains an occlusion
segmenter; ``hybrid`` fits heads to features, of pre-training alone if ``classify.after`` says so."""

STARTED = ("pretrain", *PARSERS)
"""Stages with a setting ``start_from``."""

NAME = "a name; what it sets enters by itself"
ACTION = "what is done, not what comes of it"
MANIFEST = "enters as the set of labelled faces that it chooses"


class Command(Settings):
    """Every setting of ``train.py``."""

    experiment: str = setting(..., "set by the experiment's file; always to be given", harmless=NAME)
    scale: str = setting("paper", "set by the scale's file", harmless=NAME)
    recipe: str = setting("paper", "set by the recipe's file", harmless=NAME)
    method: Literal["mtl", "baseline", "transfer", "semi", "segment", "hybrid"] = setting(
        "mtl",
        "mtl: pre-train, then fine-tune; baseline: fine-tune; transfer: from finetune.start_from; semi: self-training "
        "with unlabelled faces; segment: occlusions; hybrid: SVM heads on features",
        harmless="enters as the ids of the runs that a run starts from",
    )
    stages: list[str | dict[str, Any]] | None = setting(
        None,
        "stages in their order, by name, or your own by _target_; null: those of the method",
        harmless="enters as the ids of the runs that a run starts from",
    )
    ablation: str | None = setting(None, "set by the ablation's file, for tables", harmless=NAME)
    sweep_name: str | None = setting(None, "set by the sweep's file: groups its runs", harmless=NAME)
    label_fraction: float = setting(
        1.0,
        "fraction of the training labels that may be used; 0 only for semi, with synthetic labels",
        ge=0,
        le=1,
        harmless=MANIFEST,
    )
    subset: Literal[0, 1, 2] = setting(0, "which of the nested random subsets of labels", harmless=MANIFEST)
    seed: Seed = setting(0, "every stage's seed, unless it has its own", harmless="enters as each stage's own seed")
    output_dir: PathText = setting("outputs", "runs, reports, manifests and caches", harmless=LOCATION_ONLY)
    force: bool = setting(False, "train every stage again; old runs move to output_dir/replaced", harmless=ACTION)
    verify: bool = setting(False, "read all data again for their digests, whatever is known of them", harmless=ACTION)
    dry_run: bool = setting(False, "list the stages, their ids and what would run, and stop", harmless=ACTION)
    predict_to: PathText | None = setting(
        None,
        "folder for label maps of all images of the data set by the trained parser, the most uncertain listed first; "
        "null: none",
        harmless=ACTION,
    )
    datamodule: DataSettings = Field(default_factory=DataSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings)
    finetune: FinetuneSettings = Field(default_factory=FinetuneSettings)
    semi: SelfTrainingSettings = Field(default_factory=SelfTrainingSettings)
    segment: SegmentSettings = Field(default_factory=SegmentSettings)
    classify: ClassifySettings = Field(default_factory=ClassifySettings)
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)


MERGED_DATA = ("celebamask_hq",)
"""Data sets whose labels come as one mask per class, to be merged."""


def check(config: Mapping[str, Any]) -> Any:
    """A composed configuration, nested or flat, as settings.

    Raises:
        ConfigError: for a setting that is missing, unknown or invalid, and for settings that exclude one another.
    """
    stages = _stages_of(config)
    free = {name: config.get(name) or {} for name in FREE}
    outside = [stage for stage in stages if stage is not STAGES.get(stage.name)]
    extra: dict[str, Any] = {stage.name: (stage.settings, Field(default_factory=stage.settings)) for stage in outside}
    kind = create_model("Command", __base__=Command, **extra) if extra else Command
    if not config.get("experiment"):
        raise ConfigError(
            f"The setting experiment is missing.\n"
            f"It must be experiment=<one of {', '.join(group_options('experiment'))}>."
        )
    composed = {name: value for name, value in config.items() if name not in FREE}
    settings = validated(kind, with_defaults(composed, outside) if outside else composed)
    _check_data(settings, stages)
    _check_model(settings, stages)
    for stage in stages:
        own = settings[stage.name]
        if stage.one_process:
            continue
        if own.batch_size % settings.trainer.devices:
            raise ConfigError(
                f"{stage.name}.batch_size={own.batch_size} is no multiple of trainer.devices="
                f"{settings.trainer.devices}.\nIt must be a multiple of the number of devices: it is the total."
            )
        every = getattr(own, "validate_every", 1)
        if every > own.epochs:
            raise ConfigError(
                f"{stage.name}.validate_every={every} is beyond {stage.name}.epochs={own.epochs}: no epoch would be "
                f"validated.\nIt must be at most the number of epochs."
            )
    for stage in stages:
        stage.check(settings, config)
    check_objects(free)
    if settings.trainer.precision == "16-mixed" and settings.trainer.accelerator == "cpu":
        raise ConfigError("trainer.precision=16-mixed is not for the CPU.\nIt must be 32-true or bf16-mixed there.")
    return settings


def _stages_of(config: Mapping[str, Any]) -> list[Stage]:
    """The stages of a command: those of its method, or those it lists."""
    if config.get("stages") is not None:
        return stages_of(config["stages"], STAGES, Command.model_fields)
    method = config.get("method")
    return [STAGES[name] for name in METHODS.get(method if isinstance(method, str) else "", ())]


def _check_data(settings: Command, stages: Iterable[Stage]) -> None:
    data = settings.datamodule
    if data.layout is not None:
        require(data.layout, "datamodule.layout", root=Path(data.root), kind=Layout)
    dataset, segments = settings.datamodule.dataset, any(stage.name == "segment" for stage in stages)
    if settings.datamodule.layout is None and dataset not in (fitting := MASKED if segments else PARSED):
        raise ConfigError(
            f"method={settings.method} does not go with datamodule.dataset={dataset}.\n"
            f"It must be datamodule=<one of {', '.join(fitting)}> there."
        )
    check_masks(dataset if settings.datamodule.layout is None else None, settings.datamodule.mask, "datamodule.")
    if not settings.datamodule.random_split and (dataset != "folder" or settings.datamodule.layout is not None):
        raise ConfigError(
            f"datamodule.random_split=false does not go with datamodule.dataset={dataset}, which has its own split.\n"
            f"It must be true there; or datamodule=folder."
        )
    merging = settings.datamodule.merging
    if (merging is None) == (dataset in MERGED_DATA):
        raise ConfigError(
            f"datamodule.merging={merging or 'null'} does not go with datamodule.dataset={dataset}.\n"
            f"It must be {'official, zllrunning, farl' if dataset in MERGED_DATA else 'null'} there, the order of "
            f"painting CelebAMask-HQ's masks."
        )
    needing = [stage.name for stage in stages if stage.labelled and stage.takes_fraction and stage.name != "semi"]
    if settings.label_fraction == 0 and needing:
        raise ConfigError(
            f"label_fraction=0 leaves no labelled face for {needing[0]}.\n"
            f"It must be above 0; or method=semi with synthetic labels, see experiment=semi_lapa_0."
        )


def _check_model(settings: Command, stages: Iterable[Stage]) -> None:
    names = [stage.name for stage in stages]
    model, start = settings.model, settings.finetune.start_from
    if {"pretrain", "finetune", "semi", "classify"} & {*names}:
        if model.architecture is None and model.network is None:
            raise ConfigError(
                f"The model chosen segments occlusions (segment.network={settings.segment.network}), "
                f"method={settings.method} trains a parser.\n"
                f"It must be model=unetplusplus or another parser, or experiment=occlusion_celeba."
            )
        if "pretrain" in names and (model.network is not None or model.architecture != UNETPP):
            raise ConfigError(
                f"method={settings.method} does not go with model.architecture={model.architecture}: it needs "
                f"UNet++'s map at full resolution, which no other has.\n"
                f"It must be method=baseline, as in experiment=baseline_lapa_10pct; or model=unetplusplus."
            )
    if settings.stages is None and (settings.method == "transfer") != (start is not None):
        raise ConfigError(
            f"method={settings.method} and finetune.start_from={start} do not go together.\n"
            f"It must be method=transfer finetune.start_from=<a run>, or neither."
        )
    if "pretrain" not in names and settings.pretrain.start_from is not None:
        raise ConfigError(
            f"method={settings.method} and pretrain.start_from={settings.pretrain.start_from} do not go together.\n"
            f"It must be method=mtl or stages=[pretrain,semi]; or pretrain.start_from=null."
        )
    if "semi" not in names and settings.semi.start_from is not None:
        raise ConfigError(
            f"method={settings.method} and semi.start_from={settings.semi.start_from} do not go together.\n"
            f"It must be method=semi, or semi.start_from=null."
        )
    if "semi" in names[1:] and settings.semi.start_from is not None:
        raise ConfigError(
            f"semi.start_from={settings.semi.start_from} with stages=[{', '.join(names)}]: semi starts from the stage "
            f"before it.\nIt must be null there."
        )
    for before, after in itertools.pairwise(names):
        if before == "pretrain" and after in PARSERS and settings[after].transfer == "all":
            raise ConfigError(
                f"{after}.transfer=all is not for method={settings.method}: a head that reconstructs cannot parse.\n"
                f"It must be {after}.transfer=trunk or encoder."
            )
    if settings.pretrain.task == ENCODER_ALONE and "pretrain" in names:
        _check_encoder_alone(settings, names)


def _check_encoder_alone(settings: Command, names: list[str]) -> None:
    """See that the stage after a pretext task that trains no decoder asks for none."""
    without_finetuning = settings.stages is None and settings.classify.after != "finetune"
    after = "classify" if settings.method == "hybrid" and without_finetuning else next(iter(names[1:]), None)
    if after == "classify":
        raise ConfigError(
            "pretrain.task=sparse_masking trains an encoder, and classify reads the features of a decoder.\n"
            "It must be classify.after=finetune with method=hybrid; or pretrain.task=masked_patches or denoising."
        )
    if after in PARSERS and settings[after].transfer != "encoder":
        raise ConfigError(
            f"{after}.transfer={settings[after].transfer} with pretrain.task=sparse_masking, which trains the encoder "
            f"alone.\nIt must be {after}.transfer=encoder."
        )


# From settings to results


def plan(settings: Any, config: Mapping[str, Any] | None = None) -> list[Run]:
    """The runs of a command, see :func:`engine.planning.plan`.

    Args:
        settings: those of :func:`check`.
        config: the composed configuration, for callbacks that enter ids.
    """
    stages = _stages_of({"stages": settings.stages, "method": settings.method})
    data = settings.datamodule
    if data.layout is None:
        layout = open_layout(data.dataset, data.root, random_split=data.random_split)
    else:
        layout = outside_layout(data.layout, "datamodule.layout", Path(data.root))
    layout = declared(layout, data.mask)
    start = start_of(settings, layout, stages[0].name) if stages and stages[0].name in STARTED else None
    if settings.method == "hybrid" and settings.classify.after != "finetune":
        stages = [stage for stage in stages if stage.name != "finetune"]
    # Runs that a stage is compared with go before it; those that score it again follow.
    steps = [
        (stage, each)
        for stage in stages
        for each in (*stage.before(settings), settings, *stage.after(settings, layout))
    ]
    return plan_runs(steps, start, layout, Path(settings.output_dir), outside_objects(config or {}))


def train(config: DictConfig) -> list[dict[str, Any]]:
    """Train every stage of a command that is not finished, and show the results.

    Returns:
        ``name`` of each run, and whether it ``ran`` now or was there already, as plain data.

    Raises:
        ConfigError: for invalid settings.
        DataError: if data is missing or broken.
    """
    composed, settings, runs = planned(config)
    return execute(runs, composed, settings.force, settings.dry_run)


def planned(config: DictConfig) -> tuple[dict[str, Any], Any, list[Run]]:
    """The plain configuration, the settings and the runs of a command.

    Raises:
        ConfigError: for invalid settings.
        DataError: if data is missing or broken.
    """
    composed = plain_config(config)
    settings = check(composed)
    require_one_group(settings)
    require_folder(Path(settings.output_dir), "output_dir")
    return composed, settings, plan(settings, composed)


def plain_config(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, interpolations resolved."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)  # noqa: S101 (for the type checker: a composed configuration is a mapping)
    return {str(name): value for name, value in plain.items()}
