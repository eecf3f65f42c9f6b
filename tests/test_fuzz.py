"""Mutated files: a few of every form through their readers, and what benchmarks.fuzz reports of readers that fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import main
from benchmarks.fuzzing import reading
from benchmarks.fuzzing.form import CANARY, OUTSIDE, Form
from benchmarks.fuzzing.forms import FORMS
from benchmarks.fuzzing.processes import outcomes
from benchmarks.fuzzing.reading import failures_of
from foundation.errors import DataError

FILES = 12


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_mutated_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    failures = failures_of(FORMS[name], tmp_path, range(FILES))
    assert not failures, "\n".join(failure.trace or str(failure) for failure in failures)


@pytest.mark.parametrize("name", ["status.json", "fmld.xml", "image_jpg", "masks.cfg"])
def test_a_seed_always_gives_the_same_file(name: str) -> None:
    form, originals = FORMS[name], FORMS[name].originals()
    contents = [form.content(seed, originals) for seed in range(20)]
    assert contents == [form.content(seed, originals) for seed in range(20)]
    assert len(set(contents)) > 15


def form_read_by(reader: Callable[[Path], object]) -> Form:
    return Form("mine", "a.txt", lambda: [b"text 123"], {"reader": reader})


def raises(error: Exception) -> Callable[[Path], object]:
    def reader(_: Path) -> None:
        raise error

    return reader


def kinds(reader: Callable[[Path], object], folder: Path) -> list[str]:
    return [failure.kind for failure in failures_of(form_read_by(reader), folder, range(1))]


def test_exceptions_of_the_project_alone_are_fine(tmp_path: Path) -> None:
    assert kinds(raises(DataError("no")), tmp_path / "a") == []
    assert kinds(raises(KeyError("no")), tmp_path / "b") == ["KeyError"]


def test_readers_that_open_other_files_are_found(tmp_path: Path) -> None:
    assert kinds(lambda root: (root / "a.txt").read_text(errors="replace"), tmp_path / "a") == []
    assert kinds(lambda _: Path("/etc/passwd").read_text(), tmp_path / "b") == ["outside"]
    assert kinds(lambda root: (root.parent / OUTSIDE / f"{CANARY}.txt").read_bytes(), tmp_path / "c") == ["outside"]


def test_files_that_libraries_open_by_themselves_are_found(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    assert kinds(lambda root: cv2.imread(str(root.parent / OUTSIDE / f"{CANARY}.png")), tmp_path) == ["outside"]


def test_readers_that_start_processes_are_found(tmp_path: Path) -> None:
    assert kinds(lambda _: os.system("true"), tmp_path) == ["outside"]  # noqa: S605, S607


def test_slow_readers_are_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 0.05)
    assert kinds(lambda _: time.sleep(5), tmp_path) == ["slow"]


@pytest.mark.process
def test_crashes_and_large_allocations_cost_one_file() -> None:
    def reader(root: Path) -> None:
        if (root / "a.txt").read_bytes() == b"":
            os._exit(3)

    form = form_read_by(reader)
    found = dict(outcomes(form, range(120)))
    crashed = [seed for seed, outcome in found.items() if outcome.failures]
    assert crashed == [seed for seed in range(120) if form.content(seed, form.originals()) == b""]
    assert crashed
    assert {failure.kind for seed in crashed for failure in found[seed].failures} == {"crash"}
    ((_, large),) = outcomes(form_read_by(lambda _: np.ones(3 << 30, np.uint8)), range(1))
    assert [failure.kind.endswith("MemoryError") for failure in large.failures] == [True]


@pytest.mark.process
def test_command_prints_a_table_and_makes_one_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FORMS, "mine", form_read_by(raises(KeyError("lost"))))
    monkeypatch.setattr("sys.argv", ["fuzz", "only=mine", "count=3"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "mine (reader), 3 files: KeyError: 'lost'" in shown
    assert "python -m benchmarks.fuzz only=mine seed=0" in shown
    monkeypatch.setattr("sys.argv", ["fuzz", "only=mine", "seed=2"])
    with pytest.raises(SystemExit):
        main()
    form = FORMS["mine"]
    assert (tmp_path / "outputs/fuzz/mine-2/a.txt").read_bytes() == form.content(2, form.originals())
    assert "Traceback" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["only=absent"], ["seed=3"], ["count=many"], ["fast"]])
def test_command_refuses_other_words(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["fuzz", *words])
    with pytest.raises(SystemExit, match="is invalid"):
        main()
