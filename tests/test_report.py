"""The report, on run folders written for the purpose."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from datamodules.labels import LAPA
from foundation.errors import ConfigError, DataError
from foundation.recorded_runs import RecordedRun, read_runs
from foundation.run_folder import RunFolder
from reports import comparisons, figures, panels, papers, tables
from reports.dashboard import Dashboard
from reports.page import write_report
from reports.status import status_table
from reports.wandb_sync import write_wandb_runs
from reports.wandb_workspace import save_workspace, workspace
from tests.conftest import skip, wandb_records

SAMPLES = ("face_01", "face_02")


def write_run(output_dir: Path, stage: str, run_id: str, **changes: Any) -> Path:
    """A run folder with a status, curves (unless ``curves=False``: each takes a chart) and panels, as a run leaves."""
    folder = output_dir / "runs" / f"{stage}-{run_id}"
    finetune = stage == "finetune"
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


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    """A pre-training, a comparable pair, a failed run and one whose status is half written."""
    write_run(tmp_path, "pretrain", "pre1")
    write_run(tmp_path, "finetune", "mtl1", miou=0.5831)
    write_run(tmp_path, "finetune", "base1", miou=0.569, method="baseline", masking=None)
    write_run(tmp_path, "finetune", "fail1", state="failed", error="<b>boom</b> & smoke", seed=1)
    (write_run(tmp_path, "finetune", "half1") / "status.json").write_text('{"state": "done", "metr')
    return tmp_path


def row(table: tables.Table, run_id: str) -> dict[str, str]:
    """A row of a table by its column's titles."""
    cells = next(row for row, run in zip(table.rows, table.runs, strict=True) if run.id == run_id)
    return {column.title: cell for column, cell in zip(table.columns, cells, strict=True)}


def test_runs_are_read_in_order_and_a_broken_status_is_listed(output_dir: Path) -> None:
    runs = {run.id: run for run in read_runs(output_dir)}
    assert next(iter(runs)) == "pre1"
    assert list(runs).index("base1") < list(runs).index("mtl1")
    assert runs["half1"].state == "unreadable"
    assert "status.json cannot be read" in runs["half1"].text("error")


def test_painting_orders_are_never_compared(tmp_path: Path) -> None:
    parts = {"dataset": "celebamask_hq", "origin": "real"}
    write_run(tmp_path, "finetune", "mtl1", miou=0.6, merging="farl", **parts)
    write_run(tmp_path, "finetune", "base1", miou=0.5, merging="official", method="baseline", **parts)
    runs = read_runs(tmp_path)
    assert [run.data for run in runs] == [f"celebamask_hq (real, merged as {order})" for order in ("official", "farl")]
    assert row(tables.results(runs), "mtl1")["gain"] == "not paired"
    assert len(tables.class_ious(runs)) == len(panels.predictions(runs)) == 2
    assert [name for name, _ in panels.predictions(runs)[0].legend[:4]] == ["background", "skin", "nose", "eye g"]
    write_run(tmp_path, "finetune", "base2", miou=0.5, merging="farl", method="baseline", **parts)
    assert row(tables.results(read_runs(tmp_path)), "mtl1")["gain"] == "+10.00"


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


def test_segmenters_have_their_own_table(output_dir: Path) -> None:
    before = read_runs(output_dir)
    write_segmenters(output_dir)
    runs = read_runs(output_dir)
    table = tables.occlusion(runs)
    assert [run.id for run in table.runs] == ["seg1", "mask1"]
    shown = row(table, "mask1")
    assert (shown["segmenter"], shown["split"], shown["scored on"]) == ("seg1", "all", "augmented_celeba (augmented)")
    assert (shown["mIoU"], shown["cleaned mIoU"], shown["false area"]) == ("80.00", "60.00", "5.00")
    assert tables.across(runs) == tables.across(before)
    assert tables.results(runs) == tables.results(before)


def test_a_grid_search_is_ranked_over_its_folds(output_dir: Path) -> None:
    before = read_runs(output_dir)
    write_grid_search(output_dir)
    runs = read_runs(output_dir)
    (table,) = tables.grid_searches(runs)
    assert table.rows == (
        ("0.0001", "5", "normal", "2 of 2", "88.00", "2.83"),
        ("0.001", "3", "he", "2 of 2", "70.00", "14.14"),
        ("0.001", "5", "he", "1 of 2", "50.00", "—"),
    )
    assert not tables.occlusion(runs).rows, "their test scores are not for choosing"
    assert tables.grid_searches(before) == []


def test_faces_of_each_group_are_shown(output_dir: Path) -> None:
    write_group_panels(output_dir)
    (panel,) = panels.masks_by_group(read_runs(output_dir))
    assert panel.title == "By style: augmented celeba (augmented), base unet"
    assert panel.columns == ("image", "prediction")
    assert [name for name, _ in panel.rows] == ["below nose", "chin"]
    assert all(tile is not None for _, tiles in panel.rows for tile in tiles)


def test_faces_without_pixel_ground_truth_are_in_the_occlusion_table(output_dir: Path) -> None:
    scores = {"test/called/kind/masked": 0.95, "test/called/kind/bare": 0.03, "test/box_iou": 0.7}
    about = {"method": "segment", "network": "modified_unet", "dataset": "mafa", "origin": "real"}
    write_run(output_dir, "evaluate", "seen1", metrics=scores, upstream=["seg1"], split="test", **about)
    runs = read_runs(output_dir)
    shown = row(tables.occlusion(runs), "seen1")
    assert (shown["masked, called occluded"], shown["bare, called occluded"], shown["box IoU"]) == (
        "95.00",
        "3.00",
        "70.00",
    )
    assert "Dice" not in shown, "no run has it"
    assert len(panels.masks(runs)) in (0, 1)


def test_evaluations_have_their_own_table(output_dir: Path) -> None:
    before = read_runs(output_dir)
    write_evaluations(output_dir)
    runs = read_runs(output_dir)
    (evaluated,) = tables.across(runs).runs
    assert evaluated.id == "eval1"
    shown = row(tables.across(runs), "eval1")
    assert (shown["parser"], shown["split"], shown["classes"]) == ("mtl1", "test", "lapa")
    assert (shown["trained on"], shown["scored on"]) == ("celebamask_hq (real, merged as farl)", "lapa (synthetic)")
    assert (shown["mIoU"], shown["small mIoU"]) == ("30.00", "10.00")
    assert tables.results(runs) == tables.results(before)
    assert comparisons.findings(runs) == comparisons.findings(before)
    assert len(panels.predictions(runs)) == len(panels.predictions(before))


def test_each_kind_of_run_has_a_section_on_the_page(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl1", curves=False)
    for write in (write_segmenters, write_grid_search, write_group_panels, write_evaluations):
        write(tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for title in ("Occlusion segmentation", "Grid search", "By style", "Across data sets", "Occlusion segmentation on"):
        assert title in page


def test_results_are_percentages_and_the_gain_is_in_points(output_dir: Path) -> None:
    table = tables.results(read_runs(output_dir))
    assert [run.id for run in table.runs] == ["base1", "mtl1"]
    mtl = row(table, "mtl1")
    assert (mtl["mIoU"], mtl["mean F1"], mtl["pixel acc."], mtl["mean acc."]) == ("58.31", "61.00", "90.00", "70.00")
    assert (mtl["labels"], mtl["data"], mtl["method"]) == ("1 % (6 images)", "lapa (synthetic)", "MTL")
    assert mtl["gain"] == "+1.41"
    assert row(table, "base1")["gain"] == ""


def test_class_table_names_every_class_and_marks_the_absent_one(output_dir: Path) -> None:
    (table,) = tables.class_ious(read_runs(output_dir))
    mtl = row(table, "mtl1")
    assert {name.replace("_", " ") for name in LAPA.classes} <= set(mtl)
    assert (mtl["left eye"], mtl["inner mouth"]) == ("58.31", "—")


@pytest.mark.parametrize(
    "change",
    [
        {"subset": 1},
        {"seed": 1},
        {"data_digest": "d2"},
        {"label_fraction": 0.1},
        {"scale": "study"},
        {"recipe": "paper"},
        {"dataset": "celebamask_hq"},
        {"data_digest": None},
        {"state": "running"},
    ],
)
def test_no_gain_across_settings(tmp_path: Path, change: dict[str, Any]) -> None:
    write_run(tmp_path, "finetune", "base1", method="baseline")
    write_run(tmp_path, "finetune", "mtl1", **change)
    runs = read_runs(tmp_path)
    assert comparisons.pairs(runs) == []
    assert comparisons.findings(runs) == []


def test_no_gain_where_two_baselines_fit(tmp_path: Path) -> None:
    for run_id in ("base1", "base2"):
        write_run(tmp_path, "finetune", run_id, method="baseline")
    write_run(tmp_path, "finetune", "mtl1")
    assert row(tables.results(read_runs(tmp_path)), "mtl1")["gain"] == "not paired"


def test_runs_of_other_versions_of_a_stage_are_neither_averaged_nor_paired(tmp_path: Path) -> None:
    for version, miou in ((2, 0.3), (3, 0.4)):
        about = {"method": "baseline", "miou": miou, "seed": version, "identity": {"version": version, "settings": {}}}
        write_run(tmp_path, "finetune", f"base{version}", **about)
    old, new = read_runs(tmp_path)
    assert [len(repeats.runs) for repeats in comparisons.FinishedRuns([old, new]).repeats([old, new])] == [1, 1]
    assert comparisons.setting(old, repeat=False) != comparisons.setting(new, repeat=False)


def test_of_two_baselines_the_one_with_the_same_loss_counts(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "base1", method="baseline", miou=0.4)
    write_run(tmp_path, "finetune", "mtl1", loss="ce")
    (finding,) = comparisons.findings(read_runs(tmp_path))
    assert "baseline 40.00 (loss ce against focal_dice): +10.00" in finding.sentence
    write_run(tmp_path, "finetune", "base2", method="baseline", miou=0.45, loss="ce")
    (finding,) = comparisons.findings(read_runs(tmp_path))
    assert "baseline 45.00: +5.00" in finding.sentence


def test_headline_of_one_pair_and_of_repeats(output_dir: Path) -> None:
    (finding,) = comparisons.findings(read_runs(output_dir))
    assert math.isclose(finding.gain, 1.41)
    assert "MTL 58.31 mIoU, baseline 56.90: +1.41 points" in finding.sentence
    assert "One seed, one subset: within noise until repeated." in finding.sentence
    write_run(output_dir, "finetune", "base2", method="baseline", miou=0.6, subset=1)
    write_run(output_dir, "finetune", "mtl2", miou=0.59, subset=1)
    (finding,) = comparisons.findings(read_runs(output_dir))
    assert math.isclose(finding.gain, 0.205)
    assert "Means of 2 pairs (one seed, 2 subsets)" in finding.sentence
    assert "from −1.00 to +1.41, MTL ahead in 1 of 2" in finding.sentence


def test_runs_of_the_same_seed_and_subset_are_no_repeats(output_dir: Path) -> None:
    write_run(output_dir, "finetune", "mtl2", miou=0.6)
    assert len(comparisons.findings(read_runs(output_dir))) == 2


def test_curves_leave_out_empty_cells_and_the_half_written_line(output_dir: Path) -> None:
    run = next(run for run in read_runs(output_dir) if run.id == "mtl1")
    steps, loss = run.curve("step", "train/loss")
    assert (len(steps), loss[0]) == (60, 2.0)
    epochs, miou = run.curve("epoch", "val/miou")
    assert epochs.tolist() == [0, 1, 2]
    assert math.isclose(miou[-1], 0.5831)
    assert len(run.curve("step", "no/such")[0]) == 0


def test_figures_cite_their_runs_and_fractions_need_two(output_dir: Path) -> None:
    write_evaluations(output_dir)  # of which there is no figure
    assert {chart.title: {run.id for run in chart.runs} for chart in figures.charts(read_runs(output_dir))} == {
        "Pre-training on lapa (synthetic)": {"pre1"},
        "Fine-tuning on lapa (synthetic), 1 % (6 images) labelled": {"base1", "mtl1"},
    }
    write_run(output_dir, "finetune", "mtl10", label_fraction=0.1, labelled=60, miou=0.7)
    chart = figures.charts(read_runs(output_dir))[-1]
    assert chart.title == "Label efficiency on lapa (synthetic), scale demo, recipe short"
    assert {run.id for run in chart.runs} == {"base1", "mtl1", "mtl10"}
    assert "MTL 70.00 % at 10 %" in chart.alt
    assert figures.COLOURS["mtl"][0] in chart.light
    assert figures.COLOURS["mtl"][0] not in chart.dark


def test_runs_that_are_no_repeats_have_their_own_lines(tmp_path: Path) -> None:
    rows = ((0.01, 0.1, 0, 0.4), (0.01, 0.1, 1, 0.5), (0.01, 0.2, 0, 0.6), (0.1, 0.1, 0, 0.7))
    for place, (fraction, rate, seed, miou) in enumerate(rows):
        identity = {"settings": {"finetune.optimizer.lr": rate}}
        about = {"label_fraction": fraction, "seed": seed, "identity": identity}
        write_run(tmp_path, "finetune", f"mtl{place}", miou=miou, curves=False, **about)
        write_run(tmp_path, "finetune", f"base{place}", miou=0.3, method="baseline", curves=False, **about)
    (chart,) = figures.charts(read_runs(tmp_path))
    named = "MTL (finetune.optimizer.lr={})"
    assert chart.alt.startswith("baseline (finetune.optimizer.lr=0.1) 30.00 % at 1 %")
    for part in (f"{named.format(0.1)} 45.00 % at 1 %", f"{named.format(0.1)} 70.00 % at 10 %"):
        assert part in chart.alt
    assert f"{named.format(0.2)} 60.00 % at 1 %" in chart.alt
    assert f"gain of {named.format(0.1)} +15.00 points at 1 %" in chart.alt
    assert f"gain of {named.format(0.2)} +30.00 points at 1 %" in chart.alt


def test_panels_pair_runs_on_shared_samples(output_dir: Path) -> None:
    (output_dir / "runs/finetune-mtl1/panels/test/face_02.prediction.png").unlink()
    (panel,) = panels.predictions(read_runs(output_dir))
    assert panel.columns == ("image", "ground_truth", "baseline", "MTL")
    assert [sample for sample, _ in panel.rows] == ["face_01"]
    assert dict(panel.legend)["hair"] == "rgb(255, 0, 102)"
    tile = panel.rows[0][1][3]
    assert tile is not None
    assert (tile.width, tile.height, tile.alt) == (16, 16, "MTL of face_01")
    (panel,) = panels.reconstructions(read_runs(output_dir))
    assert panel.columns == ("image", "masked", "reconstruction")


def test_panels_of_older_runs_are_read(output_dir: Path) -> None:
    before = panels.predictions(read_runs(output_dir)), panels.of_one_run(read_runs(output_dir)[0])
    for file in output_dir.glob("runs/*/panels/*/*.ground_truth.png"):
        file.rename(file.with_name(file.name.replace("ground_truth", "truth")))
    assert (panels.predictions(read_runs(output_dir)), panels.of_one_run(read_runs(output_dir)[0])) == before


def test_page_is_self_contained_escaped_and_the_same_each_time(output_dir: Path) -> None:
    nasty = '"><script>alert(1)</script>${{7*7}}\ud800\x00'
    write_run(output_dir, "finetune", "odd1", experiment=nasty, dataset=nasty, ablation=nasty, method=nasty)
    page = write_report(output_dir)
    first = page.read_bytes()
    assert page == output_dir / "report" / "index.html"
    assert write_report(output_dir).read_bytes() == first
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "tables", "figures", "runs"}
    html = first.decode()
    assert html.count("<script") == 1, "our own"
    assert "alert(1)</script>" not in html
    assert "&lt;b&gt;boom&lt;/b&gt; &amp; smoke" in html
    assert "status.json cannot be read" in html
    assert "not how well it works on real faces" in html
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|srcset)="([^"]*)"', html))
    assert 'href="runs/finetune-mtl1.html"' in html
    for anchor in re.findall(r'href="#([^"]*)"', html):
        assert f'id="{anchor}"' in html


def test_each_run_has_its_own_page(output_dir: Path) -> None:
    nasty = '"><script>alert(1)</script>${{7*7}}\ud800\x00'
    settings = {"finetune.loss": "ce", "datamodule.crop": None, nasty: True}
    write_run(output_dir, "finetune", "full", identity={"settings": settings}, upstream=["pre1", "gone"], error=nasty)
    folder = write_report(output_dir).parent / "runs"
    assert {page.stem for page in folder.iterdir()} == {path.name for path in (output_dir / "runs").iterdir()}
    html = (folder / "finetune-full.html").read_text()
    assert 'href="pretrain-pre1.html"' in html
    assert "gone</span> (not in this folder)" in html
    assert "<script" not in html
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|srcset)="([^"]*)"', html))
    for scored in ("test/miou", "0.5000", "finetune.loss", "train/loss", "M0.0,2.0 4.1,"):
        assert scored in html
    assert html.count("data:image/png") == 6, "three kinds of two samples"
    (before,) = (page for page in folder.iterdir() if page.stem == "pretrain-pre1")
    assert "finetune-full.html" in before.read_text(), "a run names what was made from it"
    for link in re.findall(r'href="([^"#]*)', html):
        assert (folder / link).exists(), link
    for run in (output_dir / "runs").iterdir():
        if run.name != "finetune-half1":
            shutil.rmtree(run)
    write_report(output_dir)
    assert [page.name for page in folder.iterdir()] == ["finetune-half1.html"]


def test_a_baseline_is_the_most_alike(tmp_path: Path) -> None:
    for run_id, rate, miou in (("base1", 0.1, 0.4), ("base2", 0.01, 0.5)):
        identity = {"settings": {"finetune.optimizer.lr": rate, "finetune.seed": 0}}
        write_run(tmp_path, "finetune", run_id, method="baseline", miou=miou, identity=identity)
    write_run(tmp_path, "finetune", "mtl1", miou=0.6, identity={"settings": {"finetune.optimizer.lr": 0.01}})
    (finding,) = comparisons.findings(read_runs(tmp_path))
    assert "baseline 50.00: +10.00" in finding.sentence


def test_tables_and_figures_are_written_as_files(output_dir: Path) -> None:
    folder = write_report(output_dir).parent
    with (folder / "tables" / "test_results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"]: row["mIoU"] for row in rows} == {"mtl1": "58.31", "base1": "56.90"}
    assert all(path.read_text().lstrip().startswith("<?xml") for path in (folder / "figures").glob("*.svg"))


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
    *("--allow-file-access-from-files", "--dump-dom"),  # so that one page may look into others
)
LOOK = """<script>onload = () => {
  const pages = [...document.querySelectorAll("iframe")].map(frame => frame.contentDocument);
  const runs = page => [...page.querySelectorAll('tr[data-words=""][id]')].map(row => [row.id, row.hidden]);
  const seen = pages.map(runs);
  const field = pages[0].querySelector("#filter input");
  field.value = "failed";
  field.dispatchEvent(new Event("input"));
  document.body.innerHTML = JSON.stringify([...seen, runs(pages[0])]);
}</script>"""
"""Listed and filtered-out runs of each page, and of the first one after words were typed."""


@pytest.mark.process
def test_the_page_filters_its_runs_in_a_browser(output_dir: Path, tmp_path: Path) -> None:
    if CHROMIUM is None:
        skip("no Chromium to open the page with")
    assert CHROMIUM is not None
    shutil.rmtree(output_dir / "runs" / "finetune-half1")
    page = write_report(output_dir)
    every = {"pretrain-pre1", "finetune-mtl1", "finetune-base1", "finetune-fail1"}
    left = {
        "": every,
        "method=mtl": every - {"finetune-base1"},
        "failed": {"finetune-fail1"},
        "method=baseline%20done": {"finetune-base1"},
        "nothing": set(),
    }
    frames = "".join(f'<iframe src="{page.as_uri()}#show={words}"></iframe>' for words in left)
    (tmp_path / "frames.html").write_text(f"<!doctype html><body>{frames}{LOOK}</body>")
    response = subprocess.run(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path}/c", (tmp_path / "frames.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in response.stderr, "no error, nothing blocked"
    (listed,) = re.findall(r"<body>(.*)</body>", response.stdout, re.DOTALL)
    pages = [dict(runs) for runs in json.loads(listed)]
    assert [set(runs) for runs in pages] == [every] * 6
    shown = [{run for run, filtered_out in runs.items() if not filtered_out} for runs in pages]
    assert shown == [*left.values(), left["failed"]]


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


def loaded(address: str) -> tuple[str | None, str]:
    """Refresh header and text of a page."""
    with urllib.request.urlopen(address) as response:  # noqa: S310 (our own server)
        return response.headers["Refresh"], response.read().decode()


def test_the_dashboard_shows_new_runs(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl1", curves=False)
    dashboard = Dashboard(tmp_path, port=0, every=0.2)
    assert dashboard.address.startswith("http://127.0.0.1:")
    thread = threading.Thread(target=dashboard.serve)
    thread.start()
    try:
        refresh, page = loaded(dashboard.address)
        assert refresh == "0.2"
        assert "mtl1" in page
        write_run(tmp_path, "finetune", "new1", curves=False)
        deadline = time.monotonic() + 30
        while "finetune-new1" not in loaded(dashboard.address)[1]:
            assert time.monotonic() < deadline, "the page was not written again"
            time.sleep(0.1)
        assert loaded(dashboard.address.replace("report/index.html", "runs/finetune-mtl1/config.yaml"))[0] is None
    finally:
        dashboard.close()
        thread.join()
    elsewhere = tmp_path / "elsewhere"  # what closed may still be writing its last page
    write_run(elsewhere, "finetune", "mtl1", curves=False)
    taken = Dashboard(elsewhere, port=0, every=60)
    with pytest.raises(ConfigError, match="cannot be used"):
        Dashboard(elsewhere, port=int(taken.address.split(":")[2].partition("/")[0]), every=60)


def test_runs_of_a_sweep_that_differ_are_not_averaged(tmp_path: Path) -> None:
    about = {"dataset": "celebamask_hq", "origin": "real", "merging": "official", "label_fraction": 0.1}
    for place, (rate, miou) in enumerate(((1.0, 0.4), (1.0, 0.5), (0.1, 0.2))):
        identity = {"settings": {"finetune.trunk_lr": rate, "finetune.seed": place}}
        write_run(tmp_path, "finetune", f"run{place}", miou=miou, identity=identity, seed=place, **about)
    by_title = {table.title: table for table in papers.paper_tables(read_runs(tmp_path))}
    (table,) = (table for title, table in by_title.items() if "Table 3" in title)
    ours = [row for row in table.rows if row[0].startswith("here")]
    assert [row[1] for row in ours] == ["45.00 ± 7.07", "20.00"]
    assert [row[0].rpartition(", ")[2] for row in ours] == ["finetune.trunk_lr=1.0", "finetune.trunk_lr=0.1"]
    assert ("D central masking, combined loss", "81.95", "87.89", "15.32", "90.11", "") in table.rows
    assert all("Nothing comparable" in table.note for title, table in by_title.items() if "Table 1" in title)


def named(output_dir: Path, stage: str) -> dict[str, str]:
    """Differing settings of repeated runs of a stage, by the ids of the runs."""
    runs = read_runs(output_dir)
    repeats = comparisons.FinishedRuns(runs).repeats(run for run in runs if run.stage == stage)
    return {" ".join(run.id for run in one.runs): one.differing for one in repeats}


def test_upstream_settings_do_not_replace_a_run_s_own(tmp_path: Path) -> None:
    def start(run_id: str, rate: float, **changes: Any) -> None:
        settings = {"finetune.optimizer.lr": rate, "trainer.precision": "32-true"}
        write_run(tmp_path, "finetune", run_id, identity={"settings": settings}, **{"method": "baseline"} | changes)

    def transfer(run_id: str, rate: float, upstream: str, seed: int) -> None:
        start(run_id, rate, method="transfer", masking=None, upstream=[upstream], seed=seed)

    start("start1", 0.1)
    start("start2", 0.2)
    start("start3", 0.1, label_fraction=1.0)
    for seed, (rate, upstream) in enumerate(((0.3, "start1"), (0.3, "start1"), (0.4, "start1"), (0.3, "start2"))):
        transfer(f"run{seed}", rate, upstream, seed)
    own, started = "finetune.optimizer.lr", "upstream finetune.optimizer.lr"
    assert {ids: apart for ids, apart in named(tmp_path, "finetune").items() if "run" in ids} == {
        "run0 run1": f"{own}=0.3, {started}=0.1",
        "run2": f"{own}=0.4, {started}=0.1",
        "run3": f"{own}=0.3, {started}=0.2",
    }
    assert not any("label_fraction" in apart for apart in named(tmp_path, "finetune").values())
    transfer("run4", 0.3, "start3", 4)
    assert "upstream label_fraction=1" in named(tmp_path, "finetune")["run4"]
    transfer("again1", 0.3, "run2", 0)
    transfer("again2", 0.3, "run3", 0)
    again = f"{own}=0.3, {started}=0.3, upstream label_fraction=0.01, upstream {started}=0.2"
    assert named(tmp_path, "finetune")["again2"] == f"{again}, upstream upstream stage=finetune"
    for seed, precision in enumerate(("32-true", "bf16-mixed")):
        identity = {"settings": {"trainer.precision": precision}}
        about = {"method": "baseline", "upstream": ["start1"], "checkpoint": "best.ckpt", "seed": seed}
        write_run(tmp_path, "evaluate", f"eval{seed}", identity=identity, **about)
    assert named(tmp_path, "evaluate") == {
        "eval0": "trainer.precision=32-true",
        "eval1": "trainer.precision=bf16-mixed",
    }


def test_shared_settings_of_two_stages_are_named_once(tmp_path: Path) -> None:
    for seed, size in enumerate((64, 96)):
        identity = {"settings": {"datamodule.image_size": size}}
        write_run(tmp_path, "pretrain", f"start{seed}", identity=identity, method=("mtl", "hybrid")[seed])
        write_run(tmp_path, "finetune", f"run{seed}", identity=identity, upstream=[f"start{seed}"], seed=seed)
    assert named(tmp_path, "finetune") == {f"run{n}": f"datamodule.image_size={size}" for n, size in ((0, 64), (1, 96))}


def test_an_ablation_s_label_does_not_split_repeats(tmp_path: Path) -> None:
    about = {"dataset": "celebamask_hq", "origin": "real", "merging": "official"}
    for place, (fraction, label, miou) in enumerate(((0.1, None, 0.4), (0.1, "D", 0.5), (0.1, "D", 0.6))):
        changes = {"ablation": label, "label_fraction": fraction, "seed": place}
        write_run(tmp_path, "finetune", f"run{place}", miou=miou, identity={"settings": {}}, **changes, **about)
    tables = {table.title: table for table in papers.paper_tables(read_runs(tmp_path))}
    (table,) = (table for title, table in tables.items() if "Table 3" in title)
    (ours,) = (row for row in table.rows if row[0].startswith("here"))
    assert ours[1] == "50.00 ± 10.00"
    assert "MTL D " in ours[0]


def test_networks_trained_on_other_data_are_no_repeats_where_they_are_scored(tmp_path: Path) -> None:
    common = {"method": "segment", "network": "modified_unet", "identity": {"settings": {}}}
    for place, digest in enumerate(("d1", "d2")):
        trained = {"dataset": "augmented_celeba", "data_digest": digest, "upstream": [], "seed": place, "metrics": {}}
        write_run(tmp_path, "segment", f"net{place}", **common | trained)
        scores = {"metrics": {"test/accuracy": 0.5 + 0.2 * place}, "seed": place, "upstream": [f"net{place}"]}
        mfsd = {"dataset": "image_mask_folder", "data_digest": "m", "checkpoint": "best.ckpt"}
        write_run(tmp_path, "evaluate", f"eval{place}", **common | mfsd | scores)
    tables = {table.title: table for table in papers.paper_tables(read_runs(tmp_path))}
    (table,) = (table for title, table in tables.items() if "occlusion" in title.lower() and "Table 2" in title)
    assert sorted(row[1] for row in table.rows if row[0].startswith("here")) == ["50.00", "70.00"]


def test_every_printed_row_has_a_number_for_each_column() -> None:
    for table in papers.published()["tables"]:
        scores, costs = len(table["columns"]), len(table.get("costs", {}))
        assert {len(values) for values in table["rows"].values()} <= {scores, scores + costs}, table["key"]
        assert table["notes"]
        assert table["command"].startswith("python ")


def test_real_faces_have_no_note_about_synthetic_ones(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "base1", method="baseline", origin="real", curves=False)
    assert "Synthetic faces" not in write_report(tmp_path).read_text()


@pytest.mark.parametrize(
    "status",
    ["", "[]", "{}", '{"state": "done", "stage": "finetune", "metrics": [1], "seed": {}, "label_fraction": "x"}'],
)
def test_any_status_gives_a_page(tmp_path: Path, status: str) -> None:
    folder = tmp_path / "runs" / "finetune-bare"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(status)
    (folder / "metrics.csv").write_bytes(b"epoch,step\n\xff,\x00")
    assert "bare" in write_report(tmp_path).read_text()


def test_without_runs_one_message_gives_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No runs to report.*runs.*python train\.py"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()


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
    assert [{name: value for name, value in row.items() if name[0] != "_"} for row in rows] == [
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
    ]
    assert [panel.y for panel in made.sections[1].panels] == [["val/miou"], ["val/mean_f1"]]


@pytest.mark.process
def test_reports_load_neither_torch_nor_lightning() -> None:
    code = "import sys, reports.page; assert not {'torch', 'pytorch_lightning'} & sys.modules.keys()"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
