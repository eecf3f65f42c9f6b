"""Places that cannot be read or written, and what killed processes leave there."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from datamodules.layouts.layout import files_below
from engine.validation import explain_overrides
from foundation.child_processes import end_with_parent
from foundation.digests import DigestCache
from foundation.errors import ConfigError, RunError, explained
from foundation.files import atomic_path, remove_drafts, require_folder
from tests.commands import Forked, within

FORK = multiprocessing.get_context("fork")
MESSAGE = "cannot be written to: Read-only file system"


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a file system that is mounted read-only."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    original = tempfile.TemporaryFile

    def refuse(*arguments: Any, **named: Any) -> Any:
        if Path(named.get("dir") or ".").is_relative_to(folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
        return original(*arguments, **named)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    return folder


@pytest.mark.parametrize(
    ("script", "words", "key"),
    [
        ("train.py", ["experiment=mtl_lapa_1pct", "datamodule.root={lapa}"], "output_dir"),
        ("predict.py", ["checkpoint=finetune-000000000000", "input={lapa}/test/images"], "out"),
        ("prepare.py", ["task=audit", "dataset=lapa", "root={lapa}"], "out"),
        ("prepare.py", ["task=compare_datasets", "a={lapa}", "b={lapa}"], "out"),
        ("prepare.py", ["task=synthetic_faces", "count=10"], "out"),
    ],
)
def test_one_message_before_any_work(
    script: str, words: list[str], key: str, lapa: Path, read_only: Path, tmp_path: Path
) -> None:
    out = read_only / "new" if "task=synthetic_faces" in words else read_only
    finished = within(script, *(word.format(lapa=lapa) for word in words), f"{key}={out}", cwd=tmp_path)
    assert finished.returncode == 2
    assert f"{key}={read_only} {MESSAGE}" in finished.stderr
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    assert not list(read_only.iterdir())


def test_a_report_that_cannot_be_written(output_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    finished = within("report.py", f"output_dir={output_dir}", cwd=output_dir)
    assert finished.returncode == 2
    assert "The report cannot be written" in finished.stderr


@pytest.mark.parametrize("script", ["train.py", "prepare.py"])
def test_a_split_that_cannot_be_read(script: str, lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, closed = os.scandir, str(lapa / "val" / "images")

    def scandir(path: Any = ".") -> Any:
        if str(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), closed)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    words = {
        "train.py": ["experiment=baseline_lapa_10pct", f"datamodule.root={lapa}"],
        "prepare.py": ["task=audit", "dataset=lapa", f"root={lapa}"],
    }
    finished = within(script, *words[script], cwd=tmp_path)
    assert finished.returncode == 2
    assert f"{closed}: Permission denied" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_within_a_run_it_is_an_error_of_the_run() -> None:
    reason = explained(PermissionError(errno.EACCES, "Permission denied", "/data/face.jpg"))
    assert isinstance(reason, RunError)
    assert "/data/face.jpg: Permission denied" in str(reason)


def test_options_of_hydras_groups_are_known() -> None:
    assert explain_overrides(["hydra/launcher=joblib", "hydra/sweeper=basic", "seed=1"], ["seed"]) is None


def dead_process() -> int:
    child = os.posix_spawnp("true", ["true"], os.environ)
    os.waitpid(child, 0)
    return child


def test_drafts_of_dead_processes_are_removed_where_others_write(tmp_path: Path) -> None:
    dead = dead_process()
    with atomic_path(tmp_path / "model.onnx") as draft:
        draft.touch()
        own = draft.parent
        machine = own.name.split(".")[-2].partition("-")[0]
        abandoned = tmp_path / f".model.onnx.{machine}-{dead}.tmp"
        abandoned.mkdir()
        (abandoned / "half").touch()
        elsewhere, old = (tmp_path / f".model.onnx.{name}-{dead}.tmp" for name in ("0badcafe", "01d01d01"))
        for file in (elsewhere, old):
            file.touch()
        os.utime(old, (time.time() - 2 * 86400,) * 2)
        require_folder(tmp_path, "out")
        assert sorted(tmp_path.iterdir()) == sorted([own, elsewhere])
    remove_drafts(tmp_path, shared=True)
    assert (tmp_path / "model.onnx").is_file()


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be created"):
        require_folder(tmp_path / "file", "out")


def test_a_damaged_digest_cache_costs_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "a.txt", tmp_path / "cache" / "digests.sqlite"
    file.write_text("content")

    def damaged(_: Any) -> Any:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with DigestCache(cache) as digests:
        expected = digests.of_file(file)
        monkeypatch.setattr(DigestCache, "_open", damaged)
    assert not cache.exists()
    monkeypatch.undo()
    with DigestCache(cache) as digests:
        assert digests.of_file(file) == expected


def _parent(pipe: Any) -> None:
    child = FORK.Process(target=_child)
    child.start()
    pipe.send(child.pid)
    child.join()


def _child() -> None:
    end_with_parent()
    time.sleep(60)


def assert_ended(processes: list[int]) -> None:
    end = time.monotonic() + 5
    while (left := [one for one in processes if lives(one)]) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left


def lives(process: int) -> bool:
    try:
        return (Path(f"/proc/{process}") / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.process
def test_a_child_ends_with_its_killed_parent() -> None:
    receiver, sender = FORK.Pipe(duplex=False)
    parent = FORK.Process(target=_parent, args=(sender,))
    parent.start()
    child = receiver.recv()
    time.sleep(0.5)
    assert lives(child)
    parent.kill()
    parent.join()
    assert_ended([child])


@pytest.mark.process
def test_processes_end_with_a_killed_prepare(tmp_path: Path) -> None:
    words = ("task=synthetic_faces", "layout=lapa", "count=3000", "size=64", "workers=2", f"out={tmp_path / 'LaPa'}")
    read, write = os.pipe()
    process = Forked("prepare.py", *words, cwd=tmp_path, output=write)
    os.close(write)
    end = time.monotonic() + 120
    while not list(tmp_path.glob("LaPa.partial/*/images/*.jpg")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait(10)
    os.set_blocking(read, False)
    end = time.monotonic() + 10
    while time.monotonic() < end:  # its pipe has no end until the last process that writes to it has ended
        with contextlib.suppress(BlockingIOError):
            if not os.read(read, 2**16):
                break
        time.sleep(0.02)
    else:
        pytest.fail("processes are left")
    os.close(read)


def test_a_folder_below_that_cannot_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()

    def scandir(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    assert files_below(tmp_path / "absent") == []
    assert files_below(tmp_path) == ["a.jpg"]
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError):
        files_below(tmp_path)
