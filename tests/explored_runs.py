"""Run folders of a study to explore: methods, label fractions, curves, images by epoch, confusions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from callbacks.confusion import write_confusion
from datamodules.labels import LAPA
from tests.run_folders import write_run

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'
SCORES = {"baseline": 0.45, "mtl": 0.52, "transfer": 0.5, "semi": 0.55, "hybrid": 0.4}
COLUMNS = ("train/loss", "train/lr", "val/loss", "val/miou")


def write_study(output_dir: Path) -> None:
    """Five methods on 1 % of the labels with two seeds, two on 10 %, a pre-training, and runs that did not end."""
    pretrain = {"identity": _identity("pretrain", epochs=40), "metrics": {"val/psnr": 24.0, "val/loss": 0.02}}
    _illustrate(write_run(output_dir, "pretrain", "pre1", origin="real", curves=False, **pretrain), (5, 20, 40))
    for method, score in SCORES.items():
        stage = "semi" if method == "semi" else "finetune"
        for seed in (0, 1):
            write_scored(output_dir, stage, f"{method}{seed}", method, score + 0.01 * seed, seed=seed)
    for method in ("baseline", "mtl"):
        write_scored(
            output_dir, "finetune", f"{method}ten", method, 0.1 + SCORES[method], label_fraction=0.1, labelled=60
        )
    about = {"origin": "real", "curves": False, "metrics": {}}
    error = "val/a.png is broken.\nIt must be a PNG file."
    write_run(output_dir, "finetune", "broken1", state="failed", error=error, seed=2, **about)
    write_run(
        output_dir,
        "finetune",
        "odd1",
        state="failed",
        error=HOSTILE,
        experiment=HOSTILE,
        method=HOSTILE,
        identity={"settings": {HOSTILE: HOSTILE, "finetune.optimizer.lr": HOSTILE}},
        **about,
    )
    write_run(output_dir, "finetune", "under1", state="running", epoch=3, epochs=12, seconds=600.0, seed=3, **about)


def write_scored(output_dir: Path, stage: str, run_id: str, method: str, score: float, **about: Any) -> Path:
    """A finished run that overfits, with scores of every class, a confusion matrix, images and a configuration."""
    scores: dict[str, float] = {"test/miou": score, "test/mean_f1": score + 0.1, "val/miou": score - 0.02}
    for place, name in enumerate(LAPA.classes):
        lost = 0.2 if (name, method) == ("hair", "mtl") else 0.0
        scores[f"test/iou/{name}"] = score + 0.01 * place - lost
        scores[f"test/f1/{name}"] = score + 0.05
        scores[f"test/count/{name}"] = 1000.0 * (place + 1)
    run = write_run(
        output_dir,
        stage,
        run_id,
        curves=False,
        method=method,
        origin="real",
        metrics=scores,
        recipe="tuned",
        validation_labels=70,
        epoch=6,
        epochs=6,
        device="a GPU",
        identity=_identity(stage, epochs=6, lr=0.002 if method == "mtl" else 0.001),
        upstream=["pre1"] if method == "mtl" else [],
        **about,
    )
    lines = [",".join(("epoch", "step", *COLUMNS))]
    for step in range(60):
        validated = f"{0.3 + abs(step / 60 - 0.5)},{score * step / 60}" if step % 10 == 9 else ","
        lines.append(f"{step // 10},{step},{math.exp(-step / 20)},0.001,{validated}")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    write_confusion(run / "confusion.csv", LAPA.classes, np.diag(range(1, len(LAPA.classes) + 1)))
    config = "experiment: mtl_lapa_1pct\nscale: demo\nrecipe: tuned\nseed: 1\nfinetune:\n  epochs: 6\n  seed: 1\n"
    (run / "config.yaml").write_text(config)
    return run


def _identity(stage: str, **settings: Any) -> dict[str, Any]:
    return {"version": 1, "labels": "l1", "settings": {f"{stage}.{name}": value for name, value in settings.items()}}


def _illustrate(run: Path, epochs: tuple[int, ...]) -> None:
    """Grids of epochs, each of one colour."""
    for epoch in epochs:
        Image.new("RGB", (96, 64), (epoch * 5, 0, 0)).save(run / "panels" / f"epoch_{epoch:04d}.png")


def changed_status(run: Path, **changes: Any) -> None:
    """The run's status with other values, as a training writes it after an epoch."""
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | changes))
