"""The report's tables and findings, on run folders written for the purpose."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from datamodules.labels import LAPA
from foundation.recorded_runs import read_runs
from reports import comparisons, panels, tables
from reports.page import write_report
from reports.studies import studies
from tests.run_folders import row, write_evaluations, write_grid_search, write_run, write_segmenters


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
    assert len(tables.class_ious(runs)) == len(studies(runs)) == 2
    assert [name for name, _ in panels.of_one_run(runs[0])[0].legend[:4]] == ["background", "skin", "nose", "eye g"]
    write_run(tmp_path, "finetune", "base2", miou=0.5, merging="farl", method="baseline", **parts)
    assert row(tables.results(read_runs(tmp_path)), "mtl1")["gain"] == "+10.00"


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
    assert studies(runs) == studies(before)


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


def test_a_baseline_is_the_most_alike(tmp_path: Path) -> None:
    for run_id, rate, miou in (("base1", 0.1, 0.4), ("base2", 0.01, 0.5)):
        identity = {"settings": {"finetune.optimizer.lr": rate, "finetune.seed": 0}}
        write_run(tmp_path, "finetune", run_id, method="baseline", miou=miou, identity=identity)
    write_run(tmp_path, "finetune", "mtl1", miou=0.6, identity={"settings": {"finetune.optimizer.lr": 0.01}})
    (finding,) = comparisons.findings(read_runs(tmp_path))
    assert "baseline 50.00: +10.00" in finding.sentence


def test_real_faces_have_no_note_about_synthetic_ones(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "base1", method="baseline", origin="real", curves=False)
    assert "Synthetic faces" not in write_report(tmp_path).read_text()


def test_self_training_is_paired_with_the_baseline_of_its_labels(tmp_path: Path) -> None:
    def identity(stage: str, version: int, labels: str, **settings: object) -> dict[str, object]:
        named = {f"{stage}.{name}": value for name, value in settings.items()}
        return {"identity": {"version": version, "labels": labels, "settings": named}}

    about = {"origin": "real", "curves": False}
    write_run(
        tmp_path, "finetune", "base1", miou=0.5, method="baseline", **about, **identity("finetune", 4, "six", lr=1)
    )
    write_run(
        tmp_path, "finetune", "base2", miou=0.4, method="baseline", **about, **identity("finetune", 4, "six", lr=2)
    )
    write_run(tmp_path, "semi", "semi1", miou=0.6, method="semi", **about, **identity("semi", 1, "six", lr=1))
    mixed = {"data_digest": "with synthetic faces", "synthetic": 100, "subset": 0}
    write_run(tmp_path, "semi", "semi2", miou=0.7, method="semi", **about, **mixed, **identity("semi", 1, "six", lr=2))
    write_run(
        tmp_path, "semi", "semi3", miou=0.8, method="semi", **about, **mixed, **identity("semi", 1, "others", lr=1)
    )
    write_run(
        tmp_path,
        "semi",
        "semi4",
        miou=0.8,
        method="semi",
        **about,
        data_digest="d2",
        **identity("semi", 1, "six", lr=1),
    )
    write_run(
        tmp_path,
        "semi",
        "semi5",
        miou=0.8,
        method="semi",
        curves=False,
        origin="drawn",
        **identity("semi", 1, "six", lr=1),
    )
    runs = read_runs(tmp_path)
    assert {pair.run.id: pair.baseline.id for pair in comparisons.pairs(runs)} == {"semi1": "base1", "semi2": "base2"}
    gains = {run.id: row(tables.results(runs), run.id)["gain"] for run in runs if run.stage == "semi"}
    assert gains == {
        "semi1": "+10.00",
        "semi2": "+30.00",
        "semi3": "not paired",
        "semi4": "not paired",
        "semi5": "not paired",
    }
    assert all(finding.sentence.startswith("self-training") for finding in comparisons.findings(runs))
    assert all(pair.run.origin == pair.baseline.origin for pair in comparisons.pairs(runs))


def test_labels_that_chose_the_epoch_are_counted(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "chosen1", curves=False, validation_labels=70)
    write_run(tmp_path, "finetune", "last1", curves=False, validation_labels=0, seed=1)
    table = tables.results(read_runs(tmp_path))
    assert [row(table, run)["val. labels"] for run in ("chosen1", "last1")] == ["70", "0"]


def test_a_table_in_latex_holds_its_cells_as_text() -> None:
    columns = (tables.Column("a_b", "words"), tables.Column("mIoU", "score"))
    table = tables.Table("50 %", columns, ((r"x & \y", "−1.50 ± 0.2"),), ())
    assert table.latex() == (
        "% 50 %\n\\begin{tabular}{lr}\n\\toprule\na\\_b & mIoU \\\\\n\\midrule\n"
        "x \\& \\textbackslash{}y & $-$1.50 $\\pm$ 0.2 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )
