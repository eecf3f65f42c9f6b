"""Whole runs: both stages, skipping, resuming, failing, and what they leave on disk."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from conf.schema import check
from engine.building import build_module
from engine.errors import BrokenFileError, ConfigError, DataError, RunError
from engine.fitting import _description
from engine.stages import Run, plan
from engine.training import train
from lightning_modules.parsing import FaceParsing
from lightning_modules.pretraining import MaskedPretraining
from tests.conftest import TINY, settings_of, wandb_records


def command(root: Path, output: Path, *overrides: str, experiment: str = "mtl_lapa_10pct") -> list[Run]:
    """Run a training command to its end; the runs that it consists of."""
    words = (f"experiment={experiment}", *TINY, f"datamodule.root={root}", f"output_dir={output}", *overrides)
    config = settings_of(*words)
    train(OmegaConf.create(config))
    return plan(check(config))


@pytest.fixture(scope="module")
def finished(lapa: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Both stages, trained without interruption."""
    return command(lapa, tmp_path_factory.mktemp("finished"))


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


def test_both_stages_leave_a_whole_run_folder(finished: list[Run]) -> None:
    for run in finished:
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
        assert status["parameters"] > 10e6
        assert status["images_per_second"] > 0
        assert status["seconds"] > 0
        assert status["peak_memory_mb"] > 100
        assert OmegaConf.load(run.folder.config).experiment == "mtl_lapa_10pct"
        assert run.folder.best.is_file()
        assert not run.folder.last.exists(), "the optimiser's state goes when the run is done"
        assert [int(row["step"]) for row in rows(run)] == [0, 1, 2, 3]
        assert all(float(row["train/loss"]) > 0 for row in rows(run))
        assert sorted(path.name for path in run.folder.panels.glob("*.png")) == ["epoch_0001.png", "epoch_0002.png"]
    pretrain, finetune = finished
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


def test_best_is_plain_and_holds_what_it_takes_to_rebuild(finished: list[Run]) -> None:
    best = torch.load(finished[0].folder.best, weights_only=True)
    module = MaskedPretraining(**best["hyper_parameters"])
    module.load_state_dict(best["state_dict"])
    assert json.loads(json.dumps(best["hyper_parameters"])) == best["hyper_parameters"]
    assert best["id"] == finished[0].id


def test_best_is_the_best_by_validation(finished: list[Run]) -> None:
    finetune = finished[1]
    scores = [float(row["val/miou"]) for row in rows(finetune) if row["val/miou"]]
    assert len(scores) == 2
    assert finetune.folder.status["metrics"]["val/miou"] == pytest.approx(max(scores))
    assert torch.load(finetune.folder.best, weights_only=True)["epoch"] == 1 + scores.index(max(scores))


def transfer_plan(root: Path, output: Path, *words: str) -> list[Run]:
    overrides = ("experiment=baseline_lapa_10pct", *TINY, "method=transfer", f"datamodule.root={root}")
    return plan(check(settings_of(*overrides, f"output_dir={output}", *words)))


def test_a_run_can_start_from_another(finished: list[Run], lapa: Path, tmp_path: Path) -> None:
    pretrain, finetune = finished
    start = f"finetune.start_from={finetune.folder.path}"
    parts = {part: transfer_plan(lapa, tmp_path, start, f"finetune.transfer={part}") for part in ("trunk", "all")}
    other = transfer_plan(lapa, tmp_path, f"finetune.start_from={pretrain.folder.path}")
    assert len({run.id for (run,) in (*parts.values(), other)}) == 3
    trained = weights(finetune)
    for part, (run,) in parts.items():
        assert run.identity["upstream"] == finetune.id
        for name, value in build_module(run).state_dict().items():
            if name.startswith("model.trunk.") or (part == "all" and name.startswith("model.head.")):
                assert torch.equal(value, trained[name]), name
            elif name.startswith("model.head.weight"):
                assert not torch.equal(value, trained[name]), name
    (by_name,) = transfer_plan(lapa, finetune.folder.output_dir, f"finetune.start_from={finetune.folder.name}")
    assert by_name.id == parts["trunk"][0].id


def test_a_run_is_labelled_with_the_masking_of_the_pretraining_that_it_starts_from(
    finished: list[Run], lapa: Path, tmp_path: Path
) -> None:
    pretrain, finetune = finished
    for start, masking in ((pretrain, "central"), (finetune, None)):
        words = (f"finetune.start_from={start.folder.path}", "pretrain.masking=random")
        (run,) = transfer_plan(lapa, tmp_path, *words)
        assert _description(run, attempt=1)["masking"] == masking
    for run in plan(check(settings_of("experiment=mtl_lapa", f"datamodule.root={lapa}", f"output_dir={tmp_path}"))):
        assert _description(run, attempt=1)["masking"] == "central", "not trained yet"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("finetune.start_from=finetune-0",), "finetune-0 is no run folder"),
        (("finetune.start_from=elsewhere/best.ckpt",), "is no run folder"),
        (("finetune.start_from={finetune}", "model.features=8"), "was trained with model.features=16"),
        (("finetune.start_from={pretrain}", "finetune.transfer=all"), "has none for parsing"),
        ((), "do not go together"),
        (("method=baseline", "finetune.start_from={finetune}"), "do not go together"),
        (("method=mtl", "finetune.transfer=all"), "a head that reconstructs cannot parse"),
    ],
)
def test_what_a_run_cannot_start_from(
    words: tuple[str, ...], message: str, finished: list[Run], lapa: Path, tmp_path: Path
) -> None:
    places = {run.stage.name: run.folder.path for run in finished}
    with pytest.raises(ConfigError, match=message):
        transfer_plan(lapa, tmp_path, *(word.format(**places) for word in words))


def test_fine_tuning_starts_from_the_pretrained_trunk(finished: list[Run]) -> None:
    pretrain, finetune = finished
    start = build_module(finetune).state_dict()
    handed_over = weights(pretrain)
    trunk = [name for name in start if ".trunk." in name]
    assert len(trunk) > 200
    assert all(torch.equal(start[name], handed_over[name]) for name in trunk)


def test_what_is_done_is_skipped(
    finished: list[Run], lapa: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("engine.fitting.fit", refuse)
    again = command(lapa, finished[0].folder.output_dir)
    assert [run.id for run in again] == [run.id for run in finished]
    assert capsys.readouterr().out.count("Done already") == 2


def test_same_configuration_same_numbers(finished: list[Run], lapa: Path, tmp_path: Path) -> None:
    again = command(lapa, tmp_path, "datamodule.workers=1", "datamodule.eval_batch_size=3")
    for first, second in zip(finished, again, strict=True):
        assert first.id == second.id
        assert_same_weights(first, second)
        assert [row["train/loss"] for row in rows(first)] == [row["train/loss"] for row in rows(second)]
    for name, value in finished[1].folder.status["metrics"].items():
        assert again[1].folder.status["metrics"][name] == pytest.approx(value, rel=1e-5, nan_ok=True), name


@pytest.mark.parametrize("stage", ["MaskedPretraining", "FaceParsing"])
@pytest.mark.parametrize(("step", "workers"), [(1, 0), (2, 2), (3, 0), (3, 1)])
def test_interrupted_and_resumed_equals_uninterrupted(
    finished: list[Run],
    lapa: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    step: int,
    workers: int,
) -> None:
    """Ctrl-C in the first epoch, at the start of the second and within it; with workers that fetch ahead."""
    modules: dict[str, Any] = {"MaskedPretraining": MaskedPretraining, "FaceParsing": FaceParsing}
    with interrupted_at(monkeypatch, modules[stage], step):
        command(lapa, tmp_path, f"datamodule.workers={workers}")
    index = ["MaskedPretraining", "FaceParsing"].index(stage)
    config = settings_of("experiment=mtl_lapa_10pct", *TINY, f"datamodule.root={lapa}", f"output_dir={tmp_path}")
    assert plan(check(config))[index].folder.state == "interrupted"

    resumed = command(lapa, tmp_path, f"datamodule.workers={workers}")
    for first, second in zip(finished, resumed, strict=True):
        assert_same_weights(first, second)
        assert first.folder.curves.read_bytes() == second.folder.curves.read_bytes()
        assert first.folder.status["metrics"] == pytest.approx(second.folder.status["metrics"], nan_ok=True, rel=0)
    assert resumed[index].folder.status["attempts"] == 2


def test_force_trains_again_and_keeps_the_earlier_run(lapa: Path, tmp_path: Path) -> None:
    (run,) = command(lapa, tmp_path, experiment="baseline_lapa_10pct")
    before = weights(run)
    (again,) = command(lapa, tmp_path, "force=true", experiment="baseline_lapa_10pct")
    assert again.id == run.id
    aside = tmp_path / "replaced" / f"{run.folder.name}-1"
    kept = torch.load(aside / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, weights(again)[name]) for name, value in kept.items())
    assert kept.keys() == before.keys()


def test_force_starts_anew_what_was_interrupted(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with interrupted_at(monkeypatch, FaceParsing, 3):
        command(lapa, tmp_path, experiment="baseline_lapa_10pct")
    (run,) = command(lapa, tmp_path, "force=true", experiment="baseline_lapa_10pct")
    aside = tmp_path / "replaced" / f"{run.folder.name}-1"
    assert (aside / "checkpoints" / "last.ckpt").is_file(), "nothing is deleted"
    assert run.folder.status["attempts"] == 2, "attempts count on, so that no W&B run is written over"
    assert [int(row["step"]) for row in rows(run)] == [0, 1, 2, 3]
    assert [entry["attempt"] for entry in run.folder.status["history"]] == [2]


def test_a_finished_fine_tuning_does_not_want_its_pretraining_back(
    finished: list[Run], lapa: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = Path(shutil.copytree(finished[0].folder.output_dir, tmp_path / "out"))
    (copy / "runs" / finished[0].folder.name / "checkpoints" / "best.ckpt").unlink()
    command(lapa, copy, "dry_run=true")
    assert "not needed" in capsys.readouterr().out
    command(lapa, copy)
    assert capsys.readouterr().out.count("Done already") == 1
    assert not (copy / "runs" / finished[0].folder.name / "checkpoints" / "best.ckpt").exists()


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
        command(copy, tmp_path / "out", experiment="baseline_lapa_10pct")
    (status,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*/status.json")]
    assert status["state"] == "failed"
    assert not list((tmp_path / "out").rglob("*.ckpt")), "or the same data put back would find it finished"


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_picture_fails_the_run_by_name_and_nothing_is_lost(lapa: Path, tmp_path: Path, workers: int) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    victim = sorted((copy / "test" / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-100])  # its head, which is looked at first, stays whole
    with pytest.raises(DataError, match=victim.name) as caught:
        command(copy, tmp_path / "out", f"datamodule.workers={workers}", experiment="baseline_lapa_10pct")
    assert "Traceback" not in str(caught.value)
    (status,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*/status.json")]
    assert status["state"] == "failed"
    assert victim.name in status["error"]
    assert list((tmp_path / "out" / "runs").glob("*/checkpoints/last.ckpt")), "the training itself is kept"


def test_interrupt_in_the_middle_of_a_write_is_an_interrupt(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save turns an interrupt within it into an error of its own."""
    from engine import checkpoints

    def broken(*_: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos")

    monkeypatch.setattr(checkpoints.torch, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        command(lapa, tmp_path, experiment="baseline_lapa_10pct")
    (status,) = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/status.json")]
    assert status["state"] == "interrupted"
    assert not list((tmp_path / "runs").glob("*/checkpoints/*"))


def test_resume_of_an_encoder_that_draws_numbers_itself(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("model.encoder=efficientnet-b0",)
    (whole,) = command(lapa, tmp_path / "whole", *words, experiment="baseline_lapa_10pct")
    with interrupted_at(monkeypatch, FaceParsing, 3):
        command(lapa, tmp_path / "broken", *words, experiment="baseline_lapa_10pct")
    (resumed,) = command(lapa, tmp_path / "broken", *words, experiment="baseline_lapa_10pct")
    assert_same_weights(whole, resumed)


def test_damaged_files_are_named(finished: list[Run], lapa: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished[0].folder.output_dir, tmp_path / "out"))
    (copy / "cache" / "digests.sqlite").write_bytes(b"rubbish" * 100)
    command(lapa, copy)  # a damaged cache is made anew
    pretrain, finetune = (copy / "runs" / run.folder.name for run in finished)
    (pretrain / "checkpoints" / "best.ckpt").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"best\.ckpt cannot be read"):
        command(lapa, copy, "finetune.seed=5")
    (finetune / "status.json").write_text("[]")
    with pytest.raises(DataError, match=r"status\.json cannot be read"):
        command(lapa, copy)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.encoder=resnet99",), "Did you mean resnet"),
        (("model.encoder=mit_b0",), "does not fit"),
        (("callbacks.activations.classes=[hiar]",), "lapa has no class hiar.*\n.*Did you mean hair"),
        (("trainer.accelerator=mps",), "trainer: "),
        (("output_dir=/proc/nowhere",), "output_dir=/proc/nowhere"),
    ],
)
def test_what_this_machine_or_model_cannot_do_is_said(
    lapa: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        command(lapa, tmp_path, *words)


def test_a_lock_is_free_once_its_stage_is_done(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other fine-tunings wait for the pre-training they share, and for nothing more."""
    from engine import fitting

    seen = {}
    original = fitting.fit

    def watched(run: Run, config: dict[str, Any]) -> None:
        if run.upstream is not None:
            with run.upstream.lock().acquire(timeout=0):
                seen[run.upstream.name] = "free"
        original(run, config)

    monkeypatch.setattr(fitting, "fit", watched)
    runs = command(lapa, tmp_path)
    assert seen == {runs[0].folder.name: "free"}


def test_running_with_a_free_lock_means_interrupted(lapa: Path, tmp_path: Path) -> None:
    config = settings_of("experiment=mtl_lapa_10pct", *TINY, f"datamodule.root={lapa}", f"output_dir={tmp_path}")
    folder = plan(check(config))[0].folder
    assert folder.state == "new"
    folder.write_status(state="running")
    assert folder.state == "interrupted"
    with folder.lock():
        assert folder.state == "running"


@pytest.mark.parametrize(
    "overrides",
    [
        ("finetune.transfer=encoder", "finetune.loss=ce", "finetune.score_at=input", "pretrain.loss=l1"),
        ("recipe=paper", "pretrain.masking=random", "pretrain.loss_over=image", "pretrain.fill=noise"),
        (
            "trainer.precision=bf16-mixed",
            "trainer.channels_last=true",
            "pretrain.loss_over=masked",
            "pretrain.fill=mean",
        ),
        ("pretrain.masking=adaptive", "pretrain.patches=16", "finetune.trained=decoder"),
        ("pretrain.masking=random", "pretrain.contrastive=0.5", "finetune.trained=head"),
        ("pretrain.contrastive=0.1", "finetune.trunk_lr=0.1", "finetune.optimizer.name=sgd"),
        ("pretrain.steps_per_epoch=null", "pretrain.batch_size=6", "pretrain.reduction=sum", "pretrain.epochs=1"),
    ],
)
def test_every_choice_trains(lapa: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    runs = command(lapa, tmp_path, *overrides)
    assert all(run.folder.done for run in runs)
    if "pretrain.steps_per_epoch=null" in overrides:
        assert len(rows(runs[0])) == 6, "32 faces in batches of 6, the last one smaller"


def test_wandb_runs_are_written_offline_beside_the_run(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs = command(lapa, tmp_path, "logger=wandb", "finetune.epochs=1", "pretrain.epochs=1")
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


@pytest.mark.parametrize(("trained", "still"), [("decoder", "model.trunk.encoder."), ("head", "model.trunk.")])
def test_what_is_not_trained_stays_to_the_bit(
    finished: list[Run], lapa: Path, tmp_path: Path, trained: str, still: str
) -> None:
    start = ("method=transfer", f"finetune.start_from={finished[1].folder.path}", "finetune.transfer=all")
    words = (*start, f"finetune.trained={trained}")
    (run,) = command(lapa, tmp_path, *words, experiment="baseline_lapa_10pct")
    before, after = weights(finished[1]), weights(run)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(still) for name in moved), "statistics of the normalisation included"
    assert "model.head.weight" in moved
    assert any(name.startswith("model.trunk.decoder.") for name in moved) == (trained == "decoder")


@pytest.mark.parametrize(
    ("words", "still"),
    [
        # Validated once, after the second epoch: what is kept is what the trunk was then.
        (("finetune.frozen_epochs=2", "finetune.epochs=3", "finetune.validate_every=2"), {"running_mean", "weight"}),
        (("finetune.frozen_epochs=1", "finetune.epochs=2", "finetune.validate_every=2"), set()),
        (("finetune.statistics=keep",), {"running_mean"}),
    ],
)
def test_a_trunk_can_wait_and_keep_its_statistics(
    finished: list[Run], lapa: Path, tmp_path: Path, words: tuple[str, ...], still: set[str]
) -> None:
    start = ("method=transfer", f"finetune.start_from={finished[1].folder.path}", "finetune.transfer=all")
    (run,) = command(lapa, tmp_path, *start, *words, experiment="baseline_lapa_10pct")
    before, after = weights(finished[1]), weights(run)
    assert not torch.equal(after["model.head.weight"], before["model.head.weight"])
    names = [name for name in after if name.startswith("model.trunk.") and before[name].is_floating_point()]
    for kind in ("running_mean", "weight"):
        same = {torch.equal(after[name], before[name]) for name in names if name.endswith(kind)}
        assert same == {kind in still}, kind


def test_the_trunk_can_learn_slower_than_the_head(finished: list[Run]) -> None:
    best = torch.load(finished[1].folder.best, weights_only=True)
    module = FaceParsing(**best["hyper_parameters"] | {"trunk_lr": 0.1})
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {len(group["params"]): group["initial_lr"] for group in groups}
    assert rates[2] == pytest.approx(10 * rates[max(rates)])
    assert sum(rates) == len(list(module.parameters()))


def test_a_training_that_diverges_has_failed(lapa: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is nan after epoch 1: the training diverged\.\n.*finetune\.optimizer\.lr"):
        command(lapa, tmp_path, "finetune.optimizer.lr=1e30", experiment="baseline_lapa_10pct")
    (file,) = tmp_path.glob("runs/*/status.json")
    assert json.loads(file.read_text())["state"] == "failed"
    assert not list(tmp_path.glob("runs/*/checkpoints/best.ckpt"))


def test_a_broken_label_map_of_a_test_face_is_met_before_training(lapa: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    victim = sorted((copy / "test" / "labels").iterdir())[-1]
    victim.write_bytes(b"")
    with pytest.raises(BrokenFileError, match=victim.name):
        command(copy, tmp_path / "outputs", experiment="baseline_lapa_10pct")
    assert not list(tmp_path.glob("outputs/runs/*/checkpoints/last.ckpt"))
