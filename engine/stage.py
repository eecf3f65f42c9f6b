"""A stage: one kind of training (or scoring), with its settings, data, network and description in one object.

``stages/`` contains the project's stages; write your own as a subclass, see ``examples/own_stage``.
"""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from engine.settings import Settings
from foundation.run_folder import RunFolder

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from pytorch_lightning.loggers import Logger

    from datamodules.layouts import Layout
    from datamodules.subsets import Manifest
    from foundation.digests import DigestCache


class Stage(ABC):
    """One kind of training. Importing a stage must not import torch or Lightning: methods import what they need."""

    name: ClassVar[str]
    """Name in the configuration and in run folders."""
    version: ClassVar[int]
    """Increased by hand when a code change alters results."""
    settings: ClassVar[type[Settings]]
    """Its group of settings: ``settings["<name>"]`` of a command."""
    reads: ClassVar[Sequence[str]]
    """Groups and settings that can change its results and enter its id, see :func:`engine.settings.entering`."""
    labelled: ClassVar[bool] = True
    """Whether it reads labels."""
    splits: ClassVar[Sequence[str]] = ("train", "val", "test")
    """Splits whose files it reads."""
    takes_fraction: ClassVar[bool] = True
    """Whether it uses the labels of a manifest (``label_fraction``, ``subset``)."""
    verb: ClassVar[str] = "Training"
    """Its activity, for the console."""
    monitor: ClassVar[str | None] = "val/miou"
    """The validation metric that selects the best epoch; None keeps the last epoch."""
    one_process: ClassVar[bool] = False
    """Whether it runs in one process even if earlier stages train in several."""
    arguments: Mapping[str, Any] = types.MappingProxyType({})
    """Arguments of its ``_target_`` in ``stages``; they enter the id."""

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        """Check that the command's settings are compatible for this stage.

        Raises:
            ConfigError: if they are not.
        """

    def require_network(self, run: Run) -> None:
        """Check that the network of a run can be built and takes its images, before any run of its command trains.

        Raises:
            ConfigError: if not.
        """
        del run

    def monitored(self, run: Run) -> str | None:
        """The :attr:`monitor` of one run, whose settings may choose."""
        del run
        return self.monitor

    def before(self, settings: Any) -> list[Any]:
        """Settings of further runs of this stage, planned before this one, that it is compared with."""
        return []

    def after(self, settings: Any, layout: Layout) -> list[Any]:
        """Settings of further runs of this stage, planned after this one, that say how good it is."""
        return []

    def splits_of(self, run: Run) -> Sequence[str]:
        """The splits whose files one run reads."""
        del run
        return self.splits

    def is_tested(self, run: Run) -> bool:
        """Whether one run is scored on faces that it is not trained on."""
        del run
        return self.labelled

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        """Additional entries of the id, by name; they replace settings of the same name."""
        return {}

    def extra_data(self, run: Run, digests: DigestCache) -> str | None:
        """A text that identifies what it reads in addition to the files of its splits, for the data digest."""
        return None

    @abstractmethod
    def data(self, run: Run) -> LightningDataModule:
        """The data module."""

    @abstractmethod
    def module(self, run: Run) -> LightningModule:
        """The Lightning module, with the weights of the upstream run loaded."""

    def timed_module(self, run: Run) -> LightningModule:
        """The module as it trains for most of its steps, for a forecast of the time."""
        return self.module(run)

    def steps(self, run: Run) -> int | None:
        """Number of optimiser steps of the complete run; None if it is not known before."""
        return None

    def fit(self, run: Run, config: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
        """Train, and test if it reads labels; returns the result part of the run's status."""
        from engine.fitting import train_and_test

        return train_and_test(run, config, loggers)

    def results(self, run: Run, network: Any) -> dict[str, Any]:
        """Measurements of the trained network other than scores, for the status."""
        return {}

    def subject(self, run: Run) -> str:
        """What the run scores, for the console."""
        return ""

    def description(self, run: Run) -> dict[str, Any]:
        """Keys of the status that reports group runs by: ``masking``, ``loss``, ``network`` and so on."""
        return {}


@dataclass(frozen=True)
class Run:
    """One stage with one configuration.

    Args:
        settings: all settings of the command.
        manifest: the labelled images, for a stage that reads labels; else None.
        upstreams: runs that it starts from.
        identity: everything that enters the id.
    """

    stage: Stage
    settings: Any
    layout: Layout
    manifest: Manifest | None
    upstreams: tuple[RunFolder, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    folder: RunFolder = field(default=None)  # type: ignore[assignment]

    @property
    def id(self) -> str:
        return self.folder.id

    @property
    def own(self) -> Any:
        """The stage's own group of settings: ``run.own.epochs``."""
        return self.settings[self.stage.name]

    @property
    def upstream(self) -> RunFolder | None:
        """The run whose weights it starts from: the first upstream run."""
        return self.upstreams[0] if self.upstreams else None
