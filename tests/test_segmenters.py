"""Segmenters of occlusion: loss, learning rates, the scores that a run leaves, and invalid settings."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import jaccard_score

from callbacks.checkpoints import load
from engine.stage import Run
from foundation.errors import ConfigError
from foundation.recorded_runs import read_run
from models.layers import BatchInstanceNorm2d
from stages.evaluation import check_evaluation, plan_evaluation
from tests.conftest import run_training
from tests.segmenters import planned_run, segmenter
from tests.test_evaluation import config_of


def test_pixels_beyond_the_image_are_not_learnt() -> None:
    module = segmenter()
    label = torch.zeros(2, 8, 8, dtype=torch.long)
    label[:, :3] = 1
    label[:, 6:] = 255
    logits = torch.randn(2, 1, 8, 8)
    other = logits.clone()
    other[..., 6:, :] = 9
    assert module.loss(logits, label) == module.loss(other, label)
    other[..., 0, 0] = 9
    assert module.loss(logits, label) != module.loss(other, label)


@pytest.mark.parametrize("initialization", ["default", "xavier", "he", "normal"])
def test_rho_has_its_own_learning_rate_and_stays_within_bounds(initialization: str) -> None:
    module = segmenter(initialization=initialization)
    others, rho = module.configure_optimizers()["optimizer"].param_groups
    assert (others["lr"], others["weight_decay"], others["betas"]) == (2e-4, 0.1, (0.5, 0.999))
    assert rho["lr"] == pytest.approx(2e-3)
    assert rho["weight_decay"] == 0
    norms = [layer for layer in module.modules() if isinstance(layer, BatchInstanceNorm2d)]
    assert {id(p) for p in rho["params"]} == {id(layer.rho) for layer in norms}
    assert len(others["params"]) + len(rho["params"]) == len(list(module.model.parameters()))
    with torch.no_grad():
        norms[0].rho.add_(3)
        norms[1].rho.sub_(3)
    module.on_train_batch_end(None, None, 0)
    assert norms[0].rho.max() == 1
    assert norms[1].rho.min() == 0
    assert torch.isfinite(module(torch.randn(2, 3, 32, 32))).all()


def test_the_papers_count_and_the_base_unet_have_no_rho_to_train() -> None:
    for module in (segmenter(count="paper"), segmenter(network="base_unet")):
        assert len(module.configure_optimizers()["optimizer"].param_groups) == 1


def test_a_run_leaves_scores_raw_cleaned_and_by_group(segmenter_run: Run) -> None:
    status = segmenter_run.folder.status
    assert (status["state"], status["stage"], status["origin"]) == ("done", "segment", "augmented")
    metrics = status["metrics"]
    for name in ("accuracy", "ssim", "miou", "iou", "dice", "cleaned/miou", "cleaned/dice"):
        assert 0 <= metrics[f"test/{name}"] <= 1, name
    assert {name.split("/")[2] for name in metrics if name.startswith("test/iou/")} >= {"type", "style", "yaw"}
    assert "val/iou/type/cloth" not in metrics
    epochs, accuracies = read_run(segmenter_run.folder.path).curve("epoch", "train/accuracy")
    assert epochs.tolist() == list(range(segmenter_run.settings["segment.epochs"]))
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    with segmenter_run.folder.confusion.open() as file:
        table = list(csv.reader(file))
    assert table[0] == ["ground_truth", "seen", "occluded"]
    (_, rest, false), (_, missed, hit) = table[1], table[2]
    assert float(metrics["test/iou"]) == pytest.approx(int(hit) / (int(hit) + int(false) + int(missed)), abs=1e-6)
    assert int(rest) + int(false) + int(missed) + int(hit) == 32 * 32 * len(segmenter_run.layout.samples("test"))
    panels = {path.name for path in (segmenter_run.folder.panels / "test").iterdir()}
    face = segmenter_run.layout.samples("test")[0].id
    assert {f"{face}.{column}.png" for column in ("image", "ground_truth", "prediction", "cleaned")} <= panels


def test_the_test_score_is_that_of_the_best_weights_by_an_independent_count(segmenter_run: Run) -> None:
    module = segmenter_run.stage.module(segmenter_run).eval()
    module.load_state_dict(load(segmenter_run.folder.best)["state_dict"])
    found, ground_truth = [], []
    for batch in segmenter_run.stage.data(segmenter_run).test_dataloader():
        with torch.no_grad():
            found.append((module(batch["image"]) > 0).flatten())
        ground_truth.append((batch["label"] == 1).flatten())
    expected = jaccard_score(torch.cat(ground_truth), torch.cat(found), average=None).mean()
    assert segmenter_run.folder.status["metrics"]["test/miou"] == pytest.approx(expected, abs=1e-6)


def test_a_rebuilt_network_starts_with_the_same_loss(segmenter_run: Run) -> None:
    """As for parsers in tests/test_training.py."""
    pl.seed_everything(segmenter_run.own.seed, workers=True, verbose=False)
    module: Any = segmenter_run.stage.module(segmenter_run)
    module.log = lambda *_, **__: None  # no trainer listens
    batch = next(iter(segmenter_run.stage.data(segmenter_run).train_dataloader()))
    _, losses = read_run(segmenter_run.folder.path).curve("step", "train/loss")
    assert module.training_step(batch, 0).item() == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.training
def test_training_of_the_base_unet_scored_at_the_size_of_the_label(masked: Path, tmp_path: Path) -> None:
    words = ("segment.score_at=label", "segment.epochs=1")
    (run,) = run_training("occlusion_base_unet", masked, tmp_path, *words)
    assert run.folder.done


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("datamodule.image_size=100",), "multiple of 32"),
        (("segment.network=unet",), "modified_unet"),
        (("datamodule=lapa",), r"method=segment does not go with datamodule.dataset=lapa"),
        (("method=baseline",), "method=baseline does not go with datamodule.dataset=augmented_celeba"),
        (("segment.validate_every=9",), "beyond"),
    ],
)
def test_invalid_settings(words: tuple[str, ...], expected: str, masked: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        planned_run(masked, tmp_path, *words)


def test_a_segmenter_does_not_parse(segmenter_run: Run, lapa: Path, tmp_path: Path) -> None:
    words = (f"checkpoint={segmenter_run.folder.path}", "dataset=lapa", f"root={lapa}")
    with pytest.raises(ConfigError, match="dataset=lapa has no labels for segment-"):
        plan_evaluation(check_evaluation(config_of(*words, f"output_dir={tmp_path}")))
