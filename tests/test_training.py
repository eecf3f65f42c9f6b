"""Complete runs of both stages: the files of a run folder, options, and runs that fail."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from engine.stage import Run
from foundation.errors import BrokenFileError, ConfigError, DataError, RunError
from lightning_modules.parsing import FaceParsing
from lightning_modules.pretraining import MaskedPretraining
from tests.conftest import PANELS, copied, run_training, wandb_records
from tests.training_runs import BRIEF, rows, weights

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Batch normalisation statistics, by suffix."""


def test_both_stages_leave_a_complete_run_folder(parser_runs: list[Run]) -> None:
    for run in parser_runs:
        status = run.folder.status
        assert run.folder.state == status["state"] == "done"
        assert status["error"] is None
        assert status["history"] == [{"attempt": 1, **{key: status[key] for key in ("git_sha", "versions", "device")}}]
        assert status["versions"]["torch"] == torch.__version__
        for key in ("experiment", "method", "ablation", "recipe", "scale", "seed", "git_sha", "wandb_ids", "subset"):
            assert key in status
        assert status["dataset"] == "lapa"
        assert status["origin"] == "drawn"
        assert status["data_digest"] == run.identity["data"]
        kept = (value for name, value in weights(run).items() if not name.endswith(STATISTICS))
        assert status["parameters"] == sum(value.numel() for value in kept)
        assert status["images_per_second"] > 0
        assert status["seconds"] > 0
        assert status["peak_memory_mb"] > 100
        assert OmegaConf.load(run.folder.config).experiment == "mtl_lapa_10pct"
        assert run.folder.best.is_file()
        assert not run.folder.last.exists(), "the optimiser's state goes when the run is done"
        assert [int(row["step"]) for row in rows(run)] == [0, 1, 2, 3]
        assert all(float(row["train/loss"]) > 0 for row in rows(run))
        assert sorted(path.name for path in run.folder.panels.glob("*.png")) == ["epoch_0001.png", "epoch_0002.png"]
    pretrain, finetune = parser_runs
    assert finetune.folder.status["upstream"] == [pretrain.id]
    assert pretrain.folder.status["label_fraction"] is None
    assert finetune.folder.status["labelled"] == 3
    assert pretrain.folder.status["metrics"].keys() == {"val/loss", "val/psnr"}
    metrics = finetune.folder.status["metrics"]
    assert {"test/miou", "test/mean_f1", "test/pixel_accuracy", "test/iou/hair", "val/miou"} <= metrics.keys()
    assert {"test/miou_small", "test/f1_small", "test/count/hair"} <= metrics.keys()
    counts = {name.rpartition("/")[2]: value for name, value in metrics.items() if name.startswith("test/count/")}
    assert sum(counts.values()) == 4 * 64 * 64, "all pixels of the four test faces at their own size"
    with finetune.folder.confusion.open(newline="") as file:
        assert {row[0]: sum(map(int, row[1:])) for row in list(csv.reader(file))[1:]} == counts
    assert (finetune.folder.panels / "test" / "confusion.png").is_file()
    assert 0 < metrics["test/miou"] < metrics["test/pixel_accuracy"] < 1
    assert rows(finetune)[1]["val/miou"] != ""
    assert rows(finetune)[0]["val/miou"] == ""
    assert len(list((finetune.folder.panels / "test").glob("*.prediction.png"))) == 4
    assert len(list((finetune.folder.panels / "activations").glob("*.png"))) == 8
    assert not list((pretrain.folder.panels / "activations").glob("*.classes.png")), "nothing to parse with yet"
    assert len(list((pretrain.folder.panels / "activations").glob("*.png"))) == 4
    assert len(list((pretrain.folder.panels / "val").glob("*.reconstruction.png"))) == 4


def test_best_checkpoint_is_plain_and_rebuilds_the_module(parser_runs: list[Run]) -> None:
    best = torch.load(parser_runs[0].folder.best, weights_only=True)
    module = MaskedPretraining(**best["hyper_parameters"])
    module.load_state_dict(best["state_dict"])
    assert json.loads(json.dumps(best["hyper_parameters"])) == best["hyper_parameters"]
    assert best["id"] == parser_runs[0].id


def test_best_checkpoint_is_the_best_by_validation(parser_runs: list[Run]) -> None:
    finetune = parser_runs[1]
    scores = [float(row["val/miou"]) for row in rows(finetune) if row["val/miou"]]
    assert len(scores) == 2
    assert finetune.folder.status["metrics"]["val/miou"] == pytest.approx(max(scores))
    assert torch.load(finetune.folder.best, weights_only=True)["epoch"] == 1 + scores.index(max(scores))


@pytest.mark.training
def test_data_that_change_during_a_run_fail_it(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    original: Any = FaceParsing.training_step

    def meddled(self: Any, batch: dict[str, Any], index: int) -> torch.Tensor:
        if self.trainer.global_step == 0:
            victim = sorted((copy / "train" / "images").iterdir())[0]
            victim.write_bytes(victim.read_bytes() + b"\0")
        return original(self, batch, index)

    monkeypatch.setattr(FaceParsing, "training_step", meddled)
    with pytest.raises(RunError, match="changed while finetune-"):
        run_training("baseline_lapa_10pct", copy, tmp_path / "out", *BRIEF)
    (status,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*/status.json")]
    assert status["state"] == "failed"
    assert not list((tmp_path / "out").rglob("*.ckpt")), "or the same data put back would find it finished"


@pytest.mark.training
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_fails_the_run_and_is_named(lapa: Path, tmp_path: Path, workers: int) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    victim = sorted((copy / "test" / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-100])  # its header, which is read first, is intact
    with pytest.raises(DataError, match=victim.name) as caught:
        run_training("baseline_lapa_10pct", copy, tmp_path / "out", f"datamodule.workers={workers}", *BRIEF)
    assert "Traceback" not in str(caught.value)
    (status,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*/status.json")]
    assert status["state"] == "failed"
    assert victim.name in status["error"]
    assert list((tmp_path / "out" / "runs").glob("*/checkpoints/last.ckpt")), "the training itself is kept"


def test_damaged_files_are_named(parser_runs: list[Run], lapa: Path, tmp_path: Path) -> None:
    pretrain, finetune = (run.folder for run in copied(parser_runs, tmp_path))
    (tmp_path / "cache" / "digests.sqlite").write_bytes(b"rubbish" * 100)
    run_training("mtl_lapa_10pct", lapa, tmp_path)  # a damaged cache is made again
    pretrain.best.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"best\.ckpt cannot be read"):
        run_training("mtl_lapa_10pct", lapa, tmp_path, "finetune.seed=5")
    (finetune.path / "status.json").write_text("[]")
    with pytest.raises(DataError, match=r"status\.json cannot be read"):
        run_training("mtl_lapa_10pct", lapa, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.encoder=resnet99",), "Did you mean resnet"),
        (("model.encoder=mit_b0",), "does not fit"),
        pytest.param(
            *(
                (
                    *PANELS,
                    "callbacks.activations.classes=[hiar]",
                ),
                "lapa has no class hiar.*\n.*Did you mean hair",
            ),
            marks=pytest.mark.training,  # raised when the training starts
        ),
        (("trainer.accelerator=mps",), "trainer: "),
        (("output_dir=/proc/nowhere",), "output_dir=/proc/nowhere"),
    ],
)
def test_unsupported_devices_and_models_are_reported(
    lapa: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_training("mtl_lapa_10pct", lapa, tmp_path, *words)


@pytest.mark.training
@pytest.mark.parametrize(
    "overrides",
    [
        (
            *("pretrain.loss=l1", "pretrain.masking=adaptive", "pretrain.patches=16"),
            *("pretrain.steps_per_epoch=null", "pretrain.batch_size=6", "pretrain.reduction=sum"),
            *("finetune.transfer=encoder", "finetune.loss=ce", "finetune.score_at=input", "finetune.trained=decoder"),
        ),
        (
            *("recipe=paper", "pretrain.masking=random", "pretrain.loss_over=image", "pretrain.fill=noise"),
            *("pretrain.contrastive=0.5", "finetune.trained=head"),
        ),
        (
            *("trainer.precision=bf16-mixed", "trainer.channels_last=true"),
            *("pretrain.loss_over=masked", "pretrain.fill=mean", "pretrain.contrastive=0.1"),
            *("finetune.trunk_lr=0.1", "finetune.optimizer.name=sgd"),
        ),
    ],
)
def test_every_option_trains(lapa: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    runs = run_training("mtl_lapa_10pct", lapa, tmp_path, "pretrain.epochs=1", "finetune.epochs=1", *overrides)
    assert all(run.folder.done for run in runs)
    if "pretrain.steps_per_epoch=null" in overrides:
        assert len(rows(runs[0])) == 6, "32 faces in batches of 6, the last one smaller"


@pytest.mark.training
@pytest.mark.process
def test_wandb_runs_are_written_offline_next_to_the_run(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = ("logger=wandb", *PANELS[:1], "finetune.epochs=1", "pretrain.epochs=1")
    runs = run_training("mtl_lapa_10pct", lapa, tmp_path, *words)
    for run in runs:
        assert run.folder.status["wandb_ids"] == [f"{run.folder.name}-1"]
        (folder,) = run.folder.path.glob("wandb/offline-run-*")
        records = wandb_records(folder)
        (header,) = [record["run"] for record in records if record["type"] == "run"]
        assert header["job_type"] == run.stage.name
        assert header["run_group"] == "mtl_lapa_10pct"
        assert {"mtl", "lapa", "scale:demo"} <= set(header["tags"])
        assert [record for record in records if record["type"] == "exit"], "the run is finished"
        logged = json.dumps(records)
        own = ["val/psnr"] if run is runs[0] else ["val/iou/hair", "test/classes"]
        for name in ("train/loss", "train/lr", "val/loss", "panels", *own):
            assert name in logged, name


@pytest.mark.training
def test_a_diverged_training_has_failed(lapa: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is nan after epoch 1: the training diverged\.\n.*finetune\.optimizer\.lr"):
        run_training("baseline_lapa_10pct", lapa, tmp_path, "finetune.optimizer.lr=1e30")
    (file,) = tmp_path.glob("runs/*/status.json")
    assert json.loads(file.read_text())["state"] == "failed"
    assert not list(tmp_path.glob("runs/*/checkpoints/best.ckpt"))


def test_a_broken_test_label_map_is_detected_before_training(lapa: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    victim = sorted((copy / "test" / "labels").iterdir())[-1]
    victim.write_bytes(b"")
    with pytest.raises(BrokenFileError, match=victim.name):
        run_training("baseline_lapa_10pct", copy, tmp_path / "outputs", *BRIEF)
    assert not list(tmp_path.glob("outputs/runs/*/checkpoints/last.ckpt"))
