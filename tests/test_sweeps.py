"""Every ablation trains, and a sweep is the jobs that it promises."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from conf.schema import CONF, check, group_options
from engine.stages import plan
from engine.training import train
from tests.conftest import ROOT, TINY, settings_of, start_training

SHORT = (
    *TINY,
    "datamodule.image_size=64",
    "pretrain.epochs=1",
    "finetune.epochs=1",
    "callbacks.panels=null",
    "callbacks.activations=null",
)
COMPONENTS = [name for name in group_options("ablation") if name != "encoder_imagenet"]  # which wants the network


def jobs(sweep: str) -> list[list[str]]:
    """The overrides of each job of a preset."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"sweep={sweep}"], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN", "also without -m"
    params = OmegaConf.to_container(config.hydra.sweeper.params)
    assert isinstance(params, dict)
    return [
        [f"{name}={value}" for name, value in zip(params, values, strict=True)]
        for values in itertools.product(*(str(choices).split(",") for choices in params.values()))
    ]


@pytest.mark.parametrize(
    ("sweep", "pretrainings", "finetunings"),
    [
        ("label_fractions", 1, 2 * (2 * 3 + 1)),  # 0.5 and 1 % of 32 faces are one face, all faces are one draw
        ("ablations", 2, 5 * 3),
        ("components", 6, 11 * 3),  # of twelve: where TINY starts from random weights, encoder_random is the reference
    ],
)
def test_a_sweep_shares_what_its_jobs_have_in_common(
    sweep: str, pretrainings: int, finetunings: int, celebamask: Path, tmp_path: Path
) -> None:
    common = ("experiment=mtl_celebamask", *SHORT, f"datamodule.root={celebamask}", f"output_dir={tmp_path}")
    planned = [plan(check(settings_of(*common, f"sweep={sweep}", *job))) for job in jobs(sweep)]
    for stage, count in (("pretrain", pretrainings), ("finetune", finetunings)):
        assert len({run.id for runs in planned for run in runs if run.stage.name == stage}) == count


@pytest.mark.parametrize("ablation", COMPONENTS)
def test_every_ablation_trains(ablation: str, celebamask: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    output = tmp_path_factory.getbasetemp() / "ablations"  # one place: those that share a pre-training share it
    words = ("experiment=mtl_celebamask_10pct", f"ablation={ablation}", *SHORT)
    config = settings_of(*words, f"datamodule.root={celebamask}", f"output_dir={output}")
    train(OmegaConf.create(config))
    *_, finetune = plan(check(config))
    assert finetune.folder.done
    assert finetune.folder.status["ablation"] is not None
    assert 0 < finetune.folder.status["metrics"]["test/miou"] < 1


def test_a_sweep_needs_no_m(lapa: Path, tmp_path: Path) -> None:
    words = ("experiment=mtl_lapa", "sweep=ablations", "dry_run=true", "scale=demo", f"datamodule.root={lapa}")
    process = start_training(*words, f"output_dir={tmp_path}", cwd=ROOT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert [output.count(f"ablation={name} ") for name in "ABCDE"] == [3] * 5
