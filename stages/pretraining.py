"""Stage ``pretrain``: reconstruct masked patches of unlabelled faces (Proposed MTL pre-training stage, Equation 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.plugins import build, require
from engine.settings import Plugin, ScaleRange, SizeRange, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError
from stages.building import TrainingStage, encoder_weights, hyperparameters, identity_of_weights, open_datamodule
from stages.groups import Augmentation, TrainingSettings

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule


class PretrainAugmentation(Augmentation):
    """Augmentation of unlabelled images (Data augmentation)."""

    rotation: float = setting(30.0, "degrees to either side", ge=0, le=180)
    scale: ScaleRange = setting([0.75, 1.25], "smallest and largest zoom")


class PretrainSettings(TrainingSettings):
    """Masked pre-training."""

    augmentation: PretrainAugmentation = Field(default_factory=PretrainAugmentation)
    task: Plugin | None = setting(None, "your own pretext task, by _target_; null: reconstruct masked patches")
    masking: Literal["central", "random", "adaptive", "none"] = setting(
        "central",
        "central: patches inside the box W/6..5W/6; random: anywhere (ablation B); adaptive: inside the box, more "
        "patches where the reconstruction error is largest; none: the image is copied",
    )
    patches: int = setting(128, "patches per image", ge=1, only="masking!=none")
    patch_size: SizeRange = setting(
        [32, 64], "smallest and largest side at 480 px; scales with the input", only="masking!=none"
    )
    fill: Literal["zero", "mean", "noise"] = setting(
        "zero", "masked pixels: zero after normalisation, the image's mean colour, or noise", only="masking!=none"
    )
    loss: Literal["mse", "l1"] = setting("mse", "pixel loss of Equation 1; not in the paper")
    reduction: Literal["mean", "sum"] = setting("mean", "over the pixels of the region; the paper prints a sum")
    loss_over: Literal["box", "image", "masked"] = setting(
        "box", "all pixels of the central box (Equation 1), of the image, or only masked pixels"
    )
    contrastive: float = setting(0.0, "weight of a contrastive term between two maskings of an image; 0: none", ge=0)
    temperature: float = setting(0.1, "temperature of the contrastive term", gt=0, only="contrastive!=0")


class Pretraining(TrainingStage):
    """Masked pre-training of the parser's trunk on unlabelled faces."""

    name = "pretrain"
    version = 4
    settings = PretrainSettings
    reads = ("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "model", "pretrain", "trainer")
    labelled = False
    splits = ("train", "val")
    monitor = None  # reconstruction scores do not predict which epoch parses best

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        own = settings.pretrain
        if own.task is not None:
            require(own.task, "pretrain.task", model=None, optimization=None)
            return
        if own.masking == "none" and own.loss_over == "masked":
            raise ConfigError(
                "pretrain.loss_over=masked with pretrain.masking=none leaves no pixel to learn from.\n"
                "pretrain.loss_over must be box or image."
            )
        if own.contrastive > 0 and own.masking == "none":
            raise ConfigError(
                "pretrain.contrastive compares two maskings of an image, and pretrain.masking=none has none.\n"
                "pretrain.masking must be central, random or adaptive; or set pretrain.contrastive=0."
            )
        if own.contrastive > 0 and own.batch_size < 2 * settings.trainer.devices:
            raise ConfigError(
                f"pretrain.contrastive compares the images of a batch, but a device has fewer than two.\n"
                f"pretrain.batch_size must be at least {2 * settings.trainer.devices}; or set pretrain.contrastive=0."
            )

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        return identity_of_weights(run, "model.encoder_weights", run.settings.model.encoder, digests)

    def data(self, run: Run) -> LightningDataModule:
        from models.masking import PatchSampling

        own = run.own
        size = run.settings.datamodule.image_size
        return open_datamodule(run, masking=PatchSampling.of(own.masking, size, own.patches, own.patch_size))

    def module(self, run: Run) -> LightningModule:
        import pytorch_lightning as pl

        from datamodules.transforms import STD
        from lightning_modules.optimization import Optimization
        from lightning_modules.pretraining import MaskedPretraining
        from models.parser import FaceParser
        from stages.finetuning import require_parser

        model, own = run.settings.model, run.own
        require_parser(model)
        state = encoder_weights(run, "model.encoder_weights", model.encoder)
        if own.task is not None:
            parser = FaceParser(3, model.encoder, model.features, state)
            optimization = Optimization(**hyperparameters(run))
            task = build(own.task, "pretrain.task", model=parser, optimization=optimization, kind=pl.LightningModule)
            if getattr(task, "model", None) is not parser:
                raise ConfigError(
                    f"pretrain.task: {own.task['_target_']} does not keep the model that it is given, from which "
                    f"fine-tuning starts.\nIt must hold self.model = model."
                )
            return task
        names = ("loss", "reduction", "loss_over", "fill", "masking", "patches", "contrastive", "temperature")
        return MaskedPretraining(
            **{name: own[name] for name in names},
            **hyperparameters(run),
            encoder=model.encoder,
            features=model.features,
            encoder_state=state,
            std=list(STD),
            image_size=run.settings.datamodule.image_size,
        )

    def method_description(self, run: Run) -> dict[str, Any]:
        return {"loss": run.own.loss if run.own.task is None else None}
