"""SIGTERM and Ctrl-C: none is lost, whatever the interpreter is doing when it arrives."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import fitting
from foundation import interruption
from tests.commands import within
from tests.conftest import TINY


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGALRM]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Cycle:
    """An object that only the garbage collector removes, which then calls a function."""

    def __init__(self, called: Callable[[object], None]) -> None:
        self.own = self
        self.kept = weakref.ref(self, called)


def in_a_collection(number: int) -> None:
    """Send a signal to this process from a callback of its garbage collector, where exceptions are dropped."""
    keep = []
    cycle = Cycle(lambda _: os.kill(os.getpid(), number))
    keep.append(cycle.kept)
    del cycle.kept, cycle
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_collection_is_not_lost(number: int) -> None:
    with interruption.handled():
        in_a_collection(number)
        with pytest.raises(KeyboardInterrupt):
            list(interruption.checked([1, 2]))
    interruption.check()  # the next command of this process was not interrupted


def test_what_waits_is_interrupted_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "GRACE", 0.05)
    with interruption.handled():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(60)


def test_a_second_signal_does_not_wait() -> None:
    with interruption.handled():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.training
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sigterm_at_the_end_of_a_stage_starts_no_other(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bool] = []

    class Collector:
        @staticmethod
        def collect() -> None:
            if not sent:
                sent.append(True)
                in_a_collection(signal.SIGTERM)

    monkeypatch.setattr(fitting, "gc", Collector)
    words = ("pretrain.epochs=1", "finetune.epochs=1")
    finished = within("train.py", "experiment=mtl_lapa_10pct", *TINY, *words, f"datamodule.root={lapa}", cwd=tmp_path)
    assert sent
    assert finished.returncode == 130, finished.stderr
    assert "The same command resumes" in finished.stderr
    (status,) = (tmp_path / "outputs" / "runs").glob("*/status.json")
    assert json.loads(status.read_text())["state"] == "done"
    assert status.parent.name.startswith("pretrain-")
