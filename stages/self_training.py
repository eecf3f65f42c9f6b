"""Stage ``semi``: self-training of a face parser, from few labelled and many unlabelled faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from omegaconf import OmegaConf
from pydantic import Field

from datamodules import subsets
from datamodules.layouts import Layout
from engine.settings import PathText, Settings, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError
from stages.building import open_datamodule
from stages.finetuning import Finetuning, ParserSettings
from stages.synthetic_labels import SyntheticSettings, synthetic_digest, synthetic_labels, synthetic_layout

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule


OmegaConf.register_new_resolver(
    "if_start", lambda run, then, otherwise: otherwise if run is None else then, replace=True
)
"""One of two values for ``conf/``: whether a run to start from is given."""


class SelfTrainingSettings(ParserSettings):
    """Self-training with an averaged teacher."""

    batch_size: int = setting(16, "labelled images in a batch, over all devices", ge=1)
    unlabelled_batch_size: int = setting(16, "unlabelled images in a batch, over all devices", ge=1)
    steps_per_epoch: int | None = setting(None, "batches per epoch; null: every unlabelled image once", ge=1)
    start_from: PathText | None = setting(
        None,
        "name or folder of the pretrain, finetune or semi run to start from; null: random weights, or the stage before",
        harmless="enters as the id of that run",
    )
    ema_decay: float = setting(0.99, "decay of the teacher, the average of the student's weights", ge=0, lt=1)
    threshold: float = setting(0.0, "least confidence of a pseudo-label; 0.8 and 0.95 are common", ge=0, lt=1)
    weight: float = setting(1.0, "weight of the unlabelled loss after its ramp", ge=0)
    wait: float = setting(0.05, "fraction of the steps without an unlabelled loss, at the start", ge=0, le=1)
    ramp: float = setting(0.2, "fraction of the steps over which its weight then grows from 0", ge=0, le=1)
    views: Literal[1, 2] = setting(1, "strong views of each unlabelled image")
    cutmix: float = setting(0.5, "probability of CutMix for each strong view", ge=0, le=1)
    folds: int = setting(
        0,
        "cross-validation where the data hold no labelled val or test split: that many more runs, each scored on the "
        "labels that it is trained without; at most one for each labelled image; 0: none",
        ge=0,
        only="fold!=null",
    )
    fold: int | None = setting(
        None, "the fold that one run is scored on; null: trained on all labels", ge=0, later=True
    )
    synthetic: SyntheticSettings = Field(default_factory=SyntheticSettings)


class SelfTrainingStage(Finetuning):
    """Self-training on the labelled faces of a manifest and all images of the training split."""

    name = "semi"
    version = 1
    settings: ClassVar[type[Settings]] = SelfTrainingSettings
    reads = (
        *("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "datamodule.merging"),
        *("datamodule.random_split", "model", "semi", "trainer"),
    )

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        super().check(settings, config)
        own = settings.semi
        if own.unlabelled_batch_size % settings.trainer.devices:
            raise ConfigError(
                f"semi.unlabelled_batch_size={own.unlabelled_batch_size} is no multiple of trainer.devices="
                f"{settings.trainer.devices}.\nIt must be a multiple of the number of devices: it is the total."
            )
        if own.fold is not None and own.fold >= own.folds:
            raise ConfigError(
                f"semi.fold={own.fold} with semi.folds={own.folds}.\n"
                f"It must be null for a run on all labels, or one of the folds, counted from 0."
            )
        synthetic_alone = own.synthetic.root is not None and own.synthetic.share == 1
        if settings.label_fraction > 0:
            if synthetic_alone and own.synthetic.schedule == "constant":
                raise ConfigError(
                    "semi.synthetic.share=1 leaves no place in a batch for real labels.\n"
                    "It must be less than 1; or set label_fraction=0, which uses none."
                )
            return
        if not synthetic_alone or own.synthetic.schedule != "constant":
            raise ConfigError(
                "label_fraction=0 leaves no labelled face.\n"
                "It must be above 0; or set semi.synthetic.root=<a folder of prepare.py task=synthetic_faces>, "
                "semi.synthetic.share=1 and semi.synthetic.schedule=constant, so that all labels are synthetic."
            )
        if own.select != "last":
            raise ConfigError(
                f"semi.select={own.select} with label_fraction=0 would choose the weights by real validation labels.\n"
                f"It must be last."
            )

    def after(self, settings: Any, layout: Layout) -> list[Any]:
        """The folds of a cross-validation, where the data hold no labelled split to score on."""
        own = settings.semi
        if own.fold is not None or scored_splits(layout):
            return []
        labelled = len(layout.samples("train")) if "train" in layout.labelled_splits else 0
        folds = min(own.folds, subsets.count(settings.label_fraction, labelled))
        each = [own.model_copy(update={"fold": fold, "folds": folds}) for fold in range(folds if folds > 1 else 0)]
        return [settings.model_copy(update={"semi": one}) for one in each]

    def splits_of(self, run: Run) -> tuple[str, ...]:
        return ("train", *scored_splits(run.layout))

    def is_tested(self, run: Run) -> bool:
        return run.own.fold is not None or bool(scored_splits(run.layout))

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        if run.own.select == "best" and "val" not in scored_splits(run.layout):
            raise ConfigError(
                f"semi.select=best needs validation labels, and {run.layout.root} has no labelled val split.\n"
                f"It must be semi.select=last; or make a val split (docs/your_own_faces.md)."
            )
        return super().identity(run, digests)

    def extra_data(self, run: Run, digests: DigestCache) -> str | None:
        """Digest of the images without labels, and of the synthetic faces."""
        found = []
        labels = (
            {sample.id for sample in run.layout.samples("train")} if "train" in run.layout.labelled_splits else set()
        )
        unlabelled = [one for one in run.layout.samples("train", labelled=False) if one.id not in labels]
        if unlabelled:
            found.append(f"unlabelled {digests.of_files([(one.id, one.image) for one in unlabelled])}")
        synthetic = synthetic_digest(run, digests)
        if synthetic is not None:
            found.append(synthetic)
        return " ".join(found) or None

    def data(self, run: Run) -> LightningDataModule:
        from datamodules.faces import FOLD
        from datamodules.self_training import SelfTrainingDataModule

        own, splits = run.own, scored_splits(run.layout)
        if own.fold is not None:
            scored: dict[str, Any] = {"scored": ("test",), "tested": FOLD, "fold": (own.fold, own.folds)}
        else:
            scored = {"scored": (*splits, "test"), "tested": splits[-1]} if splits else {"scored": ()}
        return open_datamodule(
            run,
            kind=SelfTrainingDataModule,
            unlabelled_batch_size=own.unlabelled_batch_size,
            epochs=own.epochs,
            synthetic=synthetic_labels(run),
            **scored,
        )

    def module(self, run: Run) -> LightningModule:
        from lightning_modules.self_training import SelfTraining

        names = ("threshold", "weight", "wait", "ramp", "views", "cutmix")
        own = {name: run.own[name] for name in names}
        return self.started(run, SelfTraining(**own, **(self.parsing_arguments(run) | {"steps": _steps(run)})))

    def timed_module(self, run: Run) -> LightningModule:
        """With the unlabelled loss from the second step on."""
        from lightning_modules.self_training import SelfTraining

        module = self.module(run)
        assert isinstance(module, SelfTraining)  # noqa: S101 (for the type checker)
        module.hparams.update(wait=0.0, ramp=0.0)
        return module

    def steps(self, run: Run) -> int:
        return _steps(run)

    def method_description(self, run: Run) -> dict[str, Any]:
        layout = synthetic_layout(run)
        return super().method_description(run) | {
            **_fold_description(run),
            "unlabelled": len(run.layout.samples("train", labelled=False)),
            "synthetic": 0 if layout is None else len(layout.samples("train")),
        }


def scored_splits(layout: Layout) -> tuple[str, ...]:
    """Which of ``val`` and ``test`` hold labelled faces."""
    return tuple(split for split in ("val", "test") if split in layout.labelled_splits)


def _fold_description(run: Run) -> dict[str, Any]:
    own = run.own
    if own.fold is None or run.manifest is None:
        return {}
    ids = {*run.manifest.ids}
    chosen = [sample for sample in run.layout.samples("train") if sample.id in ids]
    trained = subsets.of_fold(chosen, "train", own.fold, own.folds)
    return {"fold": own.fold, "folds": own.folds, "labelled": len(trained)}


def _steps(run: Run) -> int:
    """Number of optimiser steps of the complete run."""
    from datamodules.self_training import batches_of

    own, unlabelled = run.own, len(run.layout.samples("train", labelled=False))
    batches = batches_of(unlabelled, own.unlabelled_batch_size, own.steps_per_epoch)
    accumulated = (run.settings.trainer.model_extra or {}).get("accumulate_grad_batches", 1)
    return own.epochs * -(-batches // accumulated)
