"""A segmenter or head that was interrupted has the curves of an uninterrupted one: one row a step, none lost."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from engine.stage import Run
from lightning_modules.occlusion import OcclusionSegmentation
from stages import fitted_heads
from tests.conftest import PANELS, copied, run_training
from tests.training_runs import interrupted_at

WORDS = ("segment.epochs=4", *PANELS[2:], "segment.width=4")


@pytest.mark.training
def test_interrupted_and_resumed(masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the third of four epochs of two steps."""
    words = ("occlusion_celeba", masked)
    (complete,) = run_training(*words, tmp_path / "complete", *WORDS)
    with interrupted_at(monkeypatch, OcclusionSegmentation, 5):
        run_training(*words, tmp_path / "resumed", *WORDS)
    (resumed,) = run_training(*words, tmp_path / "resumed", *WORDS)
    assert resumed.folder.status["attempts"] == 2
    with complete.folder.curves.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(8))
    assert [bool(row["train/accuracy"]) for row in rows] == 4 * [False, True]
    assert resumed.folder.curves.read_bytes() == complete.folder.curves.read_bytes()
    assert resumed.folder.status["metrics"] == complete.folder.status["metrics"]


@pytest.mark.training
def test_a_fitted_head_that_was_interrupted_has_each_row_once(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head is fitted again from its start: its validation scores are logged once."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    copied(parser_runs, tmp_path)
    words = ("svm_lapa", lapa, tmp_path, "label_fraction=0.1", "classify.head=conv")
    with monkeypatch.context() as patch:
        patch.setattr(fitted_heads, "save", interrupted)  # after the validation
        with pytest.raises(KeyboardInterrupt):
            run_training(*words)
    *_, run = run_training(*words)
    assert run.stage.name == "classify"
    assert run.folder.status["attempts"] == 2
    with run.folder.curves.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
