"""Run folders that no run has written: each is listed with the reason, and the others are reported as before."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from engine.sweeps import _running, end_of_sweep
from foundation.errors import ConfigError, DataError
from foundation.recorded_runs import read_runs
from foundation.run_folder import RunFolder
from reports.page import write_report
from reports.status import status_table
from reports.tables import print_results
from reports.wandb_sync import write_wandb_runs
from tests.run_folders import write_run

SECRET = b"\x89PNG\r\n\x1a\n a secret next to the runs"


def status_of(folder: Path, **changes: Any) -> None:
    file = folder / "status.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return change


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def sparse(path: Path) -> None:
    """A file of a tebibyte that takes no space."""
    path.touch()
    os.truncate(path, 2**40)


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "deep": (replaced("status.json", text('{"metrics": ' + "[" * 100_000 + "]" * 100_000 + "}")), "nested more than"),
    "FIFO": (replaced("status.json", os.mkfifo), "no regular file"),
    "endless": (replaced("status.json", lambda path: path.symlink_to("/dev/zero")), "it is a link"),
    "huge": (replaced("status.json", sparse), "larger than 1 MiB"),
    "number": (replaced("status.json", text("3")), "holds no JSON object"),
    "list for a number": (lambda folder: status_of(folder, seconds=[1]), "seconds must be a number, not list"),
    "object for a text": (lambda folder: status_of(folder, method={"a": 1}), "method must be a text, not dict"),
    "object as the seed": (lambda folder: status_of(folder, seed={}), "seed must be a text, not dict"),
    "text for metrics": (lambda folder: status_of(folder, metrics="good"), "metrics must be an object, not str"),
    "list as a metric": (lambda folder: status_of(folder, metrics={"test/miou": [1]}), "metrics.test/miou must be"),
    "too many metrics": (
        lambda folder: status_of(folder, metrics={f"test/iou/{number}": 0 for number in range(5000)}),
        "it has 5000 metrics",
    ),
    "number as upstream": (lambda folder: status_of(folder, upstream=7), "upstream must be a list, not int"),
    "objects as upstream": (lambda folder: status_of(folder, upstream=[{}]), "upstream must be a list of ids"),
    "list as identity": (lambda folder: status_of(folder, identity=[1]), "identity must be an object, not list"),
    "text as settings": (lambda folder: status_of(folder, identity={"settings": "a"}), "identity.settings must be"),
    "text as history": (lambda folder: status_of(folder, history="first"), "history must be a list, not str"),
}
ODD: dict[str, Callable[[Path], object]] = {
    "infinite": replaced("status.json", text('{"state": "done", "metrics": {"a": Infinity}, "seconds": 1e400}')),
    "large": lambda folder: status_of(
        folder, metrics={"test/miou": 1e308, "test/mean_f1": 10**400}, seconds=1e308, labelled=1e308, epoch=10**400
    ),
    "large curves": replaced(
        "metrics.csv",
        text("epoch,step,train/loss,val/miou\n0,0,1e308,1e308\n0,1,-1e308,-1e308\n1,1e308,1e308,inf\n1,-1e308,1,nan\n"),
    ),
    "small fraction": lambda folder: status_of(folder, label_fraction=5e-324),
    "upstream is itself": lambda folder: status_of(folder, upstream=["odd1"]),
    "class set": lambda folder: status_of(folder, dataset="own", class_set={"classes": 3, "palette": [1]}),
    "class set without colours": lambda folder: status_of(
        folder, dataset="own", class_set={"classes": ["a"], "palette": [["x); background: url(y)"]], "mirrored": []}
    ),
    "long text": lambda folder: status_of(folder, experiment="x" * 100_000, ablation="y " * 50_000, error="z" * 90_000),
    "control characters": lambda folder: status_of(folder, method="\x1b[2J\x07", ablation="[/red]", error="\x1b]0;"),
    "epochs": lambda folder: status_of(folder, identity={"settings": {"finetune.epochs": 10**400, "a": [{}]}}),
    "history": lambda folder: status_of(folder, history=[{"attempt": [1], "versions": "new", "git_sha": {}}]),
    "curves are a FIFO": replaced("metrics.csv", os.mkfifo),
    "curves are a device": replaced("metrics.csv", lambda path: path.symlink_to("/dev/zero")),
    "curves are binary": replaced("metrics.csv", lambda path: path.write_bytes(bytes(range(256)) * 100)),
    "curves have a long cell": replaced("metrics.csv", text("epoch,step\n" + "1" * 200_000 + ",2\n")),
    "config is a FIFO": replaced("config.yaml", os.mkfifo),
    "config is no YAML": replaced("config.yaml", text("a: [\x01")),
}


def shown(output_dir: Path) -> str:
    """The page of an output folder, and what the other views print."""
    page = write_report(output_dir).read_text(encoding="utf-8")
    runs = read_runs(output_dir)
    screen = Console(width=2000, record=True, file=io.StringIO())
    screen.print(status_table(runs))
    print_results(runs, screen)
    return page + screen.export_text()


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_run_is_listed_with_the_reason(case: str, tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "good1", curves=False)
    make, reason = UNREADABLE[case]
    make(write_run(tmp_path, "finetune", "odd1", curves=False))
    found = {run.id: run for run in read_runs(tmp_path)}
    assert found["odd1"].state == "unreadable"
    assert reason in found["odd1"].text("error")
    assert found["good1"].state == "done"


@pytest.mark.parametrize("case", ["deep", "FIFO", "endless"])
def test_training_refuses_a_status_of_unknown_content(case: str, tmp_path: Path) -> None:
    make, reason = UNREADABLE[case]
    folder = write_run(tmp_path, "finetune", "odd1", curves=False)
    make(folder)
    run = RunFolder.at(folder)
    assert run is not None
    with pytest.raises(DataError, match=reason):
        _ = run.state


@pytest.mark.slow
def test_all_broken_runs_together_leave_the_report_complete(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "good1", miou=0.4321)
    for number, case in enumerate(UNREADABLE):
        UNREADABLE[case][0](write_run(tmp_path, "finetune", f"unread{number}", curves=False))
    (tmp_path / "runs" / ("finetune-" + "n" * 240)).mkdir()
    (tmp_path / "runs" / "finetune-\x1b[31m[bold]").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of an overflow
        page = shown(tmp_path)
    assert "43.21" in page
    for run in read_runs(tmp_path):
        if run.state == "unreadable":
            assert page.count(run.text("error")) >= 2, "on the page and on the screen"
    assert "\x1b" not in page
    assert "finetune-\\x1b[31m[bold]" in page
    assert len(list((tmp_path / "report" / "runs").iterdir())) == len(list((tmp_path / "runs").iterdir()))


@pytest.mark.parametrize("case", ODD)
def test_odd_values_leave_the_report_complete(case: str, tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "good1", miou=0.4321, curves=False)
    ODD[case](write_run(tmp_path, "finetune", "odd1", seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        page = shown(tmp_path)
    assert "43.21" in page
    assert "odd1" in page
    assert "\x1b" not in page
    assert len(page) < 3_000_000


def test_runs_that_start_from_each_other_are_reported(tmp_path: Path) -> None:
    for own, other in (("a1", "b1"), ("b1", "a1")):
        write_run(tmp_path, "finetune", own, upstream=[other], curves=False, identity={"settings": {"a": own}})
    assert "a1" in shown(tmp_path)


def test_images_outside_the_run_folder_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(SECRET)
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "all.png").write_bytes(SECRET)
    run = write_run(tmp_path, "finetune", "odd1", curves=False)
    for place, name in (("panels", "x.png"), ("panels/test", "face_01.prediction.png"), ("panels/test", "one.png")):
        (run / place / name).unlink(missing_ok=True)
        (run / place / name).symlink_to(tmp_path / "secret.png")
    (run / "panels" / "linked").symlink_to(tmp_path / "faces")
    os.mkfifo(run / "panels" / "waits.png")
    (run / "panels" / "text.png").write_text("no image")
    bomb = bytearray(next(run.glob("panels/test/*.image.png")).read_bytes())
    bomb[16:24] = (100_000).to_bytes(4) * 2
    (run / "panels" / "bomb.png").write_bytes(bomb)
    other = write_run(tmp_path, "pretrain", "odd2", curves=False)
    (other / "panels" / "val").rename(tmp_path / "val")
    (other / "panels" / "val").symlink_to(tmp_path / "val")
    pages = [write_report(tmp_path), *(tmp_path / "report" / "runs").iterdir()]
    html = "".join(page.read_text() for page in pages)
    assert html.count("data:image/png") == 6, "the complete sample of the first run, on two pages"
    assert "YSBzZWNyZXQ" not in html


def test_a_link_in_runs_to_a_file_is_no_run(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "good1", curves=False)
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / "gone").symlink_to(tmp_path / "nowhere")
    assert [run.id for run in read_runs(tmp_path)] == ["good1"]


@pytest.mark.process
def test_broken_runs_do_not_stop_the_others_on_their_way_to_wandb(tmp_path: Path) -> None:
    for run_id, config in (
        ("bomb1", "a: &a [1, 1]\nb: &b [*a, *a]\nlogger: {wandb: *b}\n"),
        ("types1", "logger: {wandb: {project: [1], tags: x, group: {}}}\n"),
        ("text1", "logger: wandb\n"),
        ("none1", "a: [\n"),
    ):
        run = write_run(tmp_path, "finetune", run_id)
        (run / "config.yaml").write_text(config)
    (run / "panels" / "epoch_1.png").symlink_to("/dev/zero")
    (run / "panels" / "epoch_2.png").write_bytes(SECRET)
    Image.new("RGB", (8, 8)).save(run / "panels" / "epoch_3.png")
    replaced("metrics.csv", text("epoch,step\n" + "1" * 200_000 + ",2\n"))(write_run(tmp_path, "finetune", "cell1"))
    write_run(tmp_path, "finetune", "n" * 240)
    printed = io.StringIO()
    folders = write_wandb_runs(read_runs(tmp_path), tmp_path, Console(file=printed, width=1000))
    assert {folder.name.partition("-")[2] for folder in folders} == {"bomb1", "types1", "text1", "none1"}
    assert printed.getvalue().count("Left out: ") == 2
    (kept,) = (tmp_path / "wandb" / "finetune-none1").glob("wandb/offline-run-*")
    assert len(list(kept.rglob("panels_*.png"))) == 1, "the one image that is a regular file"


def test_a_broken_job_of_a_sweep_is_a_failed_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"number": 0, "overrides": ["a=1"], "state": "done", "runs": [{"name": "finetune-1", "ran": True}]}
    wrong = (json.dumps(good | {key: value}) for key, value in (("number", "x"), ("state", "[/]")))
    contents = (json.dumps(good), "[" * 100_000, "[]", *wrong, None)
    for number, content in enumerate(contents):
        file = tmp_path / str(number) / "job.json"
        file.parent.mkdir()
        os.mkfifo(file) if content is None else file.write_text(content)
    _running.append(tmp_path)
    assert end_of_sweep(Console(width=200))
    printed = capsys.readouterr().out
    for reason in ("nested more than", "job.json is incomplete", "no regular file", "1 done, 5 failed"):
        assert reason in printed


@pytest.mark.parametrize("name", ["report", "report/runs", "report/tables", "report/figures", "wandb"])
def test_nothing_is_written_or_removed_through_a_link(name: str, tmp_path: Path) -> None:
    """Pages of deleted runs are removed, which a link in copied results would turn on the user's own pages."""
    output, own = tmp_path / "outputs", tmp_path / "own"
    write_run(output, "finetune", "mtl1", miou=0.5)
    own.mkdir()
    (own / "mine.html").write_text("mine")
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).symlink_to(own)
    runs = read_runs(output)
    with pytest.raises(ConfigError, match=rf"{name} is a link to .*own.*\nIt must be a folder"):
        _ = write_wandb_runs(runs, output, Console()) if name == "wandb" else write_report(output)
    assert [path.name for path in own.iterdir()] == ["mine.html"]
