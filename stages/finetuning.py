"""Stage ``finetune``: train a face parser from a pre-trained trunk or only encoder weights (Equations 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datamodules.labels import recorded_classes
from engine.planning import LEFT_OUT
from engine.plugins import require
from engine.processes import is_leader
from engine.settings import PathText, Plugin, ScaleRange, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError
from foundation.run_folder import RunFolder
from stages.building import TrainingStage, encoder_weights, hyperparameters, identity_of_weights
from stages.groups import Augmentation, Optimizer, TrainingSettings

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

    from datamodules.layouts import Layout

ARCHITECTURES = ("unetplusplus", "deeplabv3plus", "segformer", "linknet")
"""Architectures with a file in ``conf/model``; any other of segmentation-models-pytorch is valid too."""
UNETPP = "unetplusplus"
"""The paper's architecture, and the only one with a pre-training."""


class FinetuneAugmentation(Augmentation):
    """Augmentation of labelled images (Data augmentation)."""

    rotation: float = setting(15.0, "degrees to either side", ge=0, le=180)
    scale: ScaleRange = setting([0.8, 1.2], "smallest and largest zoom")


class FinetuneOptimizer(Optimizer):
    """The optimiser of fine-tuning."""

    lr: float = setting(1e-5, "peak learning rate", gt=0)


class FinetuneSettings(TrainingSettings):
    """Face parsing."""

    augmentation: FinetuneAugmentation = Field(default_factory=FinetuneAugmentation)
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)
    validate_every: int = setting(1, "epochs between validations", ge=1)
    start_from: PathText | None = setting(
        None, "for method=transfer: name or folder of the run to start from", harmless="enters as the id of that run"
    )
    transfer: Literal["trunk", "encoder", "all"] = setting(
        "trunk", "transferred weights: all of UNet++, only its encoder, or the head too"
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


class Finetuning(TrainingStage):
    """Fine-tuning on the labelled faces of a manifest."""

    name = "finetune"
    version = 4
    settings = FinetuneSettings
    reads = (
        *("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "datamodule.merging"),
        *("model", "finetune", "trainer"),
    )

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        own = settings.finetune
        if settings.model.network is not None:
            require(settings.model.network, "model.network", classes=0)
        if not isinstance(own.loss, str):
            require(own.loss, "finetune.loss")
        if own.trained != "head" and own.frozen_epochs >= own.epochs:
            raise ConfigError(
                f"finetune.frozen_epochs={own.frozen_epochs} with finetune.epochs={own.epochs}: the trunk would never "
                f"be trained.\nIt must be less than finetune.epochs; or set finetune.trained=head."
            )
        if settings.model.network is not None:
            required = {"trained": "all", "trunk_lr": 1.0, "frozen_epochs": 0, "statistics": "adapt"}
            for name, value in required.items():
                if own[name] != value:
                    raise ConfigError(
                        f"finetune.{name}={own[name]} needs a parser with trunk and head, which model.network is not.\n"
                        f"finetune.{name} must be {value}."
                    )

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        entering = identity_of_weights(run, "model.encoder_weights", run.settings.model.encoder, digests)
        return entering if run.upstreams else entering | {"finetune.transfer": LEFT_OUT}  # no weights are transferred

    def module(self, run: Run) -> LightningModule:
        from callbacks.checkpoints import load
        from lightning_modules.parsing import FaceParsing
        from models.parser import transfer

        model, own = run.settings.model, run.own
        require_parser(model)
        made = run.upstreams or model.network is not None
        names = (
            *("loss", "lambda_ce", "lambda_dice", "alpha", "gamma"),
            *("background", "trained", "trunk_lr", "frozen_epochs", "statistics"),
        )
        module = FaceParsing(
            run.layout.labels.classes,
            **{name: own[name] for name in names},
            **hyperparameters(run),
            encoder=model.encoder,
            features=model.features,
            encoder_state=None if made else encoder_weights(run, "model.encoder_weights", model.encoder),
            architecture=model.architecture,
            network=model.network,
        )
        if run.upstream is not None:
            trained = load(run.upstream.best)["state_dict"]
            weights = {key.removeprefix("model."): value for key, value in trained.items() if key.startswith("model.")}
            report = transfer(module.model, weights, own.transfer)
            if is_leader():
                print(f"From {run.upstream.name}: {report}")
        return module

    def method_description(self, run: Run) -> dict[str, Any]:
        model, loss = run.settings.model, run.own.loss
        named = model.network["_target_"] if model.network is not None else model.architecture
        return {
            "loss": loss if isinstance(loss, str) else loss["_target_"],
            "network": None if named == UNETPP else named,
        }


def require_parser(model: Any) -> None:
    """Check that architecture and encoder exist and are compatible.

    Raises:
        ConfigError: if not, with the nearest valid name.
    """
    from models.encoders import EncoderError, require_encoder

    if model.network is not None:
        return
    try:
        require_encoder(model.encoder, model.architecture)
    except EncoderError as error:
        raise ConfigError(str(error)) from error


def start_of(settings: Any, layout: Layout) -> RunFolder | None:
    """The finished run that ``finetune.start_from`` names; None if it is null.

    Raises:
        ConfigError: if it does not exist or is not finished, or its network does not fit.
    """
    name = settings.finetune.start_from
    if name is None:
        return None
    path = Path(name)
    folder = RunFolder.at(Path(settings.output_dir) / "runs" / path if len(path.parts) == 1 else path)
    if folder is None or not folder.done:
        state = "is not a run folder" if folder is None or not folder.path.is_dir() else f"is {folder.state}"
        raise ConfigError(
            f"finetune.start_from={name}: {path if folder is None else folder.path} {state}.\n"
            f"It must be the name of a finished run, such as finetune-0123456789ab, or the path of its folder."
        )
    if folder.stage not in ("pretrain", "finetune"):
        raise ConfigError(
            f"finetune.start_from={name} is of stage {folder.stage}.\nIt must be a pretrain or finetune run."
        )
    its = {"model.architecture": UNETPP} | folder.status.get("identity", {}).get("settings", {})
    shared = ("model.encoder", *(("model.features",) if settings.model.architecture == UNETPP else ()))
    needed = {key: settings[key] for key in ("model.architecture", *shared)}
    if settings.finetune.transfer == "all":
        needed["datamodule.dataset"] = layout.name
        if folder.stage != "finetune":
            raise ConfigError(
                f"finetune.transfer=all transfers the head too, but {folder.name} has no parsing head.\n"
                f"It must be trunk or encoder."
            )
    for key, value in needed.items():
        if its.get(key) != value:
            raise ConfigError(
                f"{folder.name} was trained with {key}={its.get(key)}, this command has {key}={value}.\n"
                f"Both must be equal, so that the weights fit."
            )
    theirs = recorded_classes(folder.status)
    if settings.finetune.transfer == "all" and theirs is not None and not theirs.is_same_as(layout.labels):
        raise ConfigError(
            f"{folder.name} parses {', '.join(theirs.classes)}; {layout.root} has {', '.join(layout.labels.classes)}.\n"
            f"The classes must be equal, so that the head fits; or set finetune.transfer=trunk."
        )
    return folder
