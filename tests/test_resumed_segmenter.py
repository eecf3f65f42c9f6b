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
@pytest.mark.parametrize(
    ("model", "step"),
    [("modified_unet", 5), ("map_module", 10)],  # the second has two optimisers, which count two steps a batch
)
def test_interrupted_and_resumed(
    model: str, step: int, masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the third of four epochs of two steps."""
    words = ("occlusion_celeba", masked)
    (complete,) = run_training(*words, tmp_path / "complete", *WORDS, f"model={model}")
    with interrupted_at(monkeypatch, OcclusionSegmentation, step):
        run_training(*words, tmp_path / "resumed", *WORDS, f"model={model}")
    (resumed,) = run_training(*words, tmp_path / "resumed", *WORDS, f"model={model}")
    assert resumed.folder.status["attempts"] == 2
    with complete.folder.curves.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(8))
    if model == "modified_unet":
        assert [bool(row["train/accuracy"]) for row in rows] == 4 * [False, True]
    assert resumed.folder.curves.read_bytes() == complete.folder.curves.read_bytes()
    assert resumed.folder.status["metrics"] == complete.folder.status["metrics"]
