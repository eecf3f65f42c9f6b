"""Whole runs: both stages, skipping, resuming, failing, and what they leave on disk."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from filelock import Timeout
from omegaconf import OmegaConf

from engine.settings import flatten
from engine.stage import Run
from foundation.errors import BrokenFileError, ConfigError, DataError, RunError
from lightning_modules.metrics import SegmentationScores
from lightning_modules.parsing import FaceParsing, score_batch
from lightning_modules.pretraining import MaskedPretraining
from stages.command import check, plan
from tests.conftest import TINY, copied, run_training, settings_of, wandb_records

BARE = ("callbacks.panels=null", "callbacks.activations=null")
"""Without images, where none are looked at; they change no number and no id."""
BRIEF = (*BARE, "finetune.epochs=1", "finetune.steps_per_epoch=1")
"""A fine-tuning of one step, where nothing but its start or its end is looked at."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Of a normalisation: what a network keeps and does not learn."""


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
    """A command within is interrupted as by Ctrl-C when a module comes to a step."""
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


def test_both_stages_leave_a_whole_run_folder(parser_runs: list[Run]) -> None:
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


def test_best_is_plain_and_holds_what_it_takes_to_rebuild(parser_runs: list[Run]) -> None:
    best = torch.load(parser_runs[0].folder.best, weights_only=True)
    module = MaskedPretraining(**best["hyper_parameters"])
    module.load_state_dict(best["state_dict"])
    assert json.loads(json.dumps(best["hyper_parameters"])) == best["hyper_parameters"]
    assert best["id"] == parser_runs[0].id


def test_best_is_the_best_by_validation(parser_runs: list[Run]) -> None:
    finetune = parser_runs[1]
    scores = [float(row["val/miou"]) for row in rows(finetune) if row["val/miou"]]
    assert len(scores) == 2
    assert finetune.folder.status["metrics"]["val/miou"] == pytest.approx(max(scores))
    assert torch.load(finetune.folder.best, weights_only=True)["epoch"] == 1 + scores.index(max(scores))


def transferred(root: Path, output: Path, start: Path | str, /, **changes: object) -> list[Run]:
    """The runs of a command that starts from another run."""
    return planned(
        root, output, "baseline_lapa_10pct", **{"method": "transfer", "finetune.start_from": str(start)} | changes
    )


def test_a_run_can_start_from_another(parser_runs: list[Run], lapa: Path, tmp_path: Path) -> None:
    pretrain, finetune = parser_runs
    parts = {
        part: transferred(lapa, tmp_path, finetune.folder.path, **{"finetune.transfer": part})
        for part in ("trunk", "all")
    }
    other = transferred(lapa, tmp_path, pretrain.folder.path)
    assert len({run.id for (run,) in (*parts.values(), other)}) == 3
    trained = weights(finetune)
    for part, (run,) in parts.items():
        assert run.identity["upstreams"] == [finetune.id]
        for name, value in run.stage.module(run).state_dict().items():
            if name.startswith("model.trunk.") or (part == "all" and name.startswith("model.head.")):
                assert torch.equal(value, trained[name]), name
            elif name.startswith("model.head.weight"):
                assert not torch.equal(value, trained[name]), name
    copied(parser_runs, tmp_path)
    (by_name,) = transferred(lapa, tmp_path, finetune.folder.name)
    assert by_name.id == parts["trunk"][0].id


def test_a_run_is_labelled_with_the_masking_of_the_pretraining_that_it_starts_from(
    parser_runs: list[Run], lapa: Path, tmp_path: Path
) -> None:
    pretrain, finetune = parser_runs
    for start, masking in ((pretrain, "central"), (finetune, None)):
        (run,) = transferred(lapa, tmp_path, start.folder.path, **{"pretrain.masking": "random"})
        assert run.stage.description(run)["masking"] == masking
    for run in planned(lapa, tmp_path):
        assert run.stage.description(run)["masking"] == "central", "not trained yet"


@pytest.mark.parametrize(
    ("start", "changes", "message"),
    [
        ("finetune-0", {}, "finetune-0 is no run folder"),
        ("elsewhere/best.ckpt", {}, "is no run folder"),
        ("{finetune}", {"model.features": 8}, "was trained with model.features=16"),
        ("{pretrain}", {"finetune.transfer": "all"}, "has none for parsing"),
        (None, {}, "do not go together"),
        ("{finetune}", {"method": "baseline"}, "do not go together"),
        (None, {"method": "mtl", "finetune.transfer": "all"}, "a head that reconstructs cannot parse"),
    ],
)
def test_what_a_run_cannot_start_from(
    start: str | None, changes: dict[str, object], message: str, parser_runs: list[Run], lapa: Path, tmp_path: Path
) -> None:
    places = {run.stage.name: run.folder.path for run in parser_runs}
    own = {"method": "transfer", "finetune.start_from": start and start.format(**places)}
    with pytest.raises(ConfigError, match=message):
        planned(lapa, tmp_path, "baseline_lapa_10pct", **own | changes)


def test_fine_tuning_starts_from_the_pretrained_trunk(parser_runs: list[Run]) -> None:
    pretrain, finetune = parser_runs
    start = finetune.stage.module(finetune).state_dict()
    handed_over = weights(pretrain)
    trunk = [name for name in start if ".trunk." in name]
    assert len(trunk) > 200
    assert all(torch.equal(start[name], handed_over[name]) for name in trunk)


def test_what_is_done_is_skipped(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("trained again")

    copied(parser_runs, tmp_path)
    monkeypatch.setattr("engine.fitting.fit", refuse)
    again = run_training("mtl_lapa_10pct", lapa, tmp_path)
    assert [run.id for run in again] == [run.id for run in parser_runs]
    assert capsys.readouterr().out.count("Done already") == 2


@pytest.mark.training
def test_same_configuration_same_numbers_and_force_keeps_the_earlier_runs(
    parser_runs: list[Run], lapa: Path, tmp_path: Path
) -> None:
    copied(parser_runs, tmp_path)
    words = ("force=true", "datamodule.workers=1", "datamodule.eval_batch_size=3")
    again = run_training("mtl_lapa_10pct", lapa, tmp_path, *words)
    for first, second in zip(parser_runs, again, strict=True):
        assert first.id == second.id
        assert second.folder.attempts == 2, "trained again"
        assert_same_weights(first, second)
        assert [row["train/loss"] for row in rows(first)] == [row["train/loss"] for row in rows(second)]
        aside = tmp_path / "replaced" / f"{first.folder.name}-1"
        assert (aside / "checkpoints" / "best.ckpt").read_bytes() == first.folder.best.read_bytes()
    for name, value in parser_runs[1].folder.status["metrics"].items():
        assert again[1].folder.status["metrics"][name] == pytest.approx(value, rel=1e-5, nan_ok=True), name


@pytest.mark.training
@pytest.mark.parametrize(("stage", "step", "workers"), [("pretrain", 1, 0), ("finetune", 2, 2), ("finetune", 3, 1)])
def test_interrupted_and_resumed_equals_uninterrupted(
    parser_runs: list[Run],
    lapa: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    step: int,
    workers: int,
) -> None:
    """Ctrl-C in the first epoch, at the start of the second and within it; with workers that fetch ahead."""
    module, index = {"pretrain": (MaskedPretraining, 0), "finetune": (FaceParsing, 1)}[stage]
    if stage == "finetune":
        copied(parser_runs[:1], tmp_path)
    words = (f"datamodule.workers={workers}", "callbacks.activations=null")
    with interrupted_at(monkeypatch, module, step):
        run_training("mtl_lapa_10pct", lapa, tmp_path, *words)
    assert planned(lapa, tmp_path)[index].folder.state == "interrupted"

    resumed = run_training("mtl_lapa_10pct", lapa, tmp_path, *words)
    for first, second in zip(parser_runs, resumed, strict=True):
        assert_same_weights(first, second)
        assert first.folder.curves.read_bytes() == second.folder.curves.read_bytes()
        assert first.folder.status["metrics"] == pytest.approx(second.folder.status["metrics"], nan_ok=True, rel=0)
        panels = [sorted(path.name for path in run.folder.panels.glob("*.png")) for run in (first, second)]
        assert panels[0] == panels[1]
    assert resumed[index].folder.status["attempts"] == 2


@pytest.mark.training
def test_what_was_interrupted_keeps_its_best_epoch_and_by_force_starts_again(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []

    def first_is_perfect(scores: SegmentationScores, logits: torch.Tensor, batch: dict[str, Any]) -> None:
        scored.append(batch["id"])
        if len(scored) == 1:
            scores.update(batch["label"], batch["label"])
        else:
            score_batch(scores, logits, batch)

    monkeypatch.setattr("lightning_modules.parsing.score_batch", first_is_perfect)
    words = (*BARE, "finetune.steps_per_epoch=1")
    with interrupted_at(monkeypatch, FaceParsing, 1):
        run_training("baseline_lapa_10pct", lapa, tmp_path / "resumed", *words)
    shutil.copytree(tmp_path / "resumed", tmp_path / "forced")

    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "resumed", *words)
    assert torch.load(run.folder.best, weights_only=True)["epoch"] == 1, "the second scored worse"
    assert run.folder.status["metrics"]["val/miou"] == 1

    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "forced", "force=true", *words)
    aside = tmp_path / "forced" / "replaced" / f"{run.folder.name}-1"
    assert (aside / "checkpoints" / "last.ckpt").is_file(), "nothing is deleted"
    assert run.folder.status["attempts"] == 2, "attempts count on, so that no W&B run is written over"
    assert [int(row["step"]) for row in rows(run)] == [0, 1]
    assert [entry["attempt"] for entry in run.folder.status["history"]] == [2]


def test_a_finished_fine_tuning_does_not_want_its_pretraining_back(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pretrain, _ = copied(parser_runs, tmp_path)
    pretrain.folder.best.unlink()
    run_training("mtl_lapa_10pct", lapa, tmp_path, "dry_run=true")
    assert "not needed" in capsys.readouterr().out
    run_training("mtl_lapa_10pct", lapa, tmp_path)
    assert capsys.readouterr().out.count("Done already") == 1
    assert not pretrain.folder.best.exists()


@pytest.mark.training
def test_data_that_change_under_a_run_fail_it(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_broken_image_fails_the_run_by_name_and_nothing_is_lost(lapa: Path, tmp_path: Path, workers: int) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    victim = sorted((copy / "test" / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-100])  # its head, which is looked at first, stays whole
    with pytest.raises(DataError, match=victim.name) as caught:
        run_training("baseline_lapa_10pct", copy, tmp_path / "out", f"datamodule.workers={workers}", *BRIEF)
    assert "Traceback" not in str(caught.value)
    (status,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*/status.json")]
    assert status["state"] == "failed"
    assert victim.name in status["error"]
    assert list((tmp_path / "out" / "runs").glob("*/checkpoints/last.ckpt")), "the training itself is kept"


@pytest.mark.training
def test_interrupt_in_the_middle_of_a_write_is_an_interrupt(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save turns an interrupt within it into an error of its own."""
    from callbacks import checkpoints

    def broken(*_: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos")

    monkeypatch.setattr(checkpoints.torch, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        run_training("baseline_lapa_10pct", lapa, tmp_path, *BRIEF)
    (status,) = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/status.json")]
    assert status["state"] == "interrupted"
    assert not list((tmp_path / "runs").glob("*/checkpoints/*"))


@pytest.mark.training
def test_resume_of_an_encoder_that_draws_numbers_itself(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EfficientNet drops paths at random; here the small encoder drops parts of its maps."""
    create, drawn = timm.create_model, []

    def drop(module: torch.nn.Module, _: object, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        drawn.append(module.training)
        return [torch.nn.functional.dropout(one, 0.2, module.training) for one in maps]

    def dropping(*names: Any, **words: Any) -> torch.nn.Module:
        encoder = create(*names, **words)
        encoder.register_forward_hook(drop)
        return encoder

    monkeypatch.setattr(timm, "create_model", dropping)
    (whole,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "whole", *BARE)
    with interrupted_at(monkeypatch, FaceParsing, 3):
        run_training("baseline_lapa_10pct", lapa, tmp_path / "broken", *BARE)
    (resumed,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "broken", *BARE)
    assert_same_weights(whole, resumed)
    assert drawn.count(True) == 4 + 3 + 2, "a draw in each step"


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
            *(("callbacks.activations.classes=[hiar]",), "lapa has no class hiar.*\n.*Did you mean hair"),
            marks=pytest.mark.training,  # met as the training starts
        ),
        (("trainer.accelerator=mps",), "trainer: "),
        (("output_dir=/proc/nowhere",), "output_dir=/proc/nowhere"),
    ],
)
def test_what_this_machine_or_model_cannot_do_is_said(
    lapa: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_training("mtl_lapa_10pct", lapa, tmp_path, *words)


def test_a_lock_is_free_once_its_stage_is_done(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other fine-tunings wait for the pre-training they share, and for nothing more."""
    trained = {run.folder.name: run.folder.path for run in parser_runs}
    seen = {}

    def watched(run: Run, _: dict[str, Any]) -> None:
        with pytest.raises(Timeout), run.folder.lock().acquire(timeout=0):
            pass
        if run.upstream is not None:
            with run.upstream.lock().acquire(timeout=0):
                seen[run.upstream.name] = "free"
        shutil.copytree(trained[run.folder.name], run.folder.path)  # as if it had been trained

    monkeypatch.setattr("engine.fitting.fit", watched)
    runs = run_training("mtl_lapa_10pct", lapa, tmp_path)
    assert seen == {runs[0].folder.name: "free"}


def test_running_with_a_free_lock_means_interrupted(lapa: Path, tmp_path: Path) -> None:
    folder = planned(lapa, tmp_path)[0].folder
    assert folder.state == "new"
    folder.write_status(state="running")
    assert folder.state == "interrupted"
    with folder.lock():
        assert folder.state == "running"


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
def test_every_choice_trains(lapa: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
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
    words = ("logger=wandb", "finetune.epochs=1", "pretrain.epochs=1")
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
@pytest.mark.parametrize(("trained", "still"), [("decoder", "model.trunk.encoder."), ("head", "model.trunk.")])
def test_what_is_not_trained_stays_to_the_bit(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, trained: str, still: str
) -> None:
    start = ("method=transfer", f"finetune.start_from={parser_runs[1].folder.path}", "finetune.transfer=all")
    words = (*start, f"finetune.trained={trained}", "finetune.epochs=1", *BARE)
    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *words)
    before, after = weights(parser_runs[1]), weights(run)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(still) for name in moved), "statistics of the normalisation included"
    assert "model.head.weight" in moved
    assert any(name.startswith("model.trunk.decoder.") for name in moved) == (trained == "decoder")


def same_as(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, set[bool]]:
    """Of a trunk's weights and statistics: whether any, and whether all, are as they were."""
    names = [name for name in after if name.startswith("model.trunk.") and before[name].is_floating_point()]
    return {
        kind: {torch.equal(after[name], before[name]) for name in names if name.endswith(kind)}
        for kind in ("weight", "running_mean")
    }


@pytest.mark.training
def test_a_trunk_can_wait(parser_runs: list[Run], lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validated once, after the second epoch: what is kept is what the trunk was then. It learns in the third."""
    ends: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(FaceParsing, "on_train_end", lambda self: ends.append(deepcopy(self.state_dict())))
    start = ("method=transfer", f"finetune.start_from={parser_runs[1].folder.path}", "finetune.transfer=all")
    words = ("finetune.frozen_epochs=2", "finetune.epochs=3", "finetune.validate_every=2")
    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *start, *words, *BARE)
    before, kept, (end,) = weights(parser_runs[1]), weights(run), ends
    assert not torch.equal(kept["model.head.weight"], before["model.head.weight"])
    assert same_as(before, kept) == {"weight": {True}, "running_mean": {True}}
    assert same_as(before, end) == {"weight": {False}, "running_mean": {False}}


@pytest.mark.training
def test_a_trunk_can_keep_its_statistics(parser_runs: list[Run], lapa: Path, tmp_path: Path) -> None:
    start = ("method=transfer", f"finetune.start_from={parser_runs[1].folder.path}", "finetune.transfer=all")
    words = ("finetune.statistics=keep", "finetune.epochs=1")
    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *start, *words, *BARE)
    before, after = weights(parser_runs[1]), weights(run)
    assert not torch.equal(after["model.head.weight"], before["model.head.weight"])
    assert same_as(before, after) == {"weight": {False}, "running_mean": {True}}


def test_the_trunk_can_learn_slower_than_the_head(parser_runs: list[Run]) -> None:
    best = torch.load(parser_runs[1].folder.best, weights_only=True)
    module = FaceParsing(**best["hyper_parameters"] | {"trunk_lr": 0.1})
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {len(group["params"]): group["initial_lr"] for group in groups}
    assert rates[2] == pytest.approx(10 * rates[max(rates)])
    assert sum(rates) == len(list(module.parameters()))


@pytest.mark.training
def test_a_training_that_diverges_has_failed(lapa: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is nan after epoch 1: the training diverged\.\n.*finetune\.optimizer\.lr"):
        run_training("baseline_lapa_10pct", lapa, tmp_path, "finetune.optimizer.lr=1e30", *BARE)
    (file,) = tmp_path.glob("runs/*/status.json")
    assert json.loads(file.read_text())["state"] == "failed"
    assert not list(tmp_path.glob("runs/*/checkpoints/best.ckpt"))


def test_a_broken_label_map_of_a_test_face_is_met_before_training(lapa: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    victim = sorted((copy / "test" / "labels").iterdir())[-1]
    victim.write_bytes(b"")
    with pytest.raises(BrokenFileError, match=victim.name):
        run_training("baseline_lapa_10pct", copy, tmp_path / "outputs", *BRIEF)
    assert not list(tmp_path.glob("outputs/runs/*/checkpoints/last.ckpt"))
