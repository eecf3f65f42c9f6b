"""A sweep prints a line for each job that ends, with the time left for all of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from engine.settings import CONF
from engine.sweep_progress import PLAN, clock, line, share_terminal, write_plan
from foundation.shown_text import PARALLEL_JOBS
from tests.run_folders import write_run


def config_of(folder: Path, *words: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[*words, f"output_dir={folder}"], return_hydra_config=True)
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.hydra.sweep.dir = str(folder)
    return config


def outcome(ablation: str, seconds: float, **more: Any) -> dict[str, Any]:
    overrides = ["experiment=mtl_lapa", "subset=0", f"ablation={ablation}"]
    return {"overrides": overrides, "seconds": seconds, "state": "done", "runs": [], **more}


@pytest.mark.slow
def test_lines_of_jobs(tmp_path: Path) -> None:
    config = config_of(tmp_path, "experiment=mtl_lapa", "sweep=demo", "launcher=joblib")
    write_plan(config)
    assert json.loads((tmp_path / PLAN).read_text()) == {"jobs": 9, "keys": ["subset", "ablation"], "parallel": 2}
    write_run(tmp_path, "finetune", "base1", miou=0.569)
    runs = [{"name": "finetune-base1", "ran": True}]
    first = line(config, outcome("random_semi", 40, runs=runs), [40])
    assert first == "[1/9] subset=0 ablation=random_semi: mIoU 56.9 %, 0:40"
    # The other job that runs is half done: 6.5 jobs of 50 s, two at a time.
    second = line(config, outcome("random_semi", 60, runs=runs), [40, 60])
    assert second.endswith("mIoU 56.9 %, 1:00; about 2:42 left")
    last = line(config, outcome("random_semi", 60, runs=runs), [50] * 9)
    assert last == "[9/9] subset=0 ablation=random_semi: mIoU 56.9 %, 1:00"
    failed = line(config, outcome("random_semi", 2, state="failed", error="DataError: none\nat all"), [40, 60, 2])
    assert failed.startswith("[3/9] subset=0 ablation=random_semi: failed (DataError: none), 0:02; about ")
    again = line(config, outcome("random_semi", 0, runs=[{"name": "finetune-base1", "ran": False}]), [0])
    assert "mIoU 56.9 % (there already)" in again


def test_a_sweep_of_unknown_size_shows_no_time_left(tmp_path: Path) -> None:
    config = config_of(tmp_path, "experiment=mtl_lapa", "launcher=submitit_local")
    done = outcome("A", 40, runs=[{"name": "finetune-none", "ran": True}])
    assert line(config, done, [40]) == "[1/?] job: done, 0:40"
    write_plan(config)
    assert line(config, done, [40]) == "[1/1] job: done, 0:40"


@pytest.mark.parametrize(("launcher", "shared"), [("joblib", True), ("basic", False)])
def test_jobs_that_share_a_terminal_show_no_bars(
    launcher: str, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PARALLEL_JOBS, raising=False)
    share_terminal(config_of(tmp_path, "experiment=mtl_lapa", f"launcher={launcher}"))
    assert (PARALLEL_JOBS in os.environ) == shared
    monkeypatch.delenv(PARALLEL_JOBS, raising=False)


def test_clock() -> None:
    assert [clock(seconds) for seconds in (4.6, 60, 185)] == ["0:05", "1:00", "3:05"]
