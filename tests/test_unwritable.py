"""Places that cannot be written to: one message before any work, and finished results that are only read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from curation.comparison import write_comparison
from engine.stage import Run
from foundation.errors import ConfigError
from synthesis.synthetic_faces import write_synthetic_faces
from tests.conftest import copied, run_training


def test_an_output_folder_that_takes_no_files_is_named(lapa: Path, tmp_path: Path) -> None:
    for name in ("locks", "cache"):
        (tmp_path / name).touch()  # in place of the folder, which also root cannot make then
    with pytest.raises(ConfigError, match=rf"output_dir={tmp_path} cannot be written: .*\n.*you may make files"):
        run_training("mtl_lapa_10pct", lapa, tmp_path)


def test_finished_runs_need_no_writing(
    parser_runs: list[Run], lapa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in copied(parser_runs, tmp_path):
        run.folder.last.mkdir()  # which cannot be removed as a file
    run_training("mtl_lapa_10pct", lapa, tmp_path)
    assert capsys.readouterr().out.count("Done already") == 2


def test_a_folder_that_takes_no_data_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    monkeypatch.setattr("foundation.files.make_writable", refused)
    with pytest.raises(ConfigError, match=rf"out={tmp_path} cannot be written to.*\nIt must be a folder"):
        write_synthetic_faces(tmp_path / "LaPa", layout="lapa", count=10, size=64, seed=0, workers=1)
    with pytest.raises(ConfigError, match="cannot be written to"):
        write_comparison([tmp_path] * 2, ["train", "test"], tmp_path, images=2, values=2, permutations=1, seed=0)
    assert list(tmp_path.iterdir()) == []
