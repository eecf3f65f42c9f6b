"""Files of run folders: status.json, metrics.csv, config.yaml, predictions.jsonl, caches."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.fuzzing import texts
from benchmarks.fuzzing.form import Form
from callbacks.curves import Curves
from deploy.prediction import _lines_of
from engine import sweeps
from foundation.digests import DigestCache
from foundation.recorded_runs import read_run, read_runs
from foundation.run_folder import RunFolder
from reports import comparisons, papers, tables
from reports.status import status_table
from reports.wandb_sync import _config
from stages.trained import find

NAME = "finetune-0123456789ab"
RUN = f"runs/{NAME}"
SETTINGS = {
    "datamodule.image_size": 32,
    "datamodule.merging": None,
    "finetune.epochs": 2,
    "finetune.score_at": "label",
    "finetune.background": "literature",
    "trainer.precision": "32-true",
}
STATUS: dict[str, Any] = {
    "state": "done",
    "stage": "finetune",
    "id": "0123456789ab",
    "identity": {"settings": SETTINGS, "version": 4},
    "dataset": "lapa",
    "origin": "real",
    "data_digest": "0" * 16,
    "scale": "paper",
    "recipe": "paper",
    "method": "mtl",
    "experiment": "mtl_lapa_1pct",
    "label_fraction": 0.01,
    "labelled": 182,
    "subset": 0,
    "seed": 1,
    "epoch": 2,
    "attempts": 1,
    "seconds": 12.5,
    "parameters": 1000,
    "upstream": ["ba9876543210"],
    "metrics": {
        "test/miou": 0.5,
        "test/mean_f1": 0.6,
        "test/pixel_accuracy": 0.9,
        "test/iou/skin": 0.8,
        "val/miou": 0.5,
    },
}
SEGMENTED = STATUS | {
    "stage": "segment",
    "dataset": "augmented_celeba",
    "method": "segment",
    "network": "modified_unet",
    "metrics": {"test/accuracy": 0.9, "test/miou": 0.8, "test/type/surgical/miou": 0.7, "test/called/kind/masked": 0.9},
}
RUNNING = STATUS | {"state": "running", "metrics": {}}
CURVES = (
    b"epoch,step,train/loss,val/miou\r\n0,0,1.5,\r\n0,1,1.25,0.25\r\n1,2,1.0,\r\n1,3,0.75,0.5\r\n",
    b"epoch,step,lr\r\n0,0,0.001\r\n",
)
CONFIG = b"experiment: mtl\nlogger:\n  wandb: {project: p, group: null, tags: [a]}\ndatamodule:\n  root: data/LaPa\n"
PREDICTION = {"image": "a.jpg", "label": "labels/a.png", "faces": [{"box": [0, 0, 9], "found": "whole", "classes": {}}]}
JOB = {"number": 0, "overrides": ["seed=1"], "state": "done", "runs": [{"name": NAME, "ran": True}]}


def _run_folder(root: Path) -> RunFolder:
    return RunFolder(root, "finetune", "0123456789ab")


def _finished(root: Path) -> None:
    """A run folder whose checkpoint exists, and a complete run next to it."""
    other = root / "runs" / "finetune-ba9876543210"
    for folder in (root / RUN, other):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
        (folder / "metrics.csv").write_bytes(CURVES[0])
    (other / "status.json").write_text(json.dumps(STATUS | {"id": "ba9876543210", "method": "baseline"}))


def _states(root: Path) -> None:
    folder = _run_folder(root)
    str((folder.state, folder.done, folder.attempts))
    folder.write_status(epoch=1)


def _printed(*shown: object) -> None:
    Console(file=io.StringIO(), width=200).print(*shown)


def _tables(root: Path) -> None:
    runs = read_runs(root)
    found = [tables.results(runs), tables.across(runs), tables.occlusion(runs), *tables.grid_searches(runs)]
    found += [*papers.paper_tables(runs), *tables.class_ious(runs)]
    for table in found:
        table.csv()
    comparisons.findings(runs)


def _jobs(root: Path) -> None:
    sweeps._running[:] = [root]
    sweeps.end_of_sweep(Console(file=io.StringIO(), width=200))


def _second_job(root: Path) -> None:
    (root / "1").mkdir()
    (root / "1" / sweeps.JOB).write_text(json.dumps(JOB | {"number": 1}))


def _with_status(root: Path) -> None:
    (root / RUN).mkdir(parents=True)
    (root / RUN / "status.json").write_text(json.dumps(STATUS))


def _resumed(root: Path) -> None:
    curves = Curves(root / RUN / "metrics.csv")
    curves.cut(3)
    curves.log_metrics({"epoch": 1, "new": 2.0}, step=3)
    curves.flush()


def _curves(root: Path) -> None:
    run = read_run(root / RUN)
    run.curve("epoch", "val/miou")
    _printed(status_table([run]))


def _digests(root: Path) -> None:
    with DigestCache(root / "digests.sqlite") as digests:
        digests.of_files([("a", root / "a.txt")])


def _earlier(root: Path) -> None:
    lines = _lines_of(root / "predictions.jsonl")
    str([line for line in lines if line["label"] not in {"labels/b.png"} and line["image"] not in {"b.png"}])


def _file_to_digest(root: Path) -> None:
    (root / "a.txt").write_text("a")


def _database() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        _file_to_digest(Path(folder))
        _digests(Path(folder))
        return [(Path(folder) / "digests.sqlite").read_bytes()]


def _statuses() -> list[bytes]:
    return [json.dumps(status).encode() for status in (STATUS, SEGMENTED, RUNNING)]


FORMS = (
    Form(
        "status.json",
        f"{RUN}/status.json",
        _statuses,
        {
            "tables": _tables,
            "status view": lambda root: _printed(status_table(read_runs(root))),
            "checkpoint": lambda root: find(NAME, root),
            "run folder": _states,  # the last one: it writes
        },
        texts.json_file,
        _finished,
    ),
    Form(
        "replaced_status",
        f"replaced/{NAME}-1/status.json",
        _statuses,
        {"attempts": lambda root: _run_folder(root).attempts + 1},
        texts.json_file,
    ),
    Form(
        "metrics.csv",
        f"{RUN}/metrics.csv",
        lambda: CURVES,
        {"curves": _curves, "resume": _resumed},
        texts.table(","),
        _with_status,
    ),
    Form(
        "config.yaml",
        f"{RUN}/config.yaml",
        lambda: [CONFIG],
        {"W&B": lambda root: _config(read_run(root / RUN))},
        texts.yaml_file,
        _with_status,
    ),
    Form(
        "predictions.jsonl",
        "predictions.jsonl",
        lambda: [json.dumps(PREDICTION).encode() + b"\n" + json.dumps(PREDICTION).encode()],
        {"earlier predictions": _earlier},
        texts.json_lines,
    ),
    Form(
        "job.json",
        f"0/{sweeps.JOB}",
        lambda: [json.dumps(JOB).encode(), json.dumps(JOB | {"state": "failed", "runs": [], "error": "E: x"}).encode()],
        {"sweep": _jobs},
        texts.json_file,
        _second_job,
    ),
    Form("digest_cache", "digests.sqlite", _database, {"digest": _digests}, None, _file_to_digest),
)
