"""metrics.csv: one row per step, complete after an interruption."""

from __future__ import annotations

import csv
from pathlib import Path

from callbacks.curves import Curves


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def log(curves: Curves, steps: range) -> None:
    for step in steps:
        curves.log_metrics({"train/lr": 0.1}, step)
        curves.log_metrics({"train/loss": 1 / (step + 1), "epoch": step // 5}, step)
        if step % 5 == 4:
            curves.log_metrics({"val/miou": step / 100, "epoch": step // 5}, step)


def test_one_row_per_step_with_all_that_was_logged(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "metrics.csv")
    log(curves, range(250))
    curves.finalize("success")
    table = rows(curves.path)
    assert [int(row["step"]) for row in table] == list(range(250))
    assert table[4] == {"epoch": "0", "step": "4", "train/lr": "0.1", "train/loss": "0.2", "val/miou": "0.04"}
    assert table[5]["val/miou"] == ""


def test_truncated_and_continued_equals_uninterrupted(tmp_path: Path) -> None:
    uninterrupted = Curves(tmp_path / "uninterrupted.csv")
    log(uninterrupted, range(25))
    uninterrupted.flush()

    broken = Curves(tmp_path / "broken.csv")
    log(broken, range(13))
    broken.flush()
    with broken.path.open("a") as file:
        file.write("2,13,0.")  # killed while writing a line
    resumed = Curves(broken.path)
    resumed.cut(10)
    log(resumed, range(10, 25))
    resumed.flush()
    assert broken.path.read_bytes() == uninterrupted.path.read_bytes()


def test_a_row_truncated_within_its_step_is_left_out(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "metrics.csv")
    log(curves, range(15))
    curves.flush()
    with curves.path.open("a") as file:
        file.write("0,1")  # of step 15
    again = Curves(curves.path)
    again.cut(20)
    assert [int(row["step"]) for row in rows(curves.path)] == list(range(15))


def test_test_scores_are_not_in_the_curves(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "metrics.csv")
    log(curves, range(3))
    curves.log_metrics({"test/miou": 0.5, "epoch": 0}, 3)
    curves.flush()
    assert len(rows(curves.path)) == 3
