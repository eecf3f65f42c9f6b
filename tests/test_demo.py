"""``make demo``: its command, and the networks that it compares."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from engine.settings import CONF
from stages.command import check, plan
from tests.conftest import ROOT, settings_of


def training_command() -> list[str]:
    """The words of the demo's training in the Makefile."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndemo:")[2].partition("\n\n")[0]
    joined = recipe.replace("\\\n", " ")
    (line,) = [line for line in joined.splitlines() if line.startswith("\t$(PYTHON) train.py")]
    return shlex.split(line.replace("$(PYTHON) train.py", "").replace("$(SYNTHETIC)", "data/synthetic/LaPa"))


@pytest.mark.slow
def test_the_demo_compares_like_with_like(lapa: Path, tmp_path: Path) -> None:
    words = training_command()
    assert "sweep=demo" in words
    params = OmegaConf.load(CONF / "sweep" / "demo.yaml").hydra.sweeper.params
    values = [[f"{name}={value}" for value in str(choices).split(",")] for name, choices in params.items()]
    small = ("model.encoder=tu-test_efficientnet", f"datamodule.root={lapa}", f"output_dir={tmp_path}")
    jobs = [plan(check(settings_of(*words, *small, *job))) for job in itertools.product(*values)]
    runs = {run.id: run for job in jobs for run in job}
    stages = [run.stage.name for run in runs.values()]
    assert {name: stages.count(name) for name in stages} == {"pretrain": 1, "finetune": 6, "semi": 3}
    last = [job[-1] for job in jobs]
    assert len({(run.own.epochs, run.own.steps_per_epoch, run.own.batch_size, run.own.ema_decay) for run in last}) == 1
    assert len({(run.own.optimizer.lr, run.own.select) for run in last}) == 1
    labelled = [run.manifest.ids for run in last if run.manifest]
    assert [len({*labelled[start : start + 3]}) for start in (0, 3, 6)] == [1, 1, 1], "paired"
    assert len({*labelled}) > 1, "other labels in each subset"


def test_the_demo_names_what_to_do_next() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndemo:")[2].partition("\n\n")[0]
    named = re.findall(r"(\w+\.py) ", recipe)
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert {"predict.py", "train.py"} <= {*named}
    assert "docs/your_own_faces.md" in recipe
