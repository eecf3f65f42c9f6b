"""metrics.csv: one row per step, complete after an interruption."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

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


def log_epochs(curves: Curves, epochs: range) -> None:
    """Five steps an epoch, with a value of the epoch before its checkpoint, and again after it as Lightning does."""
    for epoch in epochs:
        log(curves, range(5 * epoch, 5 * epoch + 5))
        step, of_epoch = 5 * epoch + 4, {"train/accuracy": 0.25, "epoch": epoch}
        curves.log_metrics(of_epoch, step)
        curves.flush()
        curves.log_metrics(of_epoch, step)


def test_values_of_an_epoch_join_the_row_of_its_last_step(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "metrics.csv")
    log_epochs(curves, range(3))
    curves.log_metrics({"late": 1.0}, 14)
    curves.finalize("success")
    table = rows(curves.path)
    assert [int(row["step"]) for row in table] == list(range(15))
    assert [row["train/accuracy"] for row in table] == 3 * ["", "", "", "", "0.25"]
    assert table[14]["late"] == "1.0"

    again = Curves(curves.path)
    again.cut(15)
    assert rows(curves.path) == table


def test_a_file_with_two_rows_of_a_step_is_continued_with_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,loss,train/accuracy\r\n0,0,3.0,\r\n0,0,,0.5\r\n1,1,2.0,\r\n1,1,,0.6\r\n2,2,1.0,\r\n")
    Curves(path).cut(2)
    assert [list(row.values()) for row in rows(path)] == [["0", "0", "3.0", "0.5"], ["1", "1", "2.0", "0.6"]]


@pytest.mark.parametrize(
    "damage",
    [b"0,2,\xff\xfe\r\n", b"0,\xc2\xb2,1\r\n", b"0," + b"9" * 5000 + b",1\r\n", b"0,2," + b"x" * 200_000 + b"\r\n"],
    ids=["no UTF-8", "no decimal", "5000 digits", "a large field"],
)
def test_damaged_rows_do_not_prevent_a_resume(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"epoch,step,loss\r\n0,0,3.0\r\n0,1,2.0\r\n" + damage)
    Curves(path).cut(2)
    assert [row["step"] for row in rows(path)] == ["0", "1"]
