"""Run folders written for tests of the report, as runs leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.labels import LAPA
from foundation.recorded_runs import read_runs
from reports import comparisons, tables

SAMPLES = ("face_01", "face_02")


def write_run(output_dir: Path, stage: str, run_id: str, **changes: Any) -> Path:
    """A run folder with a status, curves (unless ``curves=False``: each takes a chart) and panels, as a run leaves."""
    folder = output_dir / "runs" / f"{stage}-{run_id}"
    finetune = stage in ("finetune", "semi")
    miou, curves = changes.pop("miou", 0.5), changes.pop("curves", True)
    scores: dict[str, float | None] = {"val/loss": 0.02, "val/psnr": 24.0}
    if finetune:
        scores = {f"test/iou/{name}": miou for name in LAPA.classes} | {"test/iou/inner_mouth": None}
        scores |= {"test/miou": miou, "test/mean_f1": 0.61, "test/pixel_accuracy": 0.9, "test/mean_accuracy": 0.7}
    status = {
        "state": "done",
        "stage": stage,
        "id": run_id,
        "upstream": ["pre1"] if finetune and changes.get("method") != "baseline" else [],
        "experiment": "mtl_lapa_1pct",
        "method": "mtl",
        "ablation": None,
        "masking": "central",
        "loss": "focal_dice",
        "recipe": "short",
        "scale": "demo",
        "dataset": "lapa",
        "origin": "drawn",
        "data_digest": "d1",
        "label_fraction": 0.01,
        "labelled": 6,
        "subset": 0,
        "seed": 0,
        "metrics": scores,
        "seconds": 81.3,
        "images_per_second": 212.4,
        "peak_memory_mb": 911.0,
        "git_sha": "0123456789abcdef0123456789abcdef01234567",
    } | changes
    tiles = (
        {"image": 0, "ground_truth": 1, "prediction": 2} if finetune else {"image": 0, "masked": 1, "reconstruction": 2}
    )
    place = folder / "panels" / ("test" if finetune else "val")
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for sample in SAMPLES:
        for kind in tiles:
            image = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(place / f"{sample}.{kind}.png")
    names = "val/miou,val/mean_f1" if finetune else "val/loss,val/psnr"
    lines = [f"epoch,step,train/loss,train/lr,{names}"]
    for step in range(60):
        validated = f"{miou * step / 59},0.5" if step % 20 == 19 else ","
        lines.append(f"{step // 20},{step},{2 / (1 + step)},0.001,{validated}")
    if curves:
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n2,60,0.0")
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "config.yaml").write_text("seed: 0\n")
    return folder


def row(table: tables.Table, run_id: str) -> dict[str, str]:
    """A row of a table by its column's titles."""
    cells = next(row for row, run in zip(table.rows, table.runs, strict=True) if run.id == run_id)
    return {column.title: cell for column, cell in zip(table.columns, cells, strict=True)}


SEGMENTERS = {"method": "segment", "network": "base_unet", "dataset": "augmented_celeba", "origin": "augmented"}


def write_segmenters(output_dir: Path) -> None:
    """One that is done, an evaluation of it, and one that failed."""
    scores = {
        "test/accuracy": 0.9,
        "test/miou": 0.8,
        "test/dice": 0.7,
        "test/cleaned/miou": 0.6,
        "test/false_area": 0.05,
    }
    write_run(output_dir, "segment", "seg1", metrics=scores, **SEGMENTERS)
    write_run(output_dir, "evaluate", "mask1", metrics=scores, upstream=["seg1"], split="all", **SEGMENTERS)
    write_run(output_dir, "segment", "seg2", state="failed", **SEGMENTERS)


def write_grid_search(output_dir: Path) -> None:
    """Three cells, of which two have both folds."""
    names = ("segment.optimizer.lr", "segment.kernel", "segment.initialization", "segment.fold")
    for number, (cell, score) in enumerate(
        (
            ((0.001, 3, "he", 0), 0.8),
            ((0.001, 3, "he", 1), 0.6),
            ((0.0001, 5, "normal", 1), 0.9),
            ((0.0001, 5, "normal", 0), 0.86),
            ((0.001, 5, "he", 0), 0.5),
        )
    ):
        settings = {"segment.folds": 2, "segment.width": 8, **dict(zip(names, cell, strict=True))}
        scores = {"val/miou": score, "test/accuracy": 0.9, "test/miou": 0.1}
        about = SEGMENTERS | {"network": "modified_unet", "identity": {"settings": settings}}
        write_run(output_dir, "segment", f"cell{number}", metrics=scores, **about)


def write_group_panels(output_dir: Path) -> None:
    """A segmenter with images of two groups of one kind, by style."""
    run = write_run(output_dir, "segment", "group1", metrics={"test/accuracy": 0.9}, **SEGMENTERS)
    for name in ("below_nose_1", "chin_1", "chin_2"):
        for kind in ("image", "prediction"):
            place = run / "panels" / "groups" / "style" / f"{name}.{kind}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16)).save(place)


def write_evaluations(output_dir: Path) -> None:
    """One on another data set, and one that failed."""
    scores = {"test/miou": 0.3, "test/mean_f1": 0.4, "test/pixel_accuracy": 0.8, "test/miou_small": 0.1}
    trained = {"trained_dataset": "celebamask_hq", "trained_origin": "real", "trained_merging": "farl"}
    where = {"split": "test", "classes": "lapa", "upstream": ["mtl1"]}
    write_run(output_dir, "evaluate", "eval1", metrics=scores, **trained, **where)
    write_run(output_dir, "evaluate", "eval2", state="failed")


def named(output_dir: Path, stage: str) -> dict[str, str]:
    """Differing settings of repeated runs of a stage, by the ids of the runs."""
    runs = read_runs(output_dir)
    repeats = comparisons.FinishedRuns(runs).repeats(run for run in runs if run.stage == stage)
    return {" ".join(run.id for run in one.runs): one.differing for one in repeats}
