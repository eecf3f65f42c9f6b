"""Stage ``classify``: fit SVMs to the features of a trained trunk (Hybrid models)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from engine.settings import Seed, Settings, setting
from engine.stage import Run
from foundation.errors import ConfigError
from stages.building import TrainingStage, open_datamodule
from stages.finetuning import PARSERS

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from pytorch_lightning.loggers import Logger

MOST_EXACT = 20_000
"""Maximum number of training pixels of SVMs with an exact RBF kernel."""
SVM_OR_PRETRAINED = "head!=conv or after!=finetune"
"""Not for the conv head of a fine-tuned parser, which is trained already."""


class ClassifySettings(Settings):
    """Heads fitted to the features of single pixels."""

    seed: Seed = setting(0, "seed of the sampled pixels", written="${seed}", only=SVM_OR_PRETRAINED)
    after: Literal["pretrain", "finetune"] = setting(
        "pretrain",
        "source of the features: the pre-trained trunk, or the trunk fine-tuned on the same labels",
        harmless="enters as the id of that run",
    )
    head: Literal["svm_rh", "svm_bdt", "svm_ovr", "svm_ovo", "conv"] = setting(
        "svm_bdt", "trees of N-1 binary SVMs, one-vs-rest, one-vs-one; or conv, which every command fits for comparison"
    )
    features: Literal["map", "hypercolumns"] = setting(
        "map",
        "map: the trunk's full-resolution features; hypercolumns: all levels of its decoder too",
        only=SVM_OR_PRETRAINED,
    )
    kernel: Literal["linear", "rbf", "nystroem"] = setting(
        "linear", "kernel of the binary SVMs; nystroem approximates rbf", only="head!=conv"
    )
    C: float = setting(1.0, "SVM cost parameter", gt=0, only=SVM_OR_PRETRAINED)
    gamma: float | None = setting(
        None,
        "coefficient of the RBF kernel; null: 1 / (features x variance)",
        gt=0,
        only="head!=conv and kernel!=linear",
    )
    landmarks: int = setting(
        256, "number of samples of the Nystroem approximation", ge=1, only="head!=conv and kernel=nystroem"
    )
    order: Literal["separability", "frequency"] = setting(
        "separability", "criterion for the class that is split off first", only="head=svm_rh"
    )
    pixels: int = setting(200, "pixels sampled per class and labelled face", ge=1, only=SVM_OR_PRETRAINED)
    max_pixels: int = setting(
        100_000, "maximum of sampled pixels in total; with many faces fewer per face", ge=1, only=SVM_OR_PRETRAINED
    )
    prior: float = setting(
        0.5, "class weights: 0: as sampled; 1: the class frequencies of the faces", ge=0, le=1, only=SVM_OR_PRETRAINED
    )
    score_at: Literal["label", "input"] = setting("label", "score at the label map's own size, or the network's input")


class Classification(TrainingStage):
    """Fits a head to the features of a trained trunk and tests it."""

    name = "classify"
    version = 4
    settings = ClassifySettings
    reads = (
        *("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "datamodule.merging"),
        *("model.encoder", "model.features", "classify", "finetune.background"),
    )
    one_process = True

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        own = settings.classify
        if own.kernel == "rbf" and own.max_pixels > MOST_EXACT:
            raise ConfigError(
                f"classify.kernel=rbf with classify.max_pixels={own.max_pixels} would take hours.\n"
                f"It must be classify.max_pixels={MOST_EXACT} or less; or classify.kernel=nystroem."
            )

    def before(self, settings: Any) -> list[Any]:
        """Every other head is compared with the conv head on the same features."""
        if settings.classify.head == "conv":
            return []
        return [settings.model_copy(update={"classify": settings.classify.model_copy(update={"head": "conv"})})]

    def data(self, run: Run) -> LightningDataModule:
        """Faces without augmentation, each once."""
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
            "features": "map" if conv and after in PARSERS else own.features,
        }
