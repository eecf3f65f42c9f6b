"""The data of the report's page: columns, curves, commands; and that no text of a run ends its element."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from foundation.recorded_runs import read_runs
from reports.commands import command
from reports.curves import curves, overfitting
from reports.payload import as_script, payload
from reports.studies import studies
from tests.conftest import settings_of
from tests.explored_runs import HOSTILE
from tests.run_folders import write_evaluations, write_run


def column(data: dict, kind: str, name: str) -> list[object]:
    """The values of a column, one for each run."""
    (found,) = (one for one in data["columns"] if (one["kind"], one["name"]) == (kind, name))
    if "values" in found:
        return list(found["values"])
    at = found.get("at", [0] * len(data["runs"]))
    return [None if place < 0 else found["distinct"][place] for place in at]


def test_settings_and_metrics_are_columns(tmp_path: Path) -> None:
    own = {"identity": {"settings": {"pretrain.masking": "central", "trainer.devices": 1}}, "curves": False}
    write_run(tmp_path, "pretrain", "pre1", **own)
    for number, rate in enumerate((0.1, 0.2)):
        settings = {"finetune.optimizer.lr": rate, "trainer.devices": 2}
        write_run(tmp_path, "finetune", f"mtl{number}", seed=number, curves=False, identity={"settings": settings})
    data = payload(read_runs(tmp_path), 0, 0)
    assert [run["id"] for run in data["runs"]] == ["pre1", "mtl0", "mtl1"]
    assert column(data, "setting", "finetune.optimizer.lr") == [None, "0.1", "0.2"]
    assert column(data, "setting", "pretrain.masking") == ["central"] * 3, "of the run that they started from"
    assert column(data, "setting", "trainer.devices") == ["1", "2", "2"], "their own"
    assert column(data, "metric", "test/miou") == [None, 0.5, 0.5]
    assert column(data, "about", "stage") == ["pretrain", "finetune", "finetune"]


def test_no_text_of_a_run_ends_the_element_of_the_data(tmp_path: Path) -> None:
    write_run(
        tmp_path, "finetune", "odd1", curves=False, experiment=HOSTILE, error="\u2028]]><!--\ud800", state="failed"
    )
    data = payload(read_runs(tmp_path), 0, 0)
    text = as_script(data)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == data


def test_curves_have_fewer_points_and_end_where_the_run_does(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl1", miou=0.5831)
    (run,) = read_runs(tmp_path)
    trained, validated = curves(run, 20, True)
    assert (len(trained["step"]), trained["step"][-1], trained["epoch"][-1]) == (20, 59, 2)
    loss = 2 / (1 + np.arange(60))
    assert np.allclose(trained["y"]["train/loss"], loss.reshape(20, 3).mean(axis=1), rtol=1e-4)
    assert (validated["step"], validated["y"]["val/miou"][-1]) == ([19, 39, 59], 0.5831)


@pytest.mark.parametrize(
    ("validated", "trained", "verdict"),
    [
        ((0.5, 0.3, 0.6), (0.5, 0.3, 0.1), "Overfits: the validation loss is lowest in epoch 2 of 3, 100 % higher"),
        ((0.5, 0.3, 0.6), (0.5, 0.3, 0.4), "The validation loss is lowest in epoch 2 of 3, 100 % higher"),
        ((0.5, 0.4, 0.3), (0.5, 0.3, 0.1), "No sign of overfitting: the validation loss is lowest in epoch 3 of 3"),
        ((0.5, 0.4), (0.5, 0.3), ""),
    ],
)
def test_a_run_overfits_if_the_validation_loss_alone_rises(
    tmp_path: Path, validated: tuple[float, ...], trained: tuple[float, ...], verdict: str
) -> None:
    run = write_run(tmp_path, "finetune", "mtl1", curves=False)
    rows = [f"{epoch},{epoch},{loss},{val}" for epoch, (loss, val) in enumerate(zip(trained, validated, strict=True))]
    (run / "metrics.csv").write_text("\n".join(["epoch,step,train/loss,val/loss", *rows]) + "\n")
    assert overfitting(read_runs(tmp_path)[0]).startswith(verdict)


@pytest.mark.slow
def test_the_command_composes_the_run_s_configuration(tmp_path: Path) -> None:
    changes = (
        "seed=3",
        "finetune.augmentation.scale=[0.7,1.4]",
        "datamodule.root='a b'",
        "trainer.precision=bf16-mixed",
    )
    config = settings_of("experiment=semi_lapa_1pct", "scale=demo", *changes)
    run = write_run(tmp_path, "semi", "semi1", curves=False)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    python, entry, *words = shlex.split(command(read_runs(tmp_path)[0]))
    assert (python, entry) == ("python", "train.py")
    assert settings_of(*words) == config
    assert len(words) < 12, words


def test_a_configuration_that_is_none_gives_no_command(tmp_path: Path) -> None:
    run = write_run(tmp_path, "finetune", "mtl1", curves=False)
    for text in ("", "[1]", "a: *b", ":"):
        (run / "config.yaml").write_text(text)
        assert command(read_runs(tmp_path)[0]) == ""


def test_studies_hold_methods_by_labels_and_no_evaluation(tmp_path: Path) -> None:
    for place, (fraction, seed) in enumerate(((0.01, 0), (0.01, 1), (0.1, 0))):
        about = {"label_fraction": fraction, "seed": seed, "curves": False, "origin": "real"}
        write_run(tmp_path, "finetune", f"base{place}", miou=0.4, method="baseline", **about)
        write_run(tmp_path, "finetune", f"mtl{place}", miou=0.5 + 0.1 * seed, **about)
    write_run(tmp_path, "finetune", "synth1", miou=0.9, curves=False)
    write_evaluations(tmp_path)
    real, synthetic = studies(read_runs(tmp_path))
    assert (real["title"], real["best"]) == ("lapa (real), scale demo, recipe short", "finetune-mtl1")
    lines = {line["name"]: line for line in real["lines"]}
    assert [(score["at"], score["mean"], score["deviation"]) for score in lines["MTL"]["scores"]] == [
        (1.0, 55.0, 7.07),
        (10.0, 50.0, None),
    ]
    assert [(gain["at"], gain["mean"], gain["reach"]) for gain in lines["MTL"]["gains"]] == [
        (1.0, 15.0, 63.53),
        (10.0, 10.0, None),
    ]
    assert [line["name"] for line in synthetic["lines"]] == ["MTL"]
    assert dict(real["paper"])[1.0] > 0


def test_no_label_is_a_point_of_the_line_of_its_method(tmp_path: Path) -> None:
    synthetic = {"semi.wait": 0.05, "semi.synthetic.share": 1.0, "semi.synthetic.photometric": 1.0}
    for method, ablation, fraction, digest, settings in (
        ("semi", "synthetic_semi", 0.0, "d0", synthetic),
        ("semi", "synthetic_semi", 0.01, "d1", {"semi.wait": 0.05}),
        ("own", "masked_semi", 0.01, "d1", {"semi.wait": 0.4}),
    ):
        about = {"method": method, "ablation": ablation, "label_fraction": fraction, "data_digest": digest}
        own = {"identity": {"settings": settings}, "synthetic": 0 if fraction else 32, "curves": False}
        write_run(tmp_path, "semi", f"{method}{fraction}".replace(".", "_"), **about, **own)
    (study,) = studies(read_runs(tmp_path))
    assert {line["name"]: [score["at"] for score in line["scores"]] for line in study["lines"]} == {
        "self-training (synthetic_semi)": [0.0, 1.0],
        "self-training (masked_semi)": [1.0],
    }


def test_one_number_of_labels_is_shown_without_those_of_the_paper(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "base1", miou=0.4, method="baseline", curves=False)
    write_run(tmp_path, "finetune", "mtl1", curves=False)
    (study,) = studies(read_runs(tmp_path))
    assert [share for share, _ in study["fractions"]] == [1.0]
