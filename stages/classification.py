"""Stage ``classify``: fit SVMs to features of a trained trunk (Hybrid models)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from engine.settings import Seed, Settings, setting
from engine.stage import Run
from foundation.errors import ConfigError
from stages.building import TrainingStage, open_datamodule

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from pytorch_lightning.loggers import Logger

MOST_EXACT = 20_000
"""Pixels to which SVMs with an exact RBF kernel are fitted, at most."""
FITTED = "head!=conv or after!=finetune"
"""A fine-tuned conv head is there already."""


class ClassifySettings(Settings):
    """Heads that are fitted to features, pixel by pixel."""

    seed: Seed = setting(0, "of the pixels that are sampled", written="${seed}", only=FITTED)
    after: Literal["pretrain", "finetune"] = setting(
        "pretrain",
        "whose features: pre-trained ones, or fine-tuned on the same labels",
        harmless="enters as the id of that run",
    )
    head: Literal["svm_rh", "svm_bdt", "svm_ovr", "svm_ovo", "conv"] = setting(
        "svm_bdt", "trees of N-1 binary SVMs, one against rest, one against one; or conv, which every command fits too"
    )
    features: Literal["map", "hypercolumns"] = setting(
        "map", "map: the trunk's full-resolution map; hypercolumns: the levels of its decoder too", only=FITTED
    )
    kernel: Literal["linear", "rbf", "nystroem"] = setting(
        "linear", "kernel of the binary SVMs; nystroem approximates rbf", only="head!=conv"
    )
    C: float = setting(1.0, "cost of errors", gt=0, only=FITTED)
    gamma: float | None = setting(
        None, "of the RBF kernel; null: 1 / (features x variance)", gt=0, only="head!=conv and kernel!=linear"
    )
    landmarks: int = setting(256, "of the Nystroem approximation", ge=1, only="head!=conv and kernel=nystroem")
    order: Literal["separability", "frequency"] = setting(
        "separability", "which class is split off first", only="head=svm_rh"
    )
    pixels: int = setting(200, "sampled of each class in each labelled face", ge=1, only=FITTED)
    max_pixels: int = setting(100_000, "sampled in all: with many faces fewer of each", ge=1, only=FITTED)
    prior: float = setting(
        0.5, "weight of classes: 0 all as sampled, 1 as frequent as in the faces", ge=0, le=1, only=FITTED
    )
    score_at: Literal["label", "input"] = setting("label", "score at the label map's own size, or the network's input")


class Classification(TrainingStage):
    """A head fitted to the features of a trained trunk, and scored."""

    name = "classify"
    version = 4
    settings = ClassifySettings
    reads = (
        *("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "datamodule.merging"),
        *("model.encoder", "model.features", "classify", "finetune.background"),
    )
    one_process = True

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        del config
        own = settings.classify
        if own.kernel == "rbf" and own.max_pixels > MOST_EXACT:
            raise ConfigError(
                f"classify.kernel=rbf with classify.max_pixels={own.max_pixels} would take hours.\n"
                f"It must be classify.max_pixels={MOST_EXACT} or less there; or classify.kernel=nystroem."
            )

    def before(self, settings: Any) -> list[Any]:
        """Every other head is compared with the linear conv head on the same features."""
        if settings.classify.head == "conv":
            return []
        return [settings.model_copy(update={"classify": settings.classify.model_copy(update={"head": "conv"})})]

    def kept_config(self, run: Run, config: dict[str, Any]) -> dict[str, Any]:
        return config | {"classify": config["classify"] | {"head": run.own.head}}

    def data(self, run: Run) -> LightningDataModule:
        """Faces as they are, each seen once."""
        from datamodules.transforms import Augmentation

        return open_datamodule(run, Augmentation(0, (1, 1), 0, 0), batch_size=run.settings.datamodule.eval_batch_size)

    def module(self, run: Run) -> LightningModule:
        from stages.fitted_heads import build_module

        return build_module(run, None)

    def fit(self, run: Run, config: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
        from stages.fitted_heads import fit_and_score

        return fit_and_score(run, config, loggers)

    def method_description(self, run: Run) -> dict[str, Any]:
        own = run.own
        conv = own.head == "conv"
        after = None if run.upstream is None else run.upstream.stage
        return {
            "after": after,
            "head": own.head,
            "kernel": None if conv else own.kernel,
            "features": "map" if conv and after == "finetune" else own.features,
        }
