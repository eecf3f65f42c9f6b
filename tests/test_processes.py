"""Several processes: commands that meet, and commands that train in several processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from conf.schema import check
from datamodules.sampling import EpochSampler
from engine.building import build_datamodule, build_module
from engine.errors import ConfigError
from engine.processes import TOLD, require_one_group, tell, told
from engine.stages import Run, plan
from engine.training import train
from tests.conftest import TINY, settings_of, start_training

MTL = ("experiment=mtl_lapa_10pct", *TINY)
TOGETHER = ("trainer.devices=2", "datamodule.eval_batch_size=3")  # 5 test faces: 3 and 2, which is 1 + 1 batches
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]


def start(launcher: list[str], *words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    alone = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    return start_training(*words, launcher=launcher, environment=alone | (environment or {}))


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    """Their screens; all must have gone well."""
    screens = [process.communicate(timeout=400)[0] for process in processes]
    for process, screen in zip(processes, screens, strict=True):
        assert process.returncode == 0, screen
    return screens


@pytest.fixture
def odd(lapa: Path, tmp_path: Path) -> Path:
    """The drawn faces with 33 to train on and 5 to validate and test: no multiple of two processes or of a batch."""
    copy = tmp_path / "LaPa"
    for split, count in (("train", 33), ("val", 5), ("test", 5)):
        faces = sorted((lapa / "train" / "images").iterdir())
        for index in range(count):
            for folder, suffix in (("images", ".jpg"), ("labels", ".png")):
                source = lapa / "train" / folder / f"{faces[index % len(faces)].stem}{suffix}"
                target = copy / split / folder / f"face{index}{suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    return copy


@pytest.mark.slow
def test_the_same_command_twice_at_once_trains_once(lapa: Path, tmp_path: Path) -> None:
    words = [*MTL, f"datamodule.root={lapa}", f"output_dir={tmp_path}"]
    screens = finish(*(start([sys.executable], *words) for _ in range(2)))
    together = "".join(screens)
    assert together.count("Training pretrain-") == together.count("Training finetune-") == 1
    assert together.count("Done already: ") == 2
    assert all("mIoU" in screen for screen in screens), "both show the result"
    for run in plan(check(settings_of(*words))):
        assert run.folder.done
        assert run.folder.status["attempts"] == 1


@pytest.mark.slow
def test_three_fine_tunings_at_once_share_one_pretraining(lapa: Path, tmp_path: Path) -> None:
    words = [*MTL, f"datamodule.root={lapa}", f"output_dir={tmp_path}"]
    screens = finish(*(start([sys.executable], *words, f"subset={subset}") for subset in range(3)))
    assert "".join(screens).count("Training pretrain-") == 1
    assert "".join(screens).count("Training finetune-") == 3
    states = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/status.json")]
    assert sorted(state["stage"] for state in states) == ["finetune", "finetune", "finetune", "pretrain"]
    assert all(state["state"] == "done" and state["attempts"] == 1 for state in states)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "ddp_spawn", "torchrun"])
def test_two_processes_train_together_and_score_as_one(how: str, odd: Path, tmp_path: Path) -> None:
    """Both stages in two processes on the CPU, one run folder, every test face scored once."""
    words = [*MTL, *TOGETHER, "label_fraction=1", f"datamodule.root={odd}", f"output_dir={tmp_path / 'outputs'}"]
    words += ["finetune.steps_per_epoch=null", f"trainer.strategy={how if how != 'torchrun' else 'ddp'}"]
    (screen,) = finish(start(TORCHRUN if how == "torchrun" else [sys.executable], *words))
    assert "mIoU" in screen
    runs = plan(check(settings_of(*words)))
    for run in runs:
        status = run.folder.status
        assert run.folder.done
        assert status["attempts"] == 1
        assert status["epoch"] == status["epochs"] == 2
        assert status["images_per_second"] > 0
        assert status["peak_memory_mb"] > 0
        assert not run.folder.last.exists()
    assert steps(runs[0]) == list(range(4))
    assert steps(runs[1]) == list(range(16)), "32 of 33 faces in batches of 4, twice"
    again = start([sys.executable], *words)
    assert "Done already: " in finish(again)[0]

    (alone,) = scores_of_one_process(runs[1])
    for name in ("test/loss", "test/miou", "test/mean_f1", "test/pixel_accuracy", "test/iou/hair"):
        assert runs[1].folder.status["metrics"][name] == pytest.approx(alone[name], abs=1e-6), name


def steps(run: Run) -> list[int]:
    lines = run.folder.curves.read_text().splitlines()
    column = lines[0].split(",").index("step")
    return [int(line.split(",")[column]) for line in lines[1:]]


def scores_of_one_process(run: Run) -> list[Any]:
    module = build_module(run)
    module.load_state_dict(torch.load(run.folder.best, weights_only=True)["state_dict"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    return list(trainer.test(module, build_datamodule(run), verbose=False))


@pytest.mark.slow
def test_interrupted_in_two_processes_the_same_command_goes_on(odd: Path, tmp_path: Path) -> None:
    """A follower of a killed leader does not train on alone, and holds no lock; nor do others decide who trains with
    whom: the run that nothing interrupts is that of a SLURM job of one task, where Lightning would train alone."""
    words = [*MTL, *TOGETHER, f"datamodule.root={odd}", "trainer.strategy=ddp", "experiment=baseline_lapa_10pct"]
    slurm = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    slurm |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1"}
    of_slurm = [*words, f"output_dir={tmp_path / 'whole'}"]
    finish(start([sys.executable], *of_slurm, environment=slurm))
    (run,) = plan(check(settings_of(*of_slurm)))
    assert len(steps(run)) == 4, "batches of two processes, twice"
    output = tmp_path / "outputs"
    process = start([sys.executable], *words, f"output_dir={output}")

    def kill() -> None:
        while process.poll() is None:
            files = list(output.glob("runs/*/status.json"))
            if files and json.loads(files[0].read_text()).get("epoch"):
                process.kill()
            time.sleep(0.05)

    watcher = threading.Thread(target=kill)
    watcher.start()
    process.communicate(timeout=300)  # ends when the follower, which holds the pipe too, has ended
    watcher.join()
    assert process.returncode == -9
    finish(start([sys.executable], *words, f"output_dir={output}"))
    (whole,), (resumed,) = (list(path.glob("runs/*/checkpoints/best.ckpt")) for path in (tmp_path / "whole", output))
    expected, weights = (torch.load(path, weights_only=True)["state_dict"] for path in (whole, resumed))
    assert all(torch.equal(expected[name], weights[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "torchrun"])
def test_what_a_follower_met_is_said_once(how: str, odd: Path, tmp_path: Path) -> None:
    """Most faces are broken but the first that the leader meets, so that it is the follower who fails first."""
    words = [*MTL, *TOGETHER, f"datamodule.root={odd}", f"output_dir={tmp_path}", "experiment=baseline_lapa_full"]
    words += ["finetune.steps_per_epoch=null", "finetune.batch_size=2", "trainer.strategy=ddp"]
    settings = check(settings_of(*words))
    leaders = next(iter(EpochSampler(33, seed=settings["finetune.seed"], rank=0, world=2)))[2]
    for index, path in enumerate(sorted((odd / "train" / "images").iterdir())):
        if index != leaders:
            path.write_bytes(path.read_bytes()[:600])
    process = start(TORCHRUN if how == "torchrun" else [sys.executable], *words)
    screen, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    (status,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/status.json"))
    assert status["state"] == "failed"
    assert "Cannot read the picture" in status["error"]
    assert screen.count("Cannot read the picture") == 1, screen


@pytest.mark.slow
def test_terminated_in_two_processes_says_so_and_leaves_none_behind(odd: Path, tmp_path: Path) -> None:
    words = [*MTL, *TOGETHER, f"datamodule.root={odd}", f"output_dir={tmp_path}", "trainer.strategy=ddp"]
    process = start([sys.executable], *words, "pretrain.epochs=1", "finetune.epochs=50")

    def terminate() -> None:
        """In the second stage, whose followers Lightning started for the first."""
        while process.poll() is None and not list(tmp_path.glob("runs/finetune-*/checkpoints/last.ckpt")):
            time.sleep(0.05)
        process.terminate()

    watcher = threading.Thread(target=terminate)
    watcher.start()
    screen, _ = process.communicate(timeout=300)  # until the last process that writes here has ended
    watcher.join()
    assert process.returncode == 130, screen
    assert screen.count("Interrupted") == 1, screen
    (status,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/finetune-*/status.json"))
    assert status["state"] == "interrupted"


@pytest.mark.slow
def test_of_two_processes_that_trained_one_goes_on_to_classify(lapa: Path, tmp_path: Path) -> None:
    """The other one has ended when the head is scored."""
    words = ["experiment=svm_lapa", *TINY, "label_fraction=0.1", "classify.head=conv", f"datamodule.root={lapa}"]
    words += ["trainer.devices=2", "trainer.strategy=ddp", "pretrain.epochs=1", f"output_dir={tmp_path}"]
    finish(start([sys.executable], *words, "callbacks.panels=null", "callbacks.activations=null"))
    pretrain, conv = plan(check(settings_of(*words)))
    assert pretrain.folder.done
    assert conv.folder.done
    assert 0 < conv.folder.status["metrics"]["test/miou"] < 1


@pytest.mark.slow
def test_fewer_faces_than_devices_is_said(odd: Path, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        for path in sorted((odd / "val" / folder).iterdir())[1:]:
            path.unlink()
    words = [*MTL, f"datamodule.root={odd}", f"output_dir={tmp_path / 'outputs'}", "trainer.strategy=ddp_spawn"]
    with pytest.raises(ConfigError, match=r"trainer.devices=2, but the val split holds 1 face"):
        train(OmegaConf.create(settings_of(*words, "trainer.devices=2")))


def test_followers_hear_what_the_leader_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOLD, raising=False)
    monkeypatch.setenv(TOLD, "")
    tell(["pretrain-1", "finetune-2"])
    assert told() == ["pretrain-1", "finetune-2"]
    tell([])
    assert told() == []


@pytest.mark.parametrize(
    ("environment", "settings", "message"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "RANK": "0"}, {}, r"4 processes(.|\n)*trainer.devices=4"),
        (
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1"},
            {"trainer.strategy": "ddp_spawn"},
            "under torchrun: ddp",
        ),
        ({"LOCAL_RANK": "1"}, {}, r"none of them leads(.|\n)*torchrun"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, {}, r"none of them leads(.|\n)*torchrun"),
    ],
)
def test_processes_that_would_train_against_one_another(
    environment: dict[str, str], settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOLD, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        require_one_group({"trainer.devices": 2, "trainer.strategy": "ddp"} | settings)
