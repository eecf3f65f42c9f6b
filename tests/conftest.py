"""Data that tests share: drawn faces in published layouts, and real ones where they are present."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_MODE", "offline")

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from conf.schema import CONF
from datamodules.synthesis.dataset import write_drawn_faces
from datamodules.synthesis.masked_faces import MaskedFaces, write_masked_faces
from datamodules.synthesis.masks import MaskChoices

if threading.current_thread() is threading.main_thread():
    # A shell has its background jobs ignore Ctrl-C, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent

LONG = ("test_processes.py", "test_sweeps.py", "test_faults.py", "test_export.py", "test_evaluation.py")
"""Files that go first, the longest of few tests: the last would keep one of two test processes busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the others stay in their order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


TINY = (
    "scale=demo",
    "logger=none",
    "trainer=cpu",
    "datamodule.image_size=32",
    "datamodule.workers=0",
    "pretrain.epochs=2",
    "pretrain.steps_per_epoch=2",
    "pretrain.batch_size=4",
    "finetune.epochs=2",
    "finetune.steps_per_epoch=2",
    "finetune.batch_size=4",
)
"""Overrides with which every stage trains in a second or two."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """No test depends on what others drew before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def lapa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn faces of 64 px in LaPa's layout: 32 train, 4 val, 4 test. Read only."""
    folder = tmp_path_factory.mktemp("data") / "LaPa"
    write_drawn_faces(folder, layout="lapa", count=40, size=64, seed=3, workers=1)
    return folder


@pytest.fixture(scope="session")
def celebamask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn faces of 64 px in CelebAMask-HQ's layout: 32 train, 4 val, 4 test. Read only."""
    folder = tmp_path_factory.mktemp("data") / "CelebAMask-HQ"
    write_drawn_faces(folder, layout="celebamask_hq", count=40, size=64, seed=3, workers=1)
    return folder


@pytest.fixture(scope="session")
def masked(lapa: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty of those drawn faces, most with drawn masks, as an augmented set of 64 px: 28, 4, 8. Read only."""
    folder = tmp_path_factory.mktemp("data") / "AugmentedCelebA"
    choices = MaskChoices(bare=0.2)
    write_masked_faces(folder, MaskedFaces(lapa, count=40, seed=5, choices=choices), workers=1)
    return folder


@pytest.fixture(scope="session")
def face_data() -> Path:
    """The folder of real faces that the environment variable FACE_DATA names; tests skip without it."""
    folder = Path(os.environ.get("FACE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "real" / "LaPa" / "train").is_dir():
        pytest.skip("no real faces: FACE_DATA names no folder that holds real/LaPa")
    return folder


def settings_of(*overrides: str) -> dict:
    """The composed training configuration with overrides, as plain values."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def start_training(
    *words: str,
    launcher: Sequence[str] = (sys.executable,),
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """``train.py`` as a process of its own, under way; what it shows, errors included, comes through its stdout."""
    return subprocess.Popen(
        [*launcher, str(ROOT / "train.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=os.environ | (environment or {}),
    )


def wandb_records(folder: Path) -> list[dict[str, Any]]:
    """What an offline W&B run holds, read by W&B's own tool."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
