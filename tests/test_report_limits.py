"""What the report leaves out of its pages and files: what is heavy, a machine's paths, formulas; and where it fails."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from callbacks.confusion import write_confusion
from foundation.errors import ConfigError, DataError
from foundation.files import to_csv
from foundation.recorded_runs import read_runs
from reports import comparisons, figures, limits, payload, run_pages
from reports.embedded_images import EmbeddedImages, embed
from reports.page import write_report
from tests.commands import ROOT, within
from tests.run_folders import write_run


def aged(folder: Path, seconds: int) -> None:
    os.utime(folder / "status.json", (1_700_000_000 - seconds,) * 2)


def test_images_and_curves_are_of_the_newest_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.illustrated, "__defaults__", (2,))
    monkeypatch.setattr(run_pages, "ILLUSTRATED_PAGES", 3)
    monkeypatch.setattr(limits, "ILLUSTRATED_PAGES", 3)
    for number in range(5):
        aged(write_run(tmp_path, "finetune", f"run{number}", seed=number, method="baseline"), number)
    monkeypatch.setattr(payload, "DETAILED", 2)
    page = write_report(tmp_path)
    html = page.read_text()
    assert "Images, confusion matrices and commands are of the newest 2 of 5 runs." in html
    assert "The pages of the newest 3 runs have images." in html
    found = data_of(page)["runs"]
    assert {run["id"]: "splits" in run for run in found} == {f"run{number}": number < 2 for number in range(5)}
    assert all("curves" in run for run in found)
    images = {number: (page.parent / "runs" / f"finetune-run{number}.html").read_text() for number in range(5)}
    assert [text.count("data:image/png") for text in images.values()] == [6, 6, 6, 0, 0]
    assert "Only the pages of the newest" in images[4]
    assert "train/loss" in images[4], "curves are on every page"
    assert all(f'id="finetune-run{number}"' in html for number in range(5)), "each run is listed without scripts too"


def data_of(page: Path) -> dict[str, Any]:
    """The data that a page holds."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_small_report_leaves_nothing_out(output_dir: Path) -> None:
    assert data_of(write_report(output_dir))["left_out"] == []


def test_images_fit_in_the_page_newest_first(tmp_path: Path) -> None:
    for number in range(3):
        folder = write_run(tmp_path, "finetune", f"run{number}", seed=number, curves=False)
        Image.effect_noise((16, 16), 50 + number).convert("RGB").save(
            folder / "panels" / "test" / "face_01.prediction.png"
        )
    runs = read_runs(tmp_path)
    every = EmbeddedImages()
    embed(runs, every)
    assert len(every.images) == 5 + 3, "images that runs share are held once"
    some = EmbeddedImages(sum(len(content) for *_, content in every.images[:7]))
    found = embed(runs, some)
    assert [len(found[run.path.name].get("splits", {}).get("test", {}).get("face_01", ())) for run in runs] == [3, 3, 2]
    assert some.full == {"finetune-run2"}
    assert (every.full, some.left) == (set(), 0)


def test_images_that_are_none_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "finetune", "run1", curves=False) / "panels" / "test"
    (folder / "face_01.prediction.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 99)
    (folder / "face_02.prediction.png").write_bytes((folder / "face_01.image.png").read_bytes()[:60])
    (found,) = embed(read_runs(tmp_path), EmbeddedImages()).values()
    assert {face: set(kinds) for face, kinds in found["splits"]["test"].items()} == {
        "face_01": {"image", "ground_truth"},
        "face_02": {"image", "ground_truth"},
    }


def test_a_long_table_shows_the_newest_rows_and_its_file_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_ROWS", 3)
    for number in range(6):
        about = {"seed": number, "method": "baseline", "curves": False, "miou": 0.1 * number}
        aged(write_run(tmp_path, "finetune", f"run{number}", **about), number)
    page = write_report(tmp_path)
    results = page.read_text().partition("<h3>IoU by class")[0]
    assert re.findall(r'<th scope="row"><a class="id" href="#finetune-(run\d)"', results) == ["run0", "run1", "run2"]
    assert "The newest 3 of 6 rows are shown; all are in tables/test_results.csv." in results
    with (page.parent / "tables" / "test_results.csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == [f"run{number}" for number in range(6)]


def test_a_sweep_of_many_rates_is_paired_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        identity = {"settings": {"finetune.optimizer.lr": number, **{f"finetune.same{key}": 1 for key in range(50)}}}
        for method in ("baseline", "mtl"):
            run_id = f"{method}{number:02}"
            write_run(tmp_path, "finetune", run_id, curves=False, method=method, identity=identity)
    compared: list[int] = []
    original = comparisons._unlike

    def counted(mtl: object, baseline: object, names: set[str]) -> dict[str, tuple[str, str]]:
        compared.append(len(names))
        return original(mtl, baseline, names)  # type: ignore[arg-type]

    monkeypatch.setattr(comparisons, "_unlike", counted)
    found = comparisons.pairs(read_runs(tmp_path))
    assert {(pair.baseline.id[-2:], pair.run.id[-2:]) for pair in found} == {(f"{n:02}", f"{n:02}") for n in range(20)}
    assert set(compared) == {1}, "settings that all share are not compared again for each pair"


def test_curves_of_few_runs_are_in_memory(tmp_path: Path) -> None:
    from foundation import recorded_runs

    for number in range(20):
        write_run(tmp_path, "finetune", f"run{number}", seed=number)
    runs = read_runs(tmp_path)
    assert len(figures.charts(runs)) == 1
    assert recorded_runs._curves.cache_info().currsize <= 8
    assert not any("curves" in vars(run) for run in runs)


def test_pages_hold_no_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    root, output_dir = tmp_path / "ann" / "faces" / "LaPa", tmp_path / "ann" / "work" / "outputs"
    error = f"{root}/train/x.jpg is broken; see {output_dir}/runs/a and {tmp_path}/ann/notes, /home/bob/x"
    settings = {"evaluate.checkpoint": f"{output_dir}/runs/a/best.ckpt", "finetune.weights": "/home/bob/w.ckpt"}
    run = write_run(output_dir, "finetune", "run1", state="failed", error=error, identity={"settings": settings})
    (run / "config.yaml").write_text(
        f"datamodule:\n  name: lapa\n  root: {root}\noutput_dir: {output_dir}\ncache: {tmp_path}/ann/.cache\n"
    )
    write_report(output_dir)
    written = "".join(file.read_text() for file in (output_dir / "report").rglob("*") if file.is_file())
    assert str(tmp_path) not in written
    assert "bob" not in written
    for shown in (
        "LaPa/train/x.jpg is broken; see outputs/runs/a and ~/notes, ~/x",
        "outputs/runs/a/best.ckpt",
        "~/w.ckpt",
        "root: LaPa",
        "output_dir: outputs",
        "cache: ~/.cache",
    ):
        assert shown in written, shown


FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "+1.5 ± 0.2")
NUMBERS = ("-1.5", "+1.41", "-2e-05", "0", "", "−1.5", "a=b", 3, -2.5)


def test_a_cell_that_begins_as_a_formula_is_text_and_numbers_stay(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(to_csv([FORMULAS, NUMBERS]), newline="")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [f"'{cell}".replace("\r", "\n") for cell in FORMULAS]
    assert rows[1] == [str(cell) for cell in NUMBERS]
    write_confusion(tmp_path / "confusion.csv", ["skin", "=HYPERLINK(1)"], np.eye(2, dtype=int))
    assert (
        tmp_path / "confusion.csv"
    ).read_text() == "ground_truth,skin,'=HYPERLINK(1)\nskin,1,0\n'=HYPERLINK(1),0,1\n"


def test_tables_are_written_without_formulas(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "=1+1", curves=False, recipe="@x", scale="-y")
    table = (write_report(tmp_path).parent / "tables" / "test_results.csv").read_text()
    assert [cell for cell in next(csv.reader([table.splitlines()[1]])) if cell.startswith("'")] == [
        "'=1+1",
        "'-y",
        "'@x",
    ]


@contextmanager
def as_another_user() -> Iterator[Path]:
    """A folder for a user without special rights, which the tests of some systems do not run as."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        special = os.geteuid() == 0
        if special:
            os.seteuid(65534)
        try:
            own = Path(folder) / "outputs"
            own.mkdir()
            yield own
        finally:
            if special:
                os.seteuid(0)


def test_folders_without_permission_are_one_message() -> None:
    with as_another_user() as folder:
        run = write_run(folder, "finetune", "run1", curves=False)
        closed = write_run(folder, "finetune", "closed1", curves=False)
        running = write_run(folder, "finetune", "running1", curves=False, state="running")
        closed.chmod(0)
        folder.chmod(0o555)
        assert {run.id: run.state for run in read_runs(folder)} == {
            "run1": "done",
            "running1": "interrupted",
            "closed1": "unreadable",
        }
        with pytest.raises(ConfigError, match=r"report cannot be written to .*: Permission denied"):
            write_report(folder)
        run.parent.chmod(0)
        with pytest.raises(DataError, match=r"runs cannot be read: Permission denied"):
            read_runs(folder)
        for path in (run.parent, folder, closed, running):
            path.chmod(0o777)


@pytest.mark.parametrize("view", ["page", "status"])
def test_an_output_folder_that_is_none_is_one_message(view: str, tmp_path: Path) -> None:
    if view == "page":
        write_run(tmp_path, "finetune", "run1", curves=False)
        (tmp_path / "report").write_text("a file")
    else:
        (tmp_path / "runs").write_text("a file")
    finished = within("report.py", f"view={view}", f"output_dir={tmp_path}", cwd=tmp_path)
    assert finished.returncode == 2
    assert ("File exists" if view == "page" else "Not a directory") in finished.stderr
    assert len(finished.stderr.strip().splitlines()) < 5


@pytest.mark.process
@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}])
def test_the_report_is_printed_in_any_encoding(variables: dict[str, str], tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl1", miou=0.5, curves=False)
    write_run(tmp_path, "finetune", "base1", miou=0.7, method="baseline", curves=False)
    write_run(tmp_path, "finetune", "fail1", state="failed", error="größer \U0001f600 \x1b[2J", curves=False)
    (tmp_path / "runs" / "finetune-\x1b[31mé").mkdir()
    command = (sys.executable, str(ROOT / "report.py"), f"output_dir={tmp_path}")
    page, status = (
        subprocess.run(
            [*command, f"view={view}"],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            encoding="latin-1",
            check=False,
        )
        for view in ("page", "status")
    )
    assert (page.returncode, status.returncode) == (0, 0), page.stderr + status.stderr
    assert "-20.00" in page.stdout, "a minus sign that the encoding lacks"
    assert "finetune-\\x1b[31m" in status.stdout
    assert "\x1b" not in page.stdout + status.stdout
