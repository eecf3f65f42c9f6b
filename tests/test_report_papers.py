"""Groups of repeated runs, and the papers' tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foundation.recorded_runs import read_runs
from reports import papers
from tests.run_folders import named, write_run


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
