"""Every ablation trains, and sweeps consist of the right jobs."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from engine.settings import CONF, group_options
from engine.wandb_runs import described, log_classes
from foundation.recorded_runs import read_runs
from reports.wandb_sync import write_wandb_runs
from stages.command import check, plan
from tests.commands import Forked, within
from tests.conftest import TINY, run_training, settings_of, wandb_records

SHORT = (*TINY, "pretrain.epochs=1", "finetune.epochs=1")
WAITED = "finetune.epochs=3"
"""One epoch more than the frozen epochs of ablation=frozen_start."""
PUBLISHED = ("encoder_imagenet", "encoder_imagenet_lite0", "imagenet_supervised", "imagenet_semi")
"""Ablations that need a download, or a package."""
STARTED = [name for name in group_options("ablation") if "synthetic" in name]
"""Ablations that start from the parser of ``pretrained/``, whose network is not the tests'."""
COMPONENTS = [name for name in group_options("ablation") if name not in (*PUBLISHED, *STARTED)]


def jobs(sweep: str) -> list[list[str]]:
    """The overrides of each job of a preset."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"sweep={sweep}"], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN", "also without -m"
    params = OmegaConf.to_container(config.hydra.sweeper.params)
    assert isinstance(params, dict)
    return [
        [f"{name}={value}" for name, value in zip(params, values, strict=True)]
        for values in itertools.product(*(str(choices).split(",") for choices in params.values()))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweep", "pretrainings", "finetunings"),
    [
        ("label_fractions", 1, 2 * (2 * 3 + 1)),  # 0.5 and 1 % of 32 faces are one face, all faces are one subset
        ("ablations", 2, 5 * 3),
        ("components", 6, 11 * 3),  # of twelve: where TINY starts from random weights, encoder_random is the reference
    ],
)
def test_a_sweep_shares_what_its_jobs_have_in_common(
    sweep: str, pretrainings: int, finetunings: int, celebamask: Path, tmp_path: Path
) -> None:
    common = ("experiment=mtl_celebamask", *SHORT, f"datamodule.root={celebamask}", f"output_dir={tmp_path}", WAITED)
    planned = [plan(check(settings_of(*common, f"sweep={sweep}", *job))) for job in jobs(sweep)]
    for stage, count in (("pretrain", pretrainings), ("finetune", finetunings)):
        assert len({run.id for runs in planned for run in runs if run.stage.name == stage}) == count


@pytest.mark.parametrize("name", group_options("sweep"))
def test_runs_of_a_sweep_are_a_group_of_their_own(name: str) -> None:
    settings = settings_of("experiment=mtl_celebamask", f"sweep={name}")
    about = dict.fromkeys(("stage", "method", "dataset", "scale"), "") | {"experiment": "mtl_celebamask"}
    assert described(about | {"sweep": settings["sweep_name"]}, None, ())["group"] == f"{name} mtl_celebamask"
    assert described(about | {"sweep": None}, None, ())["group"] == "mtl_celebamask"


def test_the_table_of_classes_has_a_row_for_each_class_and_group() -> None:
    names = (
        "test/miou",
        "test/iou/type/n95",
        "test/dice/type/n95",
        "test/iou/hair",
        "test/cleaned/miou",
        "val/iou/hair",
    )
    run = SimpleNamespace(summary={})
    log_classes(run, {name: float(place) for place, name in enumerate(names)})
    table = run.summary["test/classes"]
    assert table.columns == ["class", "dice", "iou"]
    assert table.data == [["type/n95", 2.0, 1.0], ["hair", None, 3.0]]


@pytest.mark.training
@pytest.mark.parametrize("ablation", COMPONENTS)
def test_every_ablation_trains(ablation: str, celebamask: Path, shared: Path) -> None:
    words = (f"ablation={ablation}", *SHORT, *[WAITED] * (ablation == "frozen_start"))
    *_, finetune = run_training("mtl_celebamask_10pct", celebamask, shared / "ablations", *words)
    assert finetune.folder.done
    assert finetune.folder.status["ablation"] is not None
    assert 0 < finetune.folder.status["metrics"]["test/miou"] < 1


@pytest.mark.slow
def test_ablations_of_starts_have_the_same_steps(lapa: Path, tmp_path: Path) -> None:
    """600 from the parser of ``pretrained/``, 900 from random weights; the start's weights are part of the identity."""
    for ablation in ("random_supervised", "random_semi", "masked_supervised", "masked_semi", *STARTED):
        words = ("experiment=semi_lapa_10pct", "scale=small", f"ablation={ablation}", "logger=none")
        *before, run = plan(check(settings_of(*words, f"datamodule.root={lapa}", f"output_dir={tmp_path}")))
        started = ablation in STARTED
        assert run.own.epochs * run.own.steps_per_epoch == (600 if started else 900), ablation
        assert (run.own.optimizer.lr, run.own.select, run.own.ema_decay) == (1e-3 if started else 2e-3, "last", 0.99)
        assert run.stage.name == ("semi" if "semi" in ablation else "finetune")
        first = (before or [run])[0]
        assert len(first.upstreams) == started, ablation


@pytest.mark.slow
def test_a_sweep_needs_no_m(lapa: Path, tmp_path: Path) -> None:
    words = ("experiment=mtl_lapa", "sweep=quick", "dry_run=true", "scale=demo", f"datamodule.root={lapa}")
    own = ("hydra.sweeper.params.subset='2'", f"output_dir={tmp_path}")
    finished = within("train.py", *words, *own, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert [finished.stdout.count(f"method={name} ") for name in ("mtl", "baseline")] == [2, 2]


def sweep(lapa: Path, output: Path, *words: str) -> tuple[int, str, dict[str, dict]]:
    """A sweep's exit code, its output, and the content of each job.json by the job's overrides."""
    common = ("experiment=mtl_lapa", *SHORT, f"datamodule.root={lapa}", f"output_dir={output}")
    process = Forked("train.py", *common, "-m", *words, cwd=output, environment={"COLUMNS": "300"})
    shown, _ = process.communicate(timeout=280)
    assert process.returncode is not None
    newest = max((output / "sweeps").iterdir())
    jobs = [json.loads(file.read_text()) for file in newest.glob("*/job.json")]
    plain = [[word.replace("'", "").replace("=False", "=false") for word in job["overrides"]] for job in jobs]
    overrides = [{*words} for words in plain]  # Hydra quotes paths, and writes values as Python does
    names = [" ".join(sorted(words - set(common))) for words in overrides]
    return process.returncode, shown, dict(zip(names, jobs, strict=True))


@pytest.mark.process
def test_a_failed_job_does_not_stop_the_others_and_is_run_again(lapa: Path, tmp_path: Path) -> None:
    words = ("finetune.steps_per_epoch=1", "label_fraction=0.1", "method=baseline")
    code, shown, jobs = sweep(lapa, tmp_path, *words, "subset=0,7,1")
    assert code == 1
    assert [jobs[f"{' '.join(words)} subset={subset}"]["state"] for subset in (0, 7, 1)] == ["done", "failed", "done"]
    assert "2 done, 1 failed" in shown
    assert "subset=7 is invalid" in jobs[f"{' '.join(words)} subset=7"]["error"]
    code, shown, jobs = sweep(lapa, tmp_path, *words, "subset=0,2,1")
    assert code == 0
    assert "2 skipped, 1 done" in shown
    trained = {name: [run["ran"] for run in job["runs"]] for name, job in jobs.items()}
    assert trained == {f"{' '.join(words)} subset={subset}": [subset == 2] for subset in (0, 1, 2)}
    assert sweep(lapa, tmp_path, *words, "subset=7,8")[0] == 2, "nothing but wrong settings"


@pytest.mark.process
def test_parallel_jobs_share_one_pretraining(lapa: Path, tmp_path: Path) -> None:
    """With joblib; test_clusters.py does so with SLURM."""
    code, shown, jobs = sweep(lapa, tmp_path, "launcher=joblib", "label_fraction=0.1", "subset=0,1")
    assert code == 0, shown
    assert len(jobs) == 2
    assert "2 done" in shown
    (pretrain,) = (tmp_path / "runs").glob("pretrain-*")
    assert json.loads((pretrain / "status.json").read_text())["attempts"] == 1
    assert sum(run["ran"] for job in jobs.values() for run in job["runs"]) == 3, "two fine-tunings and one pre-training"


if shutil.which("slurmctld") is None:  # where it is, test_clusters.py has submitit start jobs

    @pytest.mark.process
    def test_a_job_can_be_a_process_of_submitit(lapa: Path, tmp_path: Path) -> None:
        words = ("launcher=submitit_local", "label_fraction=0.1", "method=baseline", "subset=1")
        code, shown, jobs = sweep(lapa, tmp_path, *words)
        assert code == 0, shown
        (job,) = jobs.values()
        assert [run["ran"] for run in job["runs"]] == [True]
        assert list(tmp_path.glob("sweeps/*/.submitit/*/*log.out")), "its output is kept"


@pytest.mark.process
def test_a_killed_sweep_resumes(lapa: Path, tmp_path: Path) -> None:
    common = ("experiment=mtl_lapa", *SHORT, f"datamodule.root={lapa}", f"output_dir={tmp_path}", "label_fraction=0.1")
    words = (*common, "subset=0,1", "finetune.epochs=6", "finetune.steps_per_epoch=4")
    process = Forked("train.py", "-m", *words, cwd=tmp_path)

    def under_way() -> list[Path]:
        return [
            file.parent for file in tmp_path.glob("runs/finetune-*/metrics.csv") if file.read_text().count("\n") > 8
        ]

    deadline = time.monotonic() + 120
    while len(under_way()) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    code, shown, _ = sweep(lapa, tmp_path, *words[-3:], "label_fraction=0.1")
    assert code == 0, shown
    runs = list(tmp_path.glob("runs/finetune-*"))
    assert len(runs) == 2
    for run in runs:
        with (run / "metrics.csv").open() as file:
            steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
        assert steps == list(range(24)), "every step once"
        assert json.loads((run / "status.json").read_text())["state"] == "done"
    folders = write_wandb_runs(read_runs(tmp_path), tmp_path, Console(file=io.StringIO()))
    assert {folder.name for folder in folders} == {run.name for run in (tmp_path / "runs").iterdir()}
    (kept,) = (tmp_path / "wandb" / runs[0].name).glob("wandb/offline-run-*")
    records = wandb_records(kept)
    (header,) = [record["run"] for record in records if record["type"] == "run"]
    assert (header["run_group"], header["job_type"]) == ("mtl_lapa", "finetune")
    assert len([record for record in records if record["type"] == "history"]) == 24, "no gap, no double"
