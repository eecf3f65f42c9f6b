"""Sparse masking and denoising as tasks of the stage ``pretrain``: settings, runs, what is handed over, starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.transforms import STD
from engine.stage import Run
from foundation.errors import ConfigError
from lightning_modules.denoising import Denoising
from lightning_modules.sparse_masking import SparseMasking
from models.masking import PatchSampling
from tests.conftest import PANELS, run_training, settings_of
from tests.training_runs import assert_same_weights, interrupted_at, planned, rows, weights

TASKS = {"sparse_masking": SparseMasking, "denoising": Denoising}
OPTIMIZATION: dict[str, Any] = {
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0},
    "schedule": {},
    "steps": 1,
}


@pytest.fixture(scope="module")
def task_runs(lapa: Path, shared: Path) -> dict[str, list[Run]]:
    """A pre-training of each task and a fine-tuning from it. Read only."""
    return {
        task: run_training("mtl_lapa_10pct", lapa, shared / "tasks", f"pretrain.task={task}", *PANELS) for task in TASKS
    }


@pytest.mark.training
def test_each_task_leaves_scores_and_panels(task_runs: dict[str, list[Run]]) -> None:
    for task, (pretrain, finetune) in task_runs.items():
        status = pretrain.folder.status
        assert status["metrics"].keys() == {"val/loss", "val/psnr"}
        assert status["module"].endswith(TASKS[task].__name__)
        assert status["masking"] == finetune.folder.status["masking"] == task
        assert status["loss"] is None
        names = {path.name.split(".")[1] for path in (pretrain.folder.panels / "val").glob("*.png")}
        assert names == {"image", "masked" if task == "sparse_masking" else "noisy", "reconstruction"}
        drawn = list((pretrain.folder.panels / "activations").glob("*.png"))
        assert len(drawn) == (4 if task == "denoising" else 0), "a sparse encoder has no map at full resolution"


@pytest.mark.training
def test_the_encoder_or_the_trunk_is_handed_over_bit_for_bit(task_runs: dict[str, list[Run]]) -> None:
    for task, (pretrain, finetune) in task_runs.items():
        part = "encoder" if task == "sparse_masking" else "trunk"
        assert finetune.own.transfer == part
        start, handed_over = finetune.stage.module(finetune).state_dict(), weights(pretrain)
        taken = {name for name in start if name in handed_over and torch.equal(start[name], handed_over[name])}
        encoder = {name for name in start if name.startswith("model.trunk.encoder.")}
        trunk = {name for name in start if name.startswith("model.trunk.")}
        assert len(encoder) > 50
        assert encoder <= taken
        assert (trunk <= taken) == (part == "trunk")
        if part == "encoder":
            others = {name.split(".")[1] for name in handed_over if name not in encoder}
            assert others == {"densify", "decoder"}, "no decoder of the parser that nothing trained"


@pytest.mark.training
@pytest.mark.parametrize("task", TASKS)
def test_interrupted_and_resumed_equals_uninterrupted(
    task: str, task_runs: dict[str, list[Run]], lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"pretrain.task={task}", "stages=[pretrain]")
    with interrupted_at(monkeypatch, TASKS[task], 3):
        run_training("mtl_lapa_10pct", lapa, tmp_path, *words)
    (resumed,) = run_training("mtl_lapa_10pct", lapa, tmp_path, *words)
    uninterrupted = task_runs[task][0]
    assert resumed.id == uninterrupted.id
    assert resumed.folder.status["attempts"] == 2
    assert_same_weights(uninterrupted, resumed)
    assert rows(uninterrupted) == rows(resumed)


@pytest.mark.training
def test_a_chain_of_starts(task_runs: dict[str, list[Run]], lapa: Path, tmp_path: Path) -> None:
    """A parser, of synthetic faces say, is the start of a pre-training, and that the start of self-training."""
    parser = task_runs["denoising"][1]
    for task, part in (("sparse_masking", "encoder"), ("masked_patches", "trunk")):
        words = (f"pretrain.task={task}", f"pretrain.start_from={parser.folder.path}", "stages=[pretrain,semi]")
        brief = ("semi.start_from=null", f"semi.transfer={part}", "pretrain.epochs=1", "semi.epochs=1")
        pretrain, semi = run_training("semi_lapa_10pct", lapa, tmp_path, *words, *brief)
        assert pretrain.identity["upstreams"] == [parser.id]
        assert semi.identity["upstreams"] == [pretrain.id]
        assert (pretrain.own.transfer, semi.own.transfer) == (part, part)
        start, handed_over = pretrain.stage.module(pretrain).state_dict(), weights(parser)
        names = [name for name in start if name.startswith("model.trunk.")]
        assert len(names) > 50
        assert all(torch.equal(start[name], handed_over[name]) for name in names)


def test_a_start_enters_as_its_id(parser_runs: list[Run], lapa: Path, tmp_path: Path) -> None:
    start = str(parser_runs[1].folder.path)
    plain = planned(lapa, tmp_path)
    assert [run.id for run in planned(lapa, tmp_path, **{"pretrain.transfer": "encoder"})] == [run.id for run in plain]
    started = planned(lapa, tmp_path, **{"pretrain.start_from": start})
    encoder = planned(lapa, tmp_path, **{"pretrain.start_from": start, "pretrain.transfer": "encoder"})
    assert len({runs[0].id for runs in (plain, started, encoder)}) == 3
    assert started[0].identity["upstreams"] == [parser_runs[1].id]
    assert "model.encoder_weights" not in started[0].identity["settings"]


def test_settings_of_other_tasks_do_not_enter_the_id(lapa: Path, tmp_path: Path) -> None:
    plain, sparse, noisy = (
        planned(lapa, tmp_path, **{"pretrain.task": task, "finetune.transfer": "encoder"})[0].identity["settings"]
        for task in ("masked_patches", "sparse_masking", "denoising")
    )
    own = {"pretrain.mask_ratio", "pretrain.mask_units", "pretrain.decoder_width"}
    assert plain["pretrain.task"] is None, "as in runs from before there was another"
    assert not (own | {"pretrain.noise", "pretrain.transfer", "pretrain.start_from"}) & plain.keys()
    patches = {f"pretrain.{name}" for name in ("masking", "patches", "patch_size", "fill", "loss", "reduction")}
    assert patches <= plain.keys()
    assert sparse.keys() - plain.keys() == own
    assert noisy.keys() - plain.keys() == {"pretrain.noise"}
    assert not (patches | {"pretrain.contrastive", "pretrain.loss_over"}) & (sparse.keys() | noisy.keys())


def test_a_task_is_one_override() -> None:
    """What is transferred follows, in the stage after it and from a run before it."""
    for task, part in (("sparse_masking", "encoder"), ("denoising", "trunk"), ("masked_patches", "trunk")):
        settings = settings_of("experiment=mtl_lapa_1pct", f"pretrain.task={task}")
        assert {settings[stage]["transfer"] for stage in ("pretrain", "finetune", "semi")} == {part}


SPARSE = {"pretrain.task": "sparse_masking", "finetune.transfer": "encoder"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain.task": "sparse_masking"}, "finetune.transfer=trunk with .*\n.*finetune.transfer=encoder"),
        ({"pretrain.task": "sparse"}, "Did you mean sparse_masking"),
        (
            {"pretrain.task": None},
            "pretrain.task=null .*\n.*one of masked_patches, sparse_masking, denoising or _target_",
        ),
        (SPARSE | {"pretrain.mask_units": 12}, "mask_units=12 with datamodule.image_size=32.*\n.*as 8 does"),
        (SPARSE | {"pretrain.mask_ratio": 1}, "mask_ratio=1 is invalid"),
        (SPARSE | {"pretrain.start_from": "x", "pretrain.transfer": "trunk"}, r"must be pretrain.transfer=encoder"),
        (SPARSE | {"trainer.devices": 2, "trainer.sync_batchnorm": True}, "would count masked positions"),
        (SPARSE | {"method": "hybrid"}, "classify reads the features of a decoder"),
        (SPARSE | {"stages": ["pretrain", "classify"]}, "classify reads the features of a decoder"),
        ({"method": "baseline", "pretrain.start_from": "x"}, "do not go together"),
        ({"pretrain.start_from": "finetune-0"}, "pretrain.start_from=finetune-0: .* is not a run folder"),
    ],
)
def test_invalid_combinations(changes: dict[str, object], message: str, lapa: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(lapa, tmp_path, **changes)


def test_heads_on_a_fine_tuned_parser_may_follow(lapa: Path, tmp_path: Path) -> None:
    runs = planned(lapa, tmp_path, **SPARSE | {"method": "hybrid", "classify.after": "finetune"})
    assert [run.stage.name for run in runs][:2] == ["pretrain", "finetune"]


@pytest.mark.training
def test_a_sparse_encoder_starts_no_trunk(task_runs: dict[str, list[Run]], lapa: Path, tmp_path: Path) -> None:
    start = {"method": "transfer", "finetune.start_from": str(task_runs["sparse_masking"][0].folder.path)}
    with pytest.raises(ConfigError, match=r"trained an encoder and no decoder\.\n.*finetune.transfer=encoder"):
        planned(lapa, tmp_path, "baseline_lapa_10pct", **start)
    assert planned(lapa, tmp_path, "baseline_lapa_10pct", **start | {"finetune.transfer": "encoder"})


def batch_of(count: int) -> dict[str, Any]:
    return {"image": torch.randn(count, 3, 32, 32), "noise_seed": torch.arange(count), "id": list("abcdef"[:count])}


def test_the_noise_is_what_was_added() -> None:
    module: Any = Denoising("tu-test_efficientnet", 16, 0.22, std=STD, **OPTIMIZATION)
    batch = batch_of(3)
    noise, image = module.noise(batch), batch["image"]
    noisy = module.add(noise, image)
    scale = 0.22 / (2 * torch.tensor(STD).view(1, 3, 1, 1))  # from -1..1 to the normalised range
    torch.testing.assert_close(noisy, (image + scale * noise) / (1 + scale**2).sqrt())
    torch.testing.assert_close(module.remove(noise, noisy), image)
    assert abs(noise.std() - 1) < 0.05
    single = {"image": image[2:], "noise_seed": torch.tensor([2])}
    assert torch.equal(module.noise(single)[0], noise[2]), "of the sample, in any batch"
    seen = []

    def predict(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return noise + 0.5

    module.forward = predict
    module.log = lambda *_, **__: None
    assert module.training_step(batch, 0).item() == pytest.approx(0.25), "the mean squared error of the noise"
    assert torch.equal(seen[0], noisy)
    module.score(batch)
    assert module.mean_loss.compute().item() == pytest.approx(0.25)
    error = (0.5 * scale * torch.tensor(STD).view(1, 3, 1, 1)).square().mean()
    assert module.squared_error.compute().item() == pytest.approx(error.item(), rel=1e-4)


def test_the_score_of_a_perfect_sparse_reconstruction() -> None:
    module: Any = SparseMasking("tu-test_efficientnet", 0.6, 8, 32, std=STD, **OPTIMIZATION)
    batch = batch_of(2)
    mask, image = module.mask(batch), batch["image"]
    units = image.unfold(2, 4, 4).unfold(3, 4, 4)  # [N, 3, U, U, u, u]
    mean, deviation = units.mean(dim=(1, 4, 5)), units.transpose(1, 3).flatten(3).std(dim=3).transpose(1, 2)
    grow = lambda values: values.repeat_interleave(4, 1).repeat_interleave(4, 2).unsqueeze(1)  # noqa: E731
    module.forward = lambda *_: (image - grow(mean)) / grow(deviation) + 10 * (1 - mask)
    module.score(batch)
    assert module.mean_loss.compute() < 1e-6
    assert module.squared_error.compute() < 1e-6
    shown = module.columns(batch)
    assert torch.equal(shown["masked"], image * (1 - mask))
    torch.testing.assert_close(shown["reconstruction"], image, rtol=1e-3, atol=1e-3)


def test_other_tasks_sample_no_patches(lapa: Path, tmp_path: Path) -> None:
    (run, _) = planned(lapa, tmp_path, **SPARSE)
    data: Any = run.stage.data(run)
    assert data.masking == PatchSampling.of("none", 32, 128, (32, 64))
