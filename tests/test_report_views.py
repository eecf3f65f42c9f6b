"""The other views of the report: status, results on the screen, W&B."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from foundation.errors import ConfigError
from foundation.recorded_runs import RecordedRun, read_runs
from foundation.run_folder import RunFolder
from reports import tables
from reports.status import status_table
from reports.wandb_sync import write_wandb_runs
from reports.wandb_workspace import save_workspace, workspace
from tests.conftest import wandb_records
from tests.run_folders import write_run


def test_curves_leave_out_empty_cells_and_the_half_written_line(output_dir: Path) -> None:
    run = next(run for run in read_runs(output_dir) if run.id == "mtl1")
    steps, loss = run.curve("step", "train/loss")
    assert (len(steps), loss[0]) == (60, 2.0)
    epochs, miou = run.curve("epoch", "val/miou")
    assert epochs.tolist() == [0, 1, 2]
    assert math.isclose(miou[-1], 0.5831)
    assert len(run.curve("step", "no/such")[0]) == 0


def test_the_status_of_runs(output_dir: Path) -> None:
    settings = {"identity": {"settings": {"finetune.epochs": 12}}}
    under_way = write_run(output_dir, "finetune", "far1", state="running", epoch=3, seconds=600.0, **settings)
    write_run(output_dir, "finetune", "gone1", state="running", epoch=3, seconds=600.0, **settings)
    console = Console(width=200, record=True, file=io.StringIO())
    folder = RunFolder.at(under_way)
    assert folder is not None
    with folder.lock():
        changed = (under_way / "status.json").stat().st_mtime
        console.print(status_table(read_runs(output_dir), now=changed + 60))
    rows = [line.split() for line in console.export_text().splitlines()]
    lines = {words[0]: " ".join(words) for words in rows if words and "-" in words[0]}
    far = lines["finetune-far1"]
    assert [word in far for word in ("running", "3 of 12", "11 min", "29 min")] == [True] * 4, far
    assert "interrupted" in lines["finetune-gone1"], "recorded as running, but its lock is free"
    assert "failed: <b>boom</b> & smoke" in lines["finetune-fail1"]
    assert "done" in lines["pretrain-pre1"]
    assert next(iter(lines)) == "finetune-far1"


def test_screen_table_moves_common_settings_to_the_caption(output_dir: Path, tmp_path: Path) -> None:
    console = Console(width=120, record=True, file=(tmp_path / "screen").open("w"))
    tables.print_results(read_runs(output_dir), console)
    shown = console.export_text()
    assert "+1.41" in shown
    assert "data: lapa (synthetic)" in " ".join(shown.split())
    tables.print_results([RecordedRun(tmp_path, {})], console)
    assert "No fine-tuning run is done yet." in console.export_text()


@pytest.mark.process
def test_a_run_interrupted_within_a_step_is_written_for_wandb(tmp_path: Path) -> None:
    run = write_run(tmp_path, "finetune", "cut1", state="interrupted", metrics={})
    (run / "metrics.csv").write_text("epoch,step,train/loss,train/lr\n0,0,0.5,0.1\n,1,,0.2\n")
    (folder,) = write_wandb_runs(read_runs(tmp_path), tmp_path, Console(file=io.StringIO()))
    (kept,) = folder.glob("wandb/offline-run-*")
    rows = [record["history"]["item"] for record in wandb_records(kept) if record["type"] == "history"]
    assert len(list(kept.glob("files/media/images/test/prediction_*.png"))) == 2
    rows = [row for row in rows if "train/lr" in row]
    assert [{name: row[name] for name in row if name[0] != "_" and not name.startswith("test/")} for row in rows] == [
        {"epoch": 0, "trainer/global_step": 0, "train/loss": 0.5, "train/lr": 0.1},
        {"trainer/global_step": 1, "train/lr": 0.2},
    ]


def test_a_workspace_shows_the_metrics_of_the_runs(output_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = read_runs(output_dir)
    with pytest.raises(ConfigError, match="entity="):
        save_workspace(runs, None, "halfmask")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
        with pytest.raises(ConfigError, match="pip install"):
            save_workspace(runs, "me", "halfmask")
    made = workspace(runs, "me", "halfmask")
    assert [section.name for section in made.sections] == [
        "Test",
        "Fine-tuning: validation",
        "Pre-training: validation",
        "Optimisation",
        "Images",
        "Classes",
        "Settings",
    ]
    assert made.sections[4].panels[0].media_keys == ["panels"]
    assert made.sections[5].panels[0].table_name == "test/classes"
    assert [panel.y for panel in made.sections[1].panels] == [["val/miou"], ["val/mean_f1"]]


@pytest.mark.process
def test_reports_load_neither_torch_nor_lightning() -> None:
    code = "import sys, reports.page; assert not {'torch', 'pytorch_lightning'} & sys.modules.keys()"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
