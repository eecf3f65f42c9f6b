"""A stage of one's own: a linear probe, which shows what pre-training has put into the encoder's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from engine.settings import setting
from engine.stage import Run
from foundation.errors import ConfigError
from stages.building import TrainingStage, hyperparameters
from stages.groups import TrainingSettings

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule


class ProbeSettings(TrainingSettings):
    """The group ``probe.*``; all that it holds enters the id."""

    epochs: int = setting(50, "number of epochs", ge=1)
    levels: int = setting(5, "levels of the encoder whose features are read, from the finest on", ge=1, le=5)
    score_at: Literal["label", "input"] = setting("label", "score at the label map's own size, or the network's input")


class LinearProbe(TrainingStage):
    """One linear layer on the frozen features of the encoder, trained on the labelled faces of the command."""

    name = "probe"
    version = 1
    settings = ProbeSettings
    reads = (
        *("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "datamodule.merging"),
        *("model.encoder", "probe", "trainer"),
    )

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        if not settings.stages or settings.stages[0] != "pretrain":
            raise ConfigError("probe reads the features of a pre-training.\nstages must begin with pretrain.")

    def module(self, run: Run) -> LightningModule:
        from callbacks.checkpoints import load  # torch: imported only where something is trained
        from examples.own_stage.probe import Probe
        from lightning_modules.optimization import Optimization

        assert run.upstream is not None  # noqa: S101 (for the type checker: see check)
        return Probe(
            run.layout.labels.classes,
            run.settings.model.encoder,
            run.own.levels,
            load(run.upstream.best)["state_dict"],
            Optimization(**hyperparameters(run)),
        )
