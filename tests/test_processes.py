"""Concurrent commands, and commands that train in several processes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed.run

from datamodules.sampling import EpochSampler
from engine.processes import RUNS_VARIABLE, broadcast, broadcast_runs, require_one_group
from engine.stage import Run
from foundation.errors import ConfigError
from stages.command import check, plan
from tests.commands import ROOT, Forked, forked
from tests.conftest import TINY, settings_of

MTL = ("experiment=mtl_lapa_10pct", *TINY)
TOGETHER = (
    *("experiment=baseline_lapa_full", *TINY, "finetune.steps_per_epoch=null", "trainer.devices=2"),
    "datamodule.eval_batch_size=3",
)
"""A command of two processes; 5 test faces in batches of 3 are 3 and 2, which is 1 + 1 batches."""
LONE_SLURM_TASK = {
    "SLURM_NTASKS": "1",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS_PER_NODE": "1",
}
"""Environment of a SLURM job of one task, where Lightning would train in one process."""


def finish(*processes: Forked) -> list[str]:
    """Their output; all must have succeeded."""
    screens = [process.communicate(timeout=280)[0] for process in processes]
    for process, screen in zip(processes, screens, strict=True):
        assert process.returncode == 0, screen
    return screens


def torchrun(*words: str) -> tuple[int, str]:
    """The exit code and output of ``train.py`` in two processes that torchrun starts."""
    options = ("--nproc-per-node", "2", "--master-addr", "127.0.0.1")
    return forked(torch.distributed.run.__file__, *options, str(ROOT / "train.py"), *words, timeout=280)


def when(condition: Callable[[], object], process: Forked, act: Callable[[], None]) -> str:
    """Act on a process when a condition holds; returns its output up to the end of the last writing process."""

    def watch() -> None:
        while process.poll() is None and not condition():
            time.sleep(0.02)
        act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    screen, _ = process.communicate(timeout=280)
    watcher.join()
    return screen


@pytest.fixture(scope="module")
def odd(lapa: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic faces, 33 to train on and 5 to validate and test: no multiple of two processes or of a batch."""
    copy = tmp_path_factory.mktemp("odd") / "LaPa"
    faces = sorted((lapa / "train" / "images").iterdir())
    for split, count in (("train", 33), ("val", 5), ("test", 5)):
        for index in range(count):
            for folder, suffix in (("images", ".jpg"), ("labels", ".png")):
                source = lapa / "train" / folder / f"{faces[index % len(faces)].stem}{suffix}"
                target = copy / split / folder / f"face{index}{suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    return copy


@pytest.fixture(scope="module")
def together(odd: Path, shared: Path) -> Run:
    """A run of two processes that Lightning started, in a SLURM job of one task; done, read only."""
    words = (*TOGETHER, f"datamodule.root={odd}", f"output_dir={shared / 'together'}", "trainer.strategy=ddp")
    (screen,) = finish(Forked("train.py", *words, environment=LONE_SLURM_TASK, followers="real"))
    assert "mIoU" in screen
    (run,) = plan(check(settings_of(*words)))
    return run


def weights(output: Path) -> dict[str, torch.Tensor]:
    (best,) = output.glob("runs/*/checkpoints/best.ckpt")
    return torch.load(best, weights_only=True)["state_dict"]


def assert_same_weights(run: Run, output: Path) -> None:
    expected, found = weights(run.folder.output_dir), weights(output)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def steps(run: Run) -> list[int]:
    lines = run.folder.curves.read_text().splitlines()
    column = lines[0].split(",").index("step")
    return [int(line.split(",")[column]) for line in lines[1:]]


@pytest.mark.process
def test_the_same_command_twice_at_once_trains_once(lapa: Path, tmp_path: Path) -> None:
    words = [*MTL, f"datamodule.root={lapa}", f"output_dir={tmp_path}"]
    screens = finish(*(Forked("train.py", *words) for _ in range(2)))
    both = "".join(screens)
    assert both.count("Training pretrain-") == both.count("Training finetune-") == 1
    assert both.count("Done already: ") == 2
    assert all("mIoU" in screen for screen in screens), "both show the result"
    for run in plan(check(settings_of(*words))):
        assert run.folder.done
        assert run.folder.status["attempts"] == 1


@pytest.mark.process
def test_three_fine_tunings_at_once_share_one_pretraining(lapa: Path, tmp_path: Path) -> None:
    words = [*MTL, f"datamodule.root={lapa}", f"output_dir={tmp_path}"]
    screens = finish(*(Forked("train.py", *words, f"subset={subset}") for subset in range(3)))
    assert "".join(screens).count("Training pretrain-") == 1
    assert "".join(screens).count("Training finetune-") == 3
    states = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/status.json")]
    assert sorted(state["stage"] for state in states) == ["finetune", "finetune", "finetune", "pretrain"]
    assert all(state["state"] == "done" and state["attempts"] == 1 for state in states)


@pytest.mark.process
@pytest.mark.training
def test_two_processes_train_together_and_score_as_one(together: Run, odd: Path) -> None:
    """In two processes on the CPU, one run folder, every test face scored once; also in a SLURM job."""
    status = together.folder.status
    assert together.folder.done
    assert status["attempts"] == 1
    assert status["epoch"] == status["epochs"] == 2
    assert status["images_per_second"] > 0
    assert status["peak_memory_mb"] > 0
    assert not together.folder.last.exists()
    assert steps(together) == list(range(16)), "32 of 33 faces in batches of 4, twice"
    words = (*TOGETHER, f"datamodule.root={odd}", f"output_dir={together.folder.output_dir}", "trainer.strategy=ddp")
    assert "Done already: " in finish(Forked("train.py", *words))[0]

    module = together.stage.module(together)
    module.load_state_dict(torch.load(together.folder.best, weights_only=True)["state_dict"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (alone,) = trainer.test(module, together.stage.data(together), verbose=False)
    for name in ("test/loss", "test/miou", "test/mean_f1", "test/pixel_accuracy", "test/iou/hair"):
        assert status["metrics"][name] == pytest.approx(alone[name], abs=1e-6), name


@pytest.mark.process
@pytest.mark.parametrize("how", ["ddp_spawn", "torchrun"])
def test_every_way_of_starting_two_processes_gives_the_same_weights(
    how: str, together: Run, odd: Path, tmp_path: Path
) -> None:
    words = (*TOGETHER, f"datamodule.root={odd}", f"output_dir={tmp_path}")
    if how == "torchrun":
        code, screen = torchrun(*words, "trainer.strategy=ddp")
        assert code == 0, screen
    else:
        finish(Forked("train.py", *words, f"trainer.strategy={how}"))
    assert_same_weights(together, tmp_path)


@pytest.mark.process
def test_resume_in_two_processes(together: Run, odd: Path, tmp_path: Path) -> None:
    """A follower of a killed leader stops training and holds no lock."""
    words = (*TOGETHER, f"datamodule.root={odd}", f"output_dir={tmp_path}", "trainer.strategy=ddp")
    process = Forked("train.py", *words)

    def trained_an_epoch() -> bool:
        files = list(tmp_path.glob("runs/*/status.json"))
        return bool(files and json.loads(files[0].read_text()).get("epoch"))

    when(trained_an_epoch, process, process.kill)
    assert process.returncode == -9
    finish(Forked("train.py", *words))
    assert_same_weights(together, tmp_path)


@pytest.mark.process
@pytest.mark.parametrize("how", ["ddp", "torchrun"])
def test_an_error_of_a_follower_is_reported_once(how: str, odd: Path, tmp_path: Path) -> None:
    """Most faces are broken, but not the first of the leader, so that the follower fails first."""
    root = tmp_path / "LaPa"
    for path in odd.rglob("*.*"):
        target = root / path.relative_to(odd)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    words = [*TOGETHER, f"datamodule.root={root}", f"output_dir={tmp_path / 'outputs'}", "finetune.batch_size=2"]
    settings = check(settings_of(*words))
    leaders = next(iter(EpochSampler(33, seed=settings["finetune.seed"], rank=0, world=2)))[2]
    for index, path in enumerate(sorted((root / "train" / "images").iterdir())):
        if index != leaders:
            path.write_bytes(path.read_bytes()[:600])
    if how == "torchrun":
        code, screen = torchrun(*words, "trainer.strategy=ddp")
    else:
        process = Forked("train.py", *words, "trainer.strategy=ddp")
        screen, code = process.communicate(timeout=280)[0], process.returncode or 0
    assert code == 1
    (status,) = (json.loads(path.read_text()) for path in tmp_path.glob("outputs/runs/*/status.json"))
    assert status["state"] == "failed"
    assert "Cannot read the image" in status["error"]
    assert screen.count("Cannot read the image") == 1, screen


@pytest.mark.process
def test_termination_of_two_processes_leaves_none_behind(odd: Path, tmp_path: Path) -> None:
    """In the second stage, whose followers Lightning started for the first."""
    words = [*MTL, "trainer.devices=2", f"datamodule.root={odd}", f"output_dir={tmp_path}", "trainer.strategy=ddp"]
    process = Forked("train.py", *words, "pretrain.epochs=1", "finetune.epochs=50")
    screen = when(lambda: list(tmp_path.glob("runs/finetune-*/checkpoints/last.ckpt")), process, process.terminate)
    assert process.returncode == 130, screen
    assert screen.count("Interrupted") == 1, screen
    (status,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/finetune-*/status.json"))
    assert status["state"] == "interrupted"


@pytest.mark.process
def test_one_of_two_processes_continues_with_classify(lapa: Path, tmp_path: Path) -> None:
    """The other process has ended when the head is scored."""
    words = ["experiment=svm_lapa", *TINY, "label_fraction=0.1", "classify.head=conv", f"datamodule.root={lapa}"]
    words += ["trainer.devices=2", "trainer.strategy=ddp", "pretrain.epochs=1", f"output_dir={tmp_path}"]
    finish(Forked("train.py", *words))
    pretrain, conv = plan(check(settings_of(*words)))
    assert pretrain.folder.done
    assert conv.folder.done
    assert 0 < conv.folder.status["metrics"]["test/miou"] < 1


def test_fewer_faces_than_devices_are_refused(lapa: Path, tmp_path: Path) -> None:
    root = tmp_path / "LaPa"
    for path in [*lapa.glob("*/*/*")]:
        if path.parts[-3] != "val" or path.stem.endswith(sorted((lapa / "val" / "images").iterdir())[0].stem):
            target = root / path.relative_to(lapa)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (run,) = plan(check(settings_of(*TOGETHER, f"datamodule.root={root}", f"output_dir={tmp_path / 'outputs'}")))
    data = run.stage.data(run)
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"trainer.devices=2, but the val split holds 1 face"):
        data.val_dataloader()


def test_broadcast_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUNS_VARIABLE, raising=False)
    monkeypatch.setenv(RUNS_VARIABLE, "")
    broadcast(["pretrain-1", "finetune-2"])
    assert broadcast_runs() == ["pretrain-1", "finetune-2"]
    broadcast([])
    assert broadcast_runs() == []


@pytest.mark.parametrize(
    ("environment", "settings", "message"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "RANK": "0"}, {}, r"4 processes(.|\n)*trainer.devices=4"),
        (
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1"},
            {"trainer.strategy": "ddp_spawn"},
            "Under torchrun it must be ddp",
        ),
        ({"LOCAL_RANK": "1"}, {}, r"there is no leader(.|\n)*torchrun"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, {}, r"there is no leader(.|\n)*torchrun"),
    ],
)
def test_processes_without_a_common_group_are_refused(
    environment: dict[str, str], settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RUNS_VARIABLE, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        require_one_group({"trainer.devices": 2, "trainer.strategy": "ddp"} | settings)
