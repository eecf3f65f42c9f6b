"""How long the runs of a command will take on this machine, before they are trained."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.stage import Run
from foundation.shown_text import duration

STEPS = 3
"""Steps that are timed, after one that is not."""


@dataclass(frozen=True)
class Forecast:
    """What remains to be trained.

    Args:
        runs: number of runs that are not done.
        steps: steps of the longest of them.
        seconds: time of all of them.
        per_step: seconds of a step.
    """

    runs: int
    steps: int
    seconds: float
    per_step: float

    def __str__(self) -> str:
        several = f"{self.runs} trainings" if self.runs > 1 else "1 training"
        return f"about {duration(self.seconds)}: {several} of {self.steps} steps of {self.per_step:.2f} s"


def forecast(runs: Sequence[Run], force: bool = False) -> Forecast | None:
    """The time that runs of one stage will take; None if all are done, or wait for a run that they start from.

    A run of several epochs that has begun gives its own time; otherwise some steps are measured now. The runs are not
    changed by this.

    Args:
        runs: the runs.
        force: all of them will be trained, from their start.
    """
    pending = [run for run in runs if force or not run.folder.done]
    if not pending or any(not start.done for run in pending for start in run.upstreams):
        return None
    epochs, steps = pending[0].own.epochs, pending[0].stage.steps(pending[0])
    if steps is None:
        return None
    begun = [status for run in runs if (status := run.folder.status).get("epoch") and status.get("seconds")]
    epoch = begun[-1]["seconds"] / begun[-1]["epoch"] if begun else None
    per_step = seconds_per_step(pending[0]) if epoch is None else epoch * epochs / steps
    left = [steps * (1 - (0 if force else run.folder.status.get("epoch", 0)) / epochs) for run in pending]
    return Forecast(len(pending), steps, per_step * sum(left), per_step)


def seconds_per_step(run: Run) -> float:
    """The median time of :data:`STEPS` training steps of a run, with its network and its batches; nothing is kept."""
    import pytorch_lightning as pl
    import torch

    from callbacks.quiet import Quiet, silence
    from engine.trainers import measuring_trainer
    from models.single_values import allow_single_values

    class Clock(pl.Callback):
        """Notes the time of each step, and ends the training."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
            self.times.append(time.perf_counter())
            trainer.should_stop = len(self.times) > STEPS

    silence()
    said = io.StringIO()  # of a start, which the run itself will print
    pl.seed_everything(run.own.seed, workers=True, verbose=False)
    with contextlib.redirect_stdout(said):
        module = run.stage.timed_module(run)
    allow_single_values(module)
    if run.settings.trainer.channels_last:
        module = module.to(memory_format=torch.channels_last)
    clock = Clock()
    measuring_trainer(run, [Quiet(), clock]).fit(module, run.stage.data(run))
    return statistics.median(after - before for before, after in zip(clock.times, clock.times[1:], strict=False))
