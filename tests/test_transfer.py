"""Runs that start from another run: which weights they take over, freeze and train."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from engine.stage import Run
from foundation.errors import ConfigError
from lightning_modules.parsing import FaceParsing
from tests.conftest import copied, run_training
from tests.training_runs import planned, weights


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
        ("finetune-0", {}, "finetune-0 is not a run folder"),
        ("elsewhere/best.ckpt", {}, "is not a run folder"),
        ("{finetune}", {"model.features": 8}, "was trained with model.features=16"),
        ("{pretrain}", {"finetune.transfer": "all"}, "has no parsing head"),
        (None, {}, "do not go together"),
        ("{finetune}", {"method": "baseline"}, "do not go together"),
        (None, {"method": "mtl", "finetune.transfer": "all"}, "a head that reconstructs cannot parse"),
    ],
)
def test_invalid_start_from(
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


@pytest.mark.training
@pytest.mark.parametrize(("trained", "still"), [("decoder", "model.trunk.encoder."), ("head", "model.trunk.")])
def test_frozen_weights_do_not_change(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, trained: str, still: str
) -> None:
    start = ("method=transfer", f"finetune.start_from={parser_runs[1].folder.path}", "finetune.transfer=all")
    words = (*start, f"finetune.trained={trained}", "finetune.epochs=1")
    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *words)
    before, after = weights(parser_runs[1]), weights(run)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(still) for name in moved), "statistics of the normalisation included"
    assert "model.head.weight" in moved
    assert any(name.startswith("model.trunk.decoder.") for name in moved) == (trained == "decoder")


def same_as(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, set[bool]]:
    """For a trunk's weights and statistics: the set of whether each is unchanged."""
    names = [name for name in after if name.startswith("model.trunk.") and before[name].is_floating_point()]
    return {
        kind: {torch.equal(after[name], before[name]) for name in names if name.endswith(kind)}
        for kind in ("weight", "running_mean")
    }


@pytest.mark.training
def test_frozen_epochs(parser_runs: list[Run], lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validated once, after the second epoch, when the trunk is still frozen; it is trained in the third."""
    ends: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(FaceParsing, "on_train_end", lambda self: ends.append(deepcopy(self.state_dict())))
    start = ("method=transfer", f"finetune.start_from={parser_runs[1].folder.path}", "finetune.transfer=all")
    words = ("finetune.frozen_epochs=2", "finetune.epochs=3", "finetune.validate_every=2")
    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *start, *words)
    before, kept, (end,) = weights(parser_runs[1]), weights(run), ends
    assert not torch.equal(kept["model.head.weight"], before["model.head.weight"])
    assert same_as(before, kept) == {"weight": {True}, "running_mean": {True}}
    assert same_as(before, end) == {"weight": {False}, "running_mean": {False}}


@pytest.mark.training
def test_kept_statistics(parser_runs: list[Run], lapa: Path, tmp_path: Path) -> None:
    start = ("method=transfer", f"finetune.start_from={parser_runs[1].folder.path}", "finetune.transfer=all")
    words = ("finetune.statistics=keep", "finetune.epochs=1")
    (run,) = run_training("baseline_lapa_10pct", lapa, tmp_path, *start, *words)
    before, after = weights(parser_runs[1]), weights(run)
    assert not torch.equal(after["model.head.weight"], before["model.head.weight"])
    assert same_as(before, after) == {"weight": {False}, "running_mean": {True}}


def test_trunk_learning_rate(parser_runs: list[Run]) -> None:
    best = torch.load(parser_runs[1].folder.best, weights_only=True)
    module = FaceParsing(**best["hyper_parameters"] | {"trunk_lr": 0.1})
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {len(group["params"]): group["initial_lr"] for group in groups}
    assert rates[2] == pytest.approx(10 * rates[max(rates)])
    assert sum(rates) == len(list(module.parameters()))
