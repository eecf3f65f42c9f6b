"""Batches of one image in layers that see one pixel: they train, and all other numbers are as without the rule."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foundation.errors import RunError, explained
from lightning_modules.parsing import FaceParsing
from models.parser import FaceParser
from models.single_values import allow_single_values
from tests.commands import Forked
from tests.conftest import TINY, run_training
from tests.training_runs import assert_same_weights, interrupted_at

ENCODER = "tu-test_efficientnet"


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_a_single_value_takes_the_running_statistics(kind: Any) -> None:
    shape = {nn.BatchNorm1d: (1, 4), nn.BatchNorm2d: (1, 4, 1, 1), nn.BatchNorm3d: (1, 4, 1, 1, 1)}[kind]
    layer: Any = kind(4)
    layer.running_mean.copy_(torch.arange(4.0))
    x = torch.randn(shape, requires_grad=True)
    with pytest.raises(ValueError, match="more than 1 value"):
        layer(x)
    allow_single_values(layer)
    before = copy.deepcopy(layer.state_dict())
    y = layer(x)
    assert torch.equal(y, copy.deepcopy(layer).eval()(x))
    assert layer.training
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    y.sum().backward()
    assert layer.weight.grad is not None


def test_other_batches_are_unchanged_and_the_layer_is_copied_and_pickled() -> None:
    torch.manual_seed(0)
    plain = FaceParser(2, ENCODER).train()
    ruled = copy.deepcopy(plain)
    allow_single_values(ruled)
    ruled = pickle.loads(pickle.dumps(copy.deepcopy(ruled)))  # noqa: S301 (as ddp_spawn does)
    for shape in ((2, 3, 32, 32), (1, 3, 64, 64)):
        x = torch.randn(shape)
        one, other = plain(x), ruled(x)
        assert torch.equal(one, other)
    assert all(torch.equal(value, ruled.state_dict()[name]) for name, value in plain.state_dict().items())
    with pytest.raises(ValueError, match="more than 1 value"):
        plain(torch.randn(1, 3, 32, 32))
    assert ruled(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_a_layer_is_back_in_training_after_an_error() -> None:
    layer = nn.BatchNorm2d(4)
    allow_single_values(layer)
    with pytest.raises(RuntimeError):
        layer(torch.randn(1, 4, 1, 1, dtype=torch.float64).to(torch.int64))
    assert layer.training
    assert layer(torch.randn(2, 4, 1, 1)).shape == (2, 4, 1, 1)


def test_a_layer_without_statistics_is_explained() -> None:
    network = nn.BatchNorm2d(4, track_running_stats=False)
    allow_single_values(network)
    with pytest.raises(ValueError, match="more than 1 value") as raised:
        network(torch.randn(1, 4, 1, 1))
    assert isinstance(explained(raised.value), RunError)


CASES = {
    "batches of one": ("finetune.batch_size=1", "pretrain.batch_size=1"),
    "a last batch of one": ("pretrain.steps_per_epoch=null", "pretrain.batch_size=31", "finetune.batch_size=1"),
    "contrastive": (
        *("pretrain.steps_per_epoch=null", "pretrain.batch_size=31", "pretrain.contrastive=0.1"),
        *("finetune.batch_size=2", "finetune.steps_per_epoch=null", "label_fraction=0.03"),
    ),
}


@pytest.mark.training
@pytest.mark.parametrize("case", CASES)
def test_every_stage_trains(case: str, lapa: Path, tmp_path: Path) -> None:
    words = ("pretrain.epochs=1", "finetune.epochs=1")
    for run in run_training("mtl_lapa_10pct", lapa, tmp_path, *words, *CASES[case]):
        assert run.folder.done


@pytest.mark.training
def test_one_labelled_face_and_deeplab(lapa: Path, tmp_path: Path) -> None:
    words = ("model=deeplabv3plus", "model.encoder=resnet18", "model.encoder_weights=null")
    small = ("label_fraction=0.03", "finetune.epochs=1", "finetune.steps_per_epoch=null")
    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *words, *small)
    assert run.folder.status["labelled"] == 1
    assert run.folder.done


@pytest.mark.training
def test_it_resumes_bit_for_bit(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("finetune.batch_size=1",)
    (straight,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "a", *words)
    with interrupted_at(monkeypatch, FaceParsing, 3):
        run_training("baseline_lapa_10pct", lapa, tmp_path / "b", *words)
    (resumed,) = run_training("baseline_lapa_10pct", lapa, tmp_path / "b", *words)
    assert resumed.id == straight.id
    assert_same_weights(straight, resumed)


@pytest.mark.training
@pytest.mark.parametrize("network", ["facial_mask_detector", "unet_id"])
def test_a_segmenter(network: str, masked: Path, tmp_path: Path) -> None:
    words = (f"model={network}", "segment.epochs=1", "segment.batch_size=1", "segment.steps_per_epoch=1")
    (run,) = run_training("occlusion_celeba", masked, tmp_path, *words, "segment.encoder_weights=null")
    assert run.folder.done


@pytest.mark.process
@pytest.mark.training
@pytest.mark.slow
def test_two_processes_with_one_image_each(lapa: Path, tmp_path: Path) -> None:
    words = ("experiment=baseline_lapa_full", *TINY, "trainer.devices=2", "trainer.strategy=ddp")
    small = ("finetune.batch_size=2", "finetune.epochs=1", f"datamodule.root={lapa}", f"output_dir={tmp_path}")
    process = Forked("train.py", *words, *small)
    screen, _ = process.communicate(timeout=280)
    assert process.returncode == 0, screen
    (status,) = tmp_path.glob("runs/*/status.json")
    assert json.loads(status.read_text())["state"] == "done"
