"""Overhead of the project's Lightning loop over a bare PyTorch loop with the same training.

    python -m benchmarks.train_loop [--size 64] [--batch 8] [--steps 50] [--pairs 7] [--threads 1] [--logger none]

Both fine-tune scale=demo's network on synthetic faces, on the CPU, without loader workers: the same start, batches,
loss, optimiser and schedule, and so the same losses. Their steps alternate in one process, so that other load
affects both; compare the ratios, absolute values depend on the machine.

Timed is one epoch with as many steps as in scale=demo; not start-up, validation or test. The time of the Lightning
loop includes its callbacks, ``metrics.csv``, progress, and the checkpoints at the epoch's end; W&B only with --logger.
``typical step`` is the median step, without the epoch's end.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import parser
from engine.fitting import fit
from engine.settings import CONF
from engine.stage import Run
from lightning_modules.optimization import Optimization
from lightning_modules.parsing import FaceParsing
from models.parser import FaceParser
from stages.command import check, plan
from synthesis.synthetic_faces import write_synthetic_faces

AIM = 5
"""Target: maximum overhead of the Lightning loop in %."""


def bare(model: FaceParser, module: FaceParsing, loader: DataLoader[dict[str, Any]]) -> Iterator[Tensor]:
    """The bare loop over the model, with the loss and settings of the module; yields the loss of each step."""
    names = ("optimizer", "schedule", "steps")
    chosen = Optimization(*(module.hparams[name] for name in names))(model.parameters())
    optimizer, scheduler = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    model.train()
    for batch in loader:
        optimizer.zero_grad()
        loss = module.loss(model(batch["image"]), batch["label"])
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield loss.detach()


class Turns(Callback):
    """Callback: a bare step after each step of a run of one epoch; writes ``times.json`` to the run folder.

    A Lightning step lasts from the end of one bare step to the start of the next: its complete loop is included.
    """

    def __init__(self) -> None:
        self.lightning: list[float] = []
        self.bare: list[float] = []
        self.mark = self.validation_start = self.validation = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, FaceParsing)  # noqa: S101
        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        self.steps = bare(copy.deepcopy(pl_module.model), pl_module, loader)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.mark = time.perf_counter()

    def on_train_batch_end(self, _: pl.Trainer, __: pl.LightningModule, outputs: Any, *___: Any) -> None:
        start = time.perf_counter()
        loss = next(self.steps)
        end = time.perf_counter()
        self.lightning.append(start - self.mark)
        self.bare.append(end - start)
        if not torch.allclose(outputs["loss"], loss, rtol=1e-4):
            raise RuntimeError(f"The two loops trained differently: losses {outputs['loss']} and {loss}.")
        self.mark = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self.validation_start = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        self.validation += time.perf_counter() - self.validation_start

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        end = time.perf_counter() - self.mark - self.validation
        times = {"lightning": self.lightning, "bare": self.bare, "epoch_end": end}
        (Path(trainer.default_root_dir) / "times.json").write_text(json.dumps(times), encoding="utf-8")


def composed(*overrides: str) -> dict[str, Any]:
    """The training configuration of a command, with the bare loop among the callbacks."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)
    assert isinstance(config, dict)  # noqa: S101
    config["callbacks"]["turns"] = {"_target_": "benchmarks.train_loop.Turns"}
    return {str(name): value for name, value in config.items()}


def measured(run: Run, config: dict[str, Any]) -> list[float]:
    """Train the run as ``train.py`` does; returns a row of the table, in ms."""
    gc.collect()
    with contextlib.nullcontext() if sys.stdout.isatty() else contextlib.redirect_stdout(io.StringIO()):
        fit(run, config)
    times = json.loads((run.folder.path / "times.json").read_text(encoding="utf-8"))
    ours, theirs, end = 1000 * np.array(times["lightning"]), 1000 * np.array(times["bare"]), 1000 * times["epoch_end"]
    whole, step = (ours.sum() + end) / len(ours), np.median(ours)
    return [whole, theirs.mean(), whole / theirs.mean(), step, np.median(theirs), np.median(ours / theirs), end]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, default=64, help="side of the network's input, in pixels")
    arguments.add_argument("--batch", type=int, default=8, help="faces in a batch")
    arguments.add_argument("--steps", type=int, default=50, help="steps of a training, which is one epoch")
    arguments.add_argument("--pairs", type=int, default=7, help="trainings")
    arguments.add_argument("--threads", type=int, default=1, help="torch threads of both loops")
    arguments.add_argument(
        "--logger", default="none", choices=("none", "wandb"), help="wandb: offline, next to the CSV"
    )
    choice = arguments.parse_args()
    torch.set_num_threads(choice.threads)
    Path("outputs").mkdir(exist_ok=True)  # not a temporary folder: that may be in memory, with free writes
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir="outputs") as name:
        folder = Path(name)
        data = folder / "LaPa"
        with contextlib.redirect_stderr(io.StringIO()):  # its progress
            write_synthetic_faces(data, layout="lapa", count=80, size=2 * choice.size, seed=0, workers=1)

        def trained(name: str, steps: int) -> list[float]:
            config = composed(
                "experiment=baseline_lapa",
                "scale=demo",
                "trainer=cpu",
                f"logger={choice.logger}",
                f"output_dir={folder / name}",
                f"datamodule.root={data}",
                f"datamodule.image_size={choice.size}",
                "datamodule.workers=0",
                f"finetune.batch_size={choice.batch}",
                "finetune.epochs=1",
                f"finetune.steps_per_epoch={steps}",
            )
            return measured(plan(check(config))[0], config)

        trained("warm-up", 2)
        progress = "a bar" if sys.stdout.isatty() else "a line an epoch"
        print(
            f"{choice.size} px, batches of {choice.batch}, an epoch of {choice.steps} steps, "
            f"torch threads: {choice.threads}, logger={choice.logger}, progress: {progress}\n\n"
            f"            ms a step, whole            typical step\n"
            f"  pair  Lightning     bare  ratio   Lightning     bare  ratio   end of epoch"
        )
        rows: list[list[float]] = []
        for pair in range(choice.pairs):
            rows.append(trained(str(pair), choice.steps))
            print(_row(str(pair + 1), rows[-1]), flush=True)
    median = [float(value) for value in np.median(rows, axis=0)]
    print(
        f"{_row('median', median)}\n\n"
        f"overhead {100 * (median[2] - 1):+.1f} % in all, {100 * (median[5] - 1):+.1f} % of a typical step; "
        f"aim: at most {AIM} %"
    )


def _row(name: str, values: Sequence[float]) -> str:
    whole, step = (f"{values[at]:9.2f}{values[at + 1]:9.2f}{values[at + 2]:7.3f}" for at in (0, 3))
    return f"{name:>6}  {whole}   {step}   {values[6]:9.0f} ms"


if __name__ == "__main__":
    main()
