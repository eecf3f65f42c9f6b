"""Self-training: teacher, pseudo-labels, batches, complete runs, resuming, and runs to start from."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from datamodules.labels import IGNORE
from datamodules.layouts import LaPa
from datamodules.self_training import MixedSampler, SyntheticLabels
from datamodules.strong_views import StrongView
from engine.stage import Run
from lightning_modules.parsing import FaceParsing
from lightning_modules.pseudo_labels import PseudoLabelWatch
from lightning_modules.self_training import SelfTraining
from models.averaging import WeightAverage, decay_at
from tests.conftest import run_training
from tests.test_evaluation import scored
from tests.training_runs import assert_same_weights, interrupted_at, rows, weights

OPTIMIZER = {"name": "adamw", "lr": 1e-2, "weight_decay": 0.0}
SCHEDULE = {"name": "constant", "warmup": 0.0}
ENCODER = "tu-test_efficientnet"


def module(**changes: object) -> SelfTraining:
    arguments = {
        "classes": ("background", "skin", "hair"),
        "encoder": ENCODER,
        "features": 8,
        "loss": "focal_dice",
        "lambda_ce": 0.5,
        "lambda_dice": 0.5,
        "alpha": 0.5,
        "gamma": 2.0,
        "optimizer": OPTIMIZER,
        "schedule": SCHEDULE,
        "steps": 100,
        "ema_decay": 0.9,
        "threshold": 0.0,
        "weight": 2.0,
        "wait": 0.1,
        "ramp": 0.2,
        "views": 1,
        "cutmix": 0.5,
    }
    return SelfTraining(**(arguments | changes))  # type: ignore[arg-type]


def test_the_average_follows_the_formula() -> None:
    assert [decay_at(step, 0.99) for step in (0, 1, 2, 1000)] == pytest.approx([0, 1 / 2, 2 / 3, 0.99])
    network = nn.BatchNorm1d(1)
    average = WeightAverage(network, 0.6)
    expected, statistic = 1.0, 0.0
    for step, value in enumerate((4.0, 8.0, 2.0, 6.0)):
        nn.init.constant_(network.weight, value)
        network.running_mean.fill_(10 * value)  # type: ignore[union-attr]
        network.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        average.update(network)
        decay = min(1 - 1 / (step + 1), 0.6)
        expected = decay * expected + (1 - decay) * value
        statistic = decay * statistic + (1 - decay) * 10 * value
    assert float(average.network.weight) == pytest.approx(expected)  # type: ignore[arg-type]
    assert float(average.network.running_mean) == pytest.approx(statistic)  # type: ignore[arg-type]
    assert int(average.network.num_batches_tracked) == 4  # type: ignore[arg-type]
    assert int(average.updates) == 4
    assert not average.train().network.training, "always in evaluation mode"
    assert not any(value.requires_grad for value in average.parameters())


def test_the_unlabelled_weight_waits_and_rises() -> None:
    found = [module().unlabelled_weight(step) for step in (0, 10, 15, 20, 30, 99)]
    assert found == pytest.approx([0, 0, 0.5, 1, 2, 2])
    assert module(wait=0.0, ramp=0.0).unlabelled_weight(1) == 2


def test_pseudo_labels_are_the_teachers_and_unsure_pixels_are_ignored() -> None:
    teaching = module(threshold=0.9)
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1, 0, 0] = 9  # confident of skin
    logits[0, 2, 0, 1] = 1
    logits[0, 2, 1, 1] = 9
    teaching.average = WeightAverage(nn.Identity(), 0.9)
    outside = torch.tensor([[[False, False], [False, True]]])
    pseudo, confidence = teaching.teach(logits, outside)
    assert pseudo.tolist() == [[[1, 2], [0, IGNORE]]]
    assert confidence[0, 0].tolist() == pytest.approx([math.exp(9) / (math.exp(9) + 2), math.e / (math.e + 2)])

    view = StrongView(logits, pseudo, confidence)
    student = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = teaching.consistency(student, view)
    sure = torch.tensor([[[1, IGNORE], [IGNORE, IGNORE]]])
    assert float(loss.detach()) == pytest.approx(float(teaching.loss(student, sure).detach()) / 3), (
        "one of three pixels of the image"
    )
    loss.backward()
    assert student.grad is not None
    assert student.grad[..., 0, 0].any()
    assert not student.grad[..., 1, 1].any()
    teaching.hparams["threshold"] = 0.9999
    assert float(teaching.consistency(student, view).detach()) == 0


def test_batches_hold_labelled_synthetic_and_unlabelled_faces() -> None:
    sampler = MixedSampler((3, 5, 7), (4, 2), 4, lambda step: (2, 1, 0, 0, 4)[min(step, 4)], seed=1)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 24
    assert [position for _, position, _ in keys] == list(range(24))
    for batch in range(4):
        parts = [0 if index < 3 else 1 if index < 8 else 2 for _, _, index in keys[6 * batch : 6 * batch + 6]]
        synthetic = (2, 1, 0, 0)[batch]
        assert parts == [0] * (4 - synthetic) + [1] * synthetic + [2, 2]
    unlabelled = [index for _, _, index in keys if index >= 8]
    assert len(set(unlabelled[:7])) == 7, "each once before any twice"
    again = MixedSampler((3, 5, 7), (4, 2), 4, lambda _: 4, seed=1)
    again.set_epoch(1)
    assert {epoch for epoch, _, _ in again} == {1}
    halves = [MixedSampler((3, 5, 7), (4, 2), 4, lambda _: 1, seed=1, rank=rank, world=2) for rank in (0, 1)]
    both = sorted(key for half in halves for key in half)
    assert both == sorted(MixedSampler((3, 5, 7), (4, 2), 4, lambda _: 1, seed=1))
    assert [len(half) for half in halves] == [12, 12]


def test_the_share_of_synthetic_faces_follows_its_schedule(lapa: Path) -> None:
    constant, linear = (SyntheticLabels(LaPa(lapa), 0.5, schedule, 1.0) for schedule in ("constant", "linear"))
    assert [constant.count(8, progress) for progress in (0, 0.5, 1)] == [4, 4, 4]
    assert [linear.count(8, progress) for progress in (0, 0.5, 1)] == [4, 2, 0]


def test_known_failures_are_warned_of_once() -> None:
    watch = PseudoLabelWatch(("background", "skin", "eye"))
    label, pseudo = torch.tensor([[0, 1, 2, IGNORE]]), torch.tensor([[0, 0, 0, 1]])
    watch.count(label, pseudo)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shares = watch.end_epoch(trusted=False)
    assert shares["pseudo/skin"] == pytest.approx(0.25)
    assert shares["labelled/skin"] == pytest.approx(1 / 3)
    with pytest.warns(UserWarning, match="No pseudo-label of this epoch is eye, though"):
        watch.end_epoch(trusted=True)
    watch.start_epoch()
    watch.count(label.clamp(max=1), None)
    other = PseudoLabelWatch(("background", "skin", "eye"))
    other.count(label.clamp(max=1), None)
    with pytest.warns(UserWarning, match="No labelled face of this epoch has a pixel of eye"):
        assert other.end_epoch(trusted=True) == {}
    watch.validated(0.6)
    with pytest.warns(UserWarning, match="val/miou has fallen from 0.600 to 0.500"):
        watch.validated(0.5)
    again = PseudoLabelWatch(watch.classes)
    again.load_state_dict(watch.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.validated(0.4)
        watch.end_epoch(trusted=True)


@pytest.fixture(scope="module")
def semi_run(lapa: Path, shared: Path) -> Run:
    """Self-training on 10 % of the labels with two strong views and some synthetic faces, done. Read only."""
    return semi(lapa, shared / "outputs_semi")


def semi(root: Path, output: Path, *words: str) -> Run:
    own = ("semi.wait=0", "semi.views=2", "semi.epochs=3", "semi.select=best", f"semi.synthetic.root={root}")
    *_, run = run_training("semi_lapa_10pct", root, output, *own, *words)
    return run


@pytest.mark.training
def test_a_run_keeps_the_teacher(semi_run: Run) -> None:
    status = semi_run.folder.status
    assert status["state"] == "done"
    assert (status["labelled"], status["unlabelled"], status["synthetic"]) == (3, 32, 32)
    assert status["validation_labels"] == 4
    best = torch.load(semi_run.folder.best, weights_only=True)
    assert not [name for name in best["state_dict"] if name.startswith("average")]
    assert best["hyper_parameters"]["threshold"] == 0
    SelfTraining(**best["hyper_parameters"]).load_state_dict(best["state_dict"])
    steps = rows(semi_run)
    assert [float(row["train/weight"]) for row in steps[:2]] == [0, 1]
    assert steps[0]["train/consistency"] == ""
    assert all(float(row["train/consistency"]) > 0 for row in steps[1:])
    assert float(steps[-1]["pseudo/background"]) > 0
    assert sum(float(value) for name, value in steps[-1].items() if name.startswith("labelled/")) == pytest.approx(1)


@pytest.mark.training
def test_it_is_evaluated_like_a_fine_tuned_parser(semi_run: Run, lapa: Path) -> None:
    output = semi_run.folder.output_dir
    folder = scored(f"checkpoint={semi_run.folder.name}", f"output_dir={output}", "dataset=lapa", f"root={lapa}")
    assert folder.state == "done"
    own = semi_run.folder.status["metrics"]
    assert {name: own[name] for name in ("test/miou", "test/mean_f1")} == {
        name: folder.status["metrics"][name] for name in ("test/miou", "test/mean_f1")
    }


@pytest.mark.training
def test_a_resumed_run_is_bit_identical(
    semi_run: Run, lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted_at(monkeypatch, SelfTraining, 5):
        semi(lapa, tmp_path)
    resumed = semi(lapa, tmp_path)
    assert resumed.id == semi_run.id
    assert resumed.folder.status["attempts"] == 2
    assert_same_weights(semi_run, resumed)
    assert rows(resumed) == rows(semi_run)


@pytest.mark.training
def test_no_real_label(lapa: Path, celebamask: Path, tmp_path: Path) -> None:
    (run,) = run_training("semi_lapa_0", lapa, tmp_path, f"semi.synthetic.root={celebamask}", "semi.epochs=1")
    status = run.folder.status
    assert (status["labelled"], status["validation_labels"], status["label_fraction"]) == (0, 0, 0)
    assert run.manifest is not None
    assert run.manifest.ids == ()
    assert Path(status["manifest"]).read_text().split() == []


@pytest.mark.training
def test_it_starts_from_a_parser_or_a_pretraining(semi_run: Run, lapa: Path) -> None:
    output = semi_run.folder.output_dir
    brief = ("semi.wait=0.5", "semi.epochs=1", "semi.steps_per_epoch=1", "semi.optimizer.lr=1e-12")
    start = f"semi.start_from={semi_run.folder.name}"
    (run,) = run_training("semi_lapa_10pct", lapa, output, *brief, start, "semi.transfer=all")
    assert run.upstreams[0].id == semi_run.id
    before, after = weights(semi_run), weights(run)
    assert torch.allclose(before["model.head.weight"], after["model.head.weight"], atol=1e-6)
    stages = "stages=[pretrain,semi]"
    pretrain, run = run_training("semi_lapa_10pct", lapa, output, *brief, stages, "pretrain.epochs=1")
    assert run.upstream is pretrain.folder
    assert run.folder.done


@pytest.mark.training
def test_a_baseline_may_keep_an_average_and_its_last_epoch(lapa: Path, tmp_path: Path) -> None:
    words = ("finetune.select=last", "finetune.optimizer.lr=1")
    (averaged,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *words, "finetune.ema_decay=0.9")
    (plain,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *words)
    for run in (averaged, plain):
        assert run.folder.status["validation_labels"] == 0
        assert torch.load(run.folder.best, weights_only=True)["epoch"] == 2
    first, second = weights(averaged), weights(plain)
    assert first.keys() == second.keys()
    assert not torch.equal(first["model.head.weight"], second["model.head.weight"])
    FaceParsing(**torch.load(averaged.folder.best, weights_only=True)["hyper_parameters"]).load_state_dict(first)


@pytest.mark.training
def test_it_overfits_a_labelled_face(lapa: Path, tmp_path: Path) -> None:
    words = (
        "label_fraction=0.03",
        "semi.epochs=1",
        "semi.steps_per_epoch=60",
        "semi.optimizer.lr=1e-2",
        "semi.ramp=0.5",
    )
    still = ("semi.augmentation.rotation=0.0", "semi.augmentation.scale=[1.0,1.0]", "semi.augmentation.flip=0.0")
    (run,) = run_training("semi_lapa_10pct", lapa, tmp_path, *words, *still, "semi.augmentation.color=0.0")
    losses = [float(row["train/supervised"]) for row in rows(run)]
    assert run.folder.status["labelled"] == 1
    assert losses[-1] < 0.4 * losses[0]
