"""What a stage is: one kind of training (or scoring), with its settings, data, network and description in one object.

``stages/`` holds this project's; a stage of your own is a subclass too, see ``examples/own_stage``.
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
    """As in the configuration and in names of run folders."""
    version: ClassVar[int]
    """Raised by hand when a change of the code changes results."""
    settings: ClassVar[type[Settings]]
    """Its group of settings, ``settings["<name>"]`` of a command."""
    reads: ClassVar[Sequence[str]]
    """Groups and settings that can change its results: they enter its id, see :func:`engine.settings.entering`."""
    labelled: ClassVar[bool] = True
    """Whether it reads labels."""
    splits: ClassVar[Sequence[str]] = ("train", "val", "test")
    """Splits whose files it may read."""
    takes_fraction: ClassVar[bool] = True
    """Whether its labels are those of a manifest: ``label_fraction`` and ``subset``."""
    verb: ClassVar[str] = "Training"
    """What it does, for the screen."""
    monitor: ClassVar[str | None] = "val/miou"
    """The validation score whose best epoch is kept; None keeps the last epoch."""
    one_process: ClassVar[bool] = False
    """Whether it runs in one process even where stages before it trained in several."""
    arguments: Mapping[str, Any] = types.MappingProxyType({})
    """What its ``_target_`` in ``stages`` is given; it enters the id."""

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        """See that the command's settings go together for this stage.

        Raises:
            ConfigError: if they do not.
        """
        del settings, config

    def before(self, settings: Any) -> list[Any]:
        """Settings of further runs of this stage that this one is compared with; they are planned before it."""
        del settings
        return []

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        """What enters the id beyond settings, data, labels and upstream runs; also: changes of their values."""
        del run, digests
        return {}

    def extra_data(self, run: Run, digests: DigestCache) -> str | None:
        """A text that stands for what it reads beyond the splits' files."""
        del run, digests
        return None

    @abstractmethod
    def data(self, run: Run) -> LightningDataModule:
        """The batches."""

    @abstractmethod
    def module(self, run: Run) -> LightningModule:
        """The Lightning module at its start, what it starts from handed over."""

    def fit(self, run: Run, config: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
        """Train, and test where it reads labels; what the run's status holds at its end."""
        from engine.fitting import train_and_test

        return train_and_test(run, config, loggers)

    def kept_config(self, run: Run, config: dict[str, Any]) -> dict[str, Any]:
        """The composed configuration as this run keeps it."""
        del run
        return config

    def results(self, run: Run, network: Any) -> dict[str, Any]:
        """What is measured of the trained network beyond its scores."""
        del run, network
        return {}

    def subject(self, run: Run) -> str:
        """What is scored in which way, for the screen."""
        del run
        return ""

    def description(self, run: Run) -> dict[str, Any]:
        """What tells its runs from others in a report: ``masking``, ``loss``, ``network`` and the like."""
        del run
        return {}


@dataclass(frozen=True)
class Run:
    """A stage with a configuration: what is to be trained, and where it lies.

    Args:
        stage: the kind of training.
        settings: the command's.
        layout: reader of the data.
        manifest: the labelled images, for a stage that reads labels.
        upstreams: runs that it starts from.
        identity: all that enters the id.
        folder: the run folder.
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
        """The run whose weights it starts from: the first of them."""
        return self.upstreams[0] if self.upstreams else None
