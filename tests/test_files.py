"""Atomic writing: a file is complete or absent, also if the writer fails or is killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foundation.files import atomic_path, atomic_write, remove_drafts, write_text_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted(path: Path, exclusive: bool) -> None:
    with atomic_write(path, exclusive=exclusive) as file:
        file.write(b"half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_exception_keeps_the_old_file(tmp_path: Path, exclusive: bool) -> None:
    path = tmp_path / "new folder" / "a.txt"
    write_text_atomically(path, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path, exclusive)
    assert path.read_text() == "old"
    with atomic_write(path, sync=False, exclusive=exclusive) as file:
        file.write(b"new")
        assert path.read_text() == "old", "readers see the old content until all is written"
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


def test_an_exclusive_write_replaces_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.tmp").write_bytes(b"half")
    with atomic_write(tmp_path / "a.txt", exclusive=True) as file:
        file.write(b"new")
    assert names(tmp_path) == ["a.txt"]


def write_and_fail(path: Path) -> None:
    with atomic_path(path) as draft:
        draft.mkdir()
        (draft / "half").touch()
        raise ValueError("broken")


def test_a_writer_that_takes_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for content in ("old", "new"):
        with atomic_path(path, draft_name="network.onnx") as draft:
            draft.write_text(content)
            draft.with_suffix(".merged").write_text("a file that the writer needs on its way")
            assert draft.name == "network.onnx"
    with pytest.raises(ValueError, match="broken"):
        write_and_fail(path)
    with atomic_path(path):
        pass  # nothing written, nothing changed
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.onnx"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for name in ("old", "new"):
        with atomic_path(folder) as draft:
            draft.mkdir()
            (draft / name).touch()
    with pytest.raises(ValueError, match="broken"):
        write_and_fail(folder)
    assert names(folder) == ["new"]
    assert names(tmp_path) == ["run"]


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    below = tmp_path / "below"
    (below / f".[b].{os.getpid()}.tmp").mkdir(parents=True)
    (below / f".[b].{os.getpid()}.tmp" / "half").touch()
    for name in (".a.txt.1.tmp", ".b.txt.1.tmp", "c.tmp"):
        (tmp_path / name).touch()
    remove_drafts(tmp_path, "a.txt")
    assert names(tmp_path) == [".b.txt.1.tmp", "below", "c.tmp"]
    remove_drafts(tmp_path)
    assert names(tmp_path) == ["below", "c.tmp"]
    remove_drafts(below, "[b]")
    assert not names(below)
    (below / ".d.2.tmp").touch()
    remove_drafts(tmp_path, recursive=True)
    assert not names(below)
    remove_drafts(tmp_path / "absent")
