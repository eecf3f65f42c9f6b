"""A segmenter that was interrupted has the curves of an uninterrupted one: one row a step, none lost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lightning_modules.occlusion import OcclusionSegmentation
from tests.conftest import run_training
from tests.test_training import interrupted_at

WORDS = ("segment.epochs=4", "callbacks.panels=null", "callbacks.group_panels=null", "segment.width=4")


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
