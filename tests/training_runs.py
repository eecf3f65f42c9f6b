"""Training commands of small networks for tests: their runs, what these leave, and interruptions."""

from __future__ import annotations

import contextlib
import csv
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.settings import flatten
from engine.stage import Run
from stages.command import check, plan
from tests.conftest import TINY, settings_of

BRIEF = ("finetune.epochs=1", "finetune.steps_per_epoch=1")
"""Overrides for a fine-tuning of one step, for tests of its start or end."""


@functools.cache
def composed(experiment: str) -> dict[str, Any]:
    """The composed configuration of a small experiment, flat, for tests that change plain settings of it."""
    return flatten(settings_of(f"experiment={experiment}", *TINY))


def planned(root: Path, output: Path, experiment: str = "mtl_lapa_10pct", /, **changes: object) -> list[Run]:
    """The runs of a command; a setting ``a.b`` is changed by ``**{"a.b": value}``."""
    places = {"datamodule.root": str(root), "output_dir": str(output)}
    return plan(check(composed(experiment) | places | changes))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.folder.best, weights_only=True)["state_dict"]


def rows(run: Run) -> list[dict[str, str]]:
    with run.folder.curves.open(newline="") as file:
        return list(csv.DictReader(file))


@contextlib.contextmanager
def interrupted_at(monkeypatch: pytest.MonkeyPatch, module: Any, step: int) -> Iterator[None]:
    """Within the block, a command is interrupted as by Ctrl-C when the module reaches a step."""
    original = module.training_step

    def training_step(self: Any, batch: dict[str, Any], index: int) -> torch.Tensor:
        if self.trainer.global_step == step:
            raise KeyboardInterrupt
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(module, "training_step", training_step)
        with pytest.raises(KeyboardInterrupt):
            yield


def assert_same_weights(first: Run, second: Run) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
