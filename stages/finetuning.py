"""Stage ``finetune``: train a face parser from a pre-trained trunk or only encoder weights (Equations 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from datamodules.labels import recorded_classes
from engine.planning import LEFT_OUT
from engine.plugins import require
from engine.settings import PathText, Plugin, ScaleRange, Settings, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError
from foundation.pretrained import run_path, weights
from foundation.run_folder import RunFolder
from lightning_modules.records import recorded_settings
from stages.building import (
    ENCODER_ALONE,
    HANDED_OVER,
    TrainingStage,
    encoder_weights,
    hyperparameters,
    identity_of_weights,
    open_datamodule,
    take_start,
)
from stages.groups import Augmentation, Optimizer, TrainingSettings
from stages.synthetic_labels import RENDERED, face_renderer, rendering_digest

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule

    from datamodules.layouts import Layout
    from lightning_modules.parsing import FaceParsing

ARCHITECTURES = ("unetplusplus", "deeplabv3plus", "segformer", "linknet")
"""Architectures with a file in ``conf/model``; any other of segmentation-models-pytorch is valid too."""
PARSERS = ("finetune", "semi")
"""Stages that leave a parser, of which another can start with its head."""
UNETPP = "unetplusplus"
"""The paper's architecture, and the only one with a pre-training."""


class FinetuneAugmentation(Augmentation):
    """Augmentation of labelled images (Data augmentation)."""

    rotation: float = setting(15.0, "degrees to either side", ge=0, le=180)
    scale: ScaleRange = setting([0.8, 1.2], "smallest and largest zoom")
    photometric: float = setting(
        0.0, "strength of random light, colours, blur and noise; 1 for synthetic faces", ge=0, le=1, later=True
    )


class FinetuneOptimizer(Optimizer):
    """The optimiser of fine-tuning."""

    lr: float = setting(1e-5, "peak learning rate", gt=0)


class ParserSettings(TrainingSettings):
    """Training of a face parser."""

    augmentation: FinetuneAugmentation = Field(default_factory=FinetuneAugmentation)
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)
    validate_every: int = setting(1, "epochs between validations", ge=1)
    start_from: PathText | None = setting(
        None, "for method=transfer: name or folder of the run to start from", harmless="enters as the id of that run"
    )
    transfer: Literal["trunk", "encoder", "all", "auto"] = setting(
        "trunk",
        "transferred weights: all of UNet++, only its encoder, or the head too; auto: the head too if both parse the "
        "same classes",
        written=HANDED_OVER,
    )
    trained: Literal["all", "decoder", "head"] = setting("all", "trained part; the rest is frozen")
    trunk_lr: float = setting(
        1.0, "learning rate of the trunk, as a multiple of optimizer.lr, the head's", gt=0, only="trained!=head"
    )
    frozen_epochs: int = setting(0, "number of epochs at the start with a frozen trunk", ge=0, only="trained!=head")
    statistics: Literal["adapt", "keep"] = setting(
        "adapt",
        "batch normalisation statistics of the trunk: adapted to the labelled faces, or kept",
        only="trained!=head",
    )
    loss: Literal["focal_dice", "ce_dice", "focal", "ce"] | Plugin = setting(
        "focal_dice", "focal_dice is Equation 3 (ablation C uses others); or your own by _target_, loss(logits, label)"
    )
    lambda_ce: float = setting(0.5, "weight of the cross-entropy term", ge=0, only="loss=focal_dice|ce_dice")
    lambda_dice: float = setting(0.5, "weight of the Dice term", ge=0, only="loss=focal_dice|ce_dice")
    alpha: float = setting(
        0.5, "focal weight of the true class; not in the paper", ge=0, le=1, only="loss=focal_dice|focal"
    )
    gamma: float = setting(2.0, "focal exponent; not in the paper", ge=0, only="loss=focal_dice|focal")
    score_at: Literal["label", "input"] = setting(
        "label", "score at the size of the label map, or of the network's input"
    )
    background: Literal["literature", "in", "out"] = setting(
        "literature", "background class in mean scores; literature: in mean IoU and accuracy, not in mean F1"
    )
    ema_decay: float | None = setting(
        None,
        "decay of an average of the weights, which is validated, tested and kept; null: none",
        ge=0,
        lt=1,
        later=True,
    )
    select: Literal["best", "last"] = setting(
        "best",
        "kept weights: of the epoch with the best validation score, or of the last, without validation labels",
        later=True,
    )


class FinetuneSettings(ParserSettings):
    """Face parsing."""

    on_the_fly: bool = setting(False, f"of synthetic faces: {RENDERED}", later=True)


class Finetuning(TrainingStage):
    """Fine-tuning on the labelled faces of a manifest."""

    name = "finetune"
    version = 4
    settings: ClassVar[type[Settings]] = FinetuneSettings
    reads = (
        *("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "datamodule.merging"),
        *("datamodule.random_split", "model", "finetune", "trainer"),
    )

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        own = settings[self.name]
        if settings.model.network is not None:
            require(settings.model.network, "model.network", classes=0)
        if not isinstance(own.loss, str):
            require(own.loss, f"{self.name}.loss")
        if own.trained != "head" and own.frozen_epochs >= own.epochs:
            raise ConfigError(
                f"{self.name}.frozen_epochs={own.frozen_epochs} with {self.name}.epochs={own.epochs}: the trunk would "
                f"never be trained.\nIt must be less than {self.name}.epochs; or set {self.name}.trained=head."
            )
        if self.name == "finetune" and own.on_the_fly and settings.label_fraction < 1:
            raise ConfigError(
                f"finetune.on_the_fly=true with label_fraction={settings.label_fraction}: a rendered face always has "
                f"labels.\nIt must be label_fraction=1; or finetune.on_the_fly=false."
            )
        if settings.model.network is not None:
            required = {"trained": "all", "trunk_lr": 1.0, "frozen_epochs": 0, "statistics": "adapt"}
            for name, value in required.items():
                if own[name] != value:
                    raise ConfigError(
                        f"{self.name}.{name}={own[name]} needs a parser with trunk and head, which model.network is "
                        f"not.\n{self.name}.{name} must be {value}."
                    )

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        entering = identity_of_weights(run, "model.encoder_weights", run.settings.model.encoder, digests)
        if run.upstreams:
            return entering | {f"{self.name}.transfer": _transferred(run)}
        return entering | {f"{self.name}.transfer": LEFT_OUT}  # no weights are transferred

    def extra_data(self, run: Run, digests: DigestCache) -> str | None:
        """With on_the_fly: what determines the rendered faces."""
        return rendering_digest(run.layout, "datamodule.root") if run.own.on_the_fly else None

    def data(self, run: Run) -> LightningDataModule:
        if not run.own.on_the_fly:
            return super().data(run)
        from datamodules.rendered_faces import RenderedFacesDataModule

        render = face_renderer(run, run.layout, "datamodule.root")
        return open_datamodule(run, kind=RenderedFacesDataModule, render=render)

    def monitored(self, run: Run) -> str | None:
        return self.monitor if run.own.select == "best" else None

    def require_network(self, run: Run) -> None:
        require_parser(run.settings.model, run.settings.datamodule.image_size)

    def module(self, run: Run) -> LightningModule:
        from lightning_modules.parsing import FaceParsing

        return self.started(run, FaceParsing(**self.parsing_arguments(run)))

    def parsing_arguments(self, run: Run) -> dict[str, Any]:
        """The arguments of :class:`lightning_modules.parsing.FaceParsing`."""
        model, own = run.settings.model, run.own
        self.require_network(run)
        made = run.upstreams or model.network is not None
        names = (
            *("loss", "lambda_ce", "lambda_dice", "alpha", "gamma"),
            *("background", "trained", "trunk_lr", "frozen_epochs", "statistics", "ema_decay"),
        )
        return {
            "classes": run.layout.labels.classes,
            **{name: own[name] for name in names},
            **hyperparameters(run),
            "encoder": model.encoder,
            "features": model.features,
            "encoder_state": None if made else encoder_weights(run, "model.encoder_weights", model.encoder),
            "architecture": model.architecture,
            "network": model.network,
        }

    def started(self, run: Run, module: FaceParsing) -> FaceParsing:
        """The module with the weights of the run that it starts from, if there is one."""
        if run.upstream is not None:
            take_start(run, module.model, _transferred(run))
        return module

    def start_description(self, run: Run) -> str:
        """One sentence about what is taken of the run that it starts from; "" without one."""
        if run.upstream is None:
            return ""
        taken = {"all": "all weights", "trunk": "all weights but the head's", "encoder": "the encoder's weights"}
        part = _transferred(run)
        why = ", since its classes are others" if run.own.transfer == "auto" and part == "trunk" else ""
        return f"Start: {taken[part]} of {run.upstream.name}{why}."

    def method_description(self, run: Run) -> dict[str, Any]:
        model, own, loss = run.settings.model, run.own, run.own.loss
        named = model.network["_target_"] if model.network is not None else model.architecture
        return {
            "loss": loss if isinstance(loss, str) else loss["_target_"],
            "network": None if named == UNETPP else named,
            "validation_labels": len(run.layout.samples("val")) if own.select == "best" else 0,
        }


def _transferred(run: Run) -> Literal["trunk", "encoder", "all"]:
    """What a run takes of the run that it starts from."""
    given: Literal["trunk", "encoder", "all", "auto"] = run.own.transfer
    if given != "auto":
        return given
    start = run.upstream
    theirs = None if start is None or start.stage not in PARSERS else recorded_classes(start.status)
    return "all" if theirs is not None and theirs.is_same_as(run.layout.labels) else "trunk"


def require_parser(model: Any, image_size: int) -> None:
    """Check that architecture and encoder exist, are compatible, and take images of this size.

    Raises:
        ConfigError: if not, with the nearest valid name.
    """
    from models.encoders import EncoderError, require_usable

    if model.network is not None:
        return
    try:
        require_usable(model.encoder, model.architecture, image_size)
    except EncoderError as error:
        raise ConfigError(str(error)) from error


def start_of(settings: Any, layout: Layout, stage: str = "finetune") -> RunFolder | None:
    """The finished run that ``start_from`` of a stage names; None if it is null.

    Raises:
        ConfigError: if it does not exist or is not finished, or its network does not fit.
    """
    own, key = settings[stage], f"{stage}.start_from"
    name = own.start_from
    if name is None:
        return None
    path = run_path(name, Path(settings.output_dir))
    folder = RunFolder.at(path)
    if folder is None or not folder.done:
        state = "is not a run folder" if folder is None or not folder.path.is_dir() else f"is {folder.state}"
        raise ConfigError(
            f"{key}={name}: {path} {state}.\n"
            f"It must be the name of a finished run, such as finetune-0123456789ab, the path of its folder, or weights "
            f"of pretrained/: {', '.join(weights())}."
        )
    if folder.stage not in ("pretrain", *PARSERS):
        raise ConfigError(f"{key}={name} is of stage {folder.stage}.\nIt must be a pretrain, finetune or semi run.")
    its = {"model.architecture": UNETPP, **recorded_settings(folder.status, folder.path)}
    if its.get("pretrain.task") == ENCODER_ALONE and own.transfer != "encoder":
        raise ConfigError(
            f"{stage}.transfer={own.transfer} with {key}={name}, which trained an encoder and no decoder.\n"
            f"It must be {stage}.transfer=encoder."
        )
    shared = ("model.encoder", *(("model.features",) if settings.model.architecture == UNETPP else ()))
    needed = {key: settings[key] for key in ("model.architecture", *shared)}
    if own.transfer == "all":
        needed["datamodule.dataset"] = layout.name
        if folder.stage not in PARSERS:
            raise ConfigError(
                f"{stage}.transfer=all transfers the head too, but {folder.name} has no parsing head.\n"
                f"It must be trunk or encoder."
            )
    for key, value in needed.items():
        if its.get(key) != value:
            raise ConfigError(
                f"{folder.name} was trained with {key}={its.get(key)}, this command has {key}={value}.\n"
                f"Both must be equal, so that the weights fit."
            )
    theirs = recorded_classes(folder.status)
    if own.transfer == "all" and theirs is not None and not theirs.is_same_as(layout.labels):
        raise ConfigError(
            f"{folder.name} parses {', '.join(theirs.classes)}; {layout.root} has {', '.join(layout.labels.classes)}.\n"
            f"The classes must be equal, so that the head fits; or set {stage}.transfer=trunk."
        )
    return folder
