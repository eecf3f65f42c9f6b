"""Interrupted, resumed, repeated and finished runs: what is trained again, what is kept, and locks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from filelock import Timeout

from engine.stage import Run
from lightning_modules.metrics import SegmentationScores
from lightning_modules.parsing import FaceParsing, score_batch
from lightning_modules.pretraining import MaskedPretraining
from tests.conftest import PANELS, copied, run_training
from tests.training_runs import BRIEF, assert_same_weights, interrupted_at, planned, rows


def test_finished_runs_are_skipped(
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
    words = (f"datamodule.workers={workers}", *PANELS[:1])
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
def test_an_interrupted_run_keeps_its_best_epoch_and_force_restarts_it(
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
    words = ("finetune.steps_per_epoch=1",)
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


def test_a_finished_fine_tuning_does_not_need_its_pretraining(
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
def test_an_interrupt_within_a_write_is_an_interrupt(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt within torch.save raises an error of torch."""
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
def test_resume_of_an_encoder_with_random_layers(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like EfficientNet's stochastic depth: here the small encoder has dropout."""
    create, modes = timm.create_model, []

    def drop(module: torch.nn.Module, _: object, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        modes.append(module.training)
        return [torch.nn.functional.dropout(one, 0.2, module.training) for one in maps]

    def dropping(*names: Any, **words: Any) -> torch.nn.Module:
        encoder = create(*names, **words)
        encoder.register_forward_hook(drop)
        return encoder

    monkeypatch.setattr(timm, "create_model", dropping)
    (uninterrupted,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "uninterrupted")
    with interrupted_at(monkeypatch, FaceParsing, 3):
        run_training("baseline_lapa_10pct", lapa, tmp_path / "broken")
    (resumed,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "broken")
    assert_same_weights(uninterrupted, resumed)
    assert modes.count(True) == 4 + 3 + 2, "in training mode once per step"


def test_a_lock_is_free_once_its_stage_is_done(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other fine-tunings wait only for the pre-training that they share."""
    trained = {run.folder.name: run.folder.path for run in parser_runs}
    seen = {}

    def watched(run: Run, *_: object) -> None:
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
