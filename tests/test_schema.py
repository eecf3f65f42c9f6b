"""Every configuration composes and passes the schema; an invalid one is refused with the nearest valid key."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

from engine.settings import FREE, fields, flatten, group_options
from engine.validation import explain_overrides
from foundation.errors import ConfigError
from stages.command import Command, check
from tests.conftest import settings_of

KEYS = [name for name, _ in fields(Command)]
ONE = "experiment=mtl_lapa_1pct"


@functools.cache
def composed() -> dict[str, Any]:
    """One composed configuration, flat, for tests that change plain settings of it."""
    return flatten(settings_of(ONE))


def changed(**changes: object) -> dict[str, Any]:
    """Its settings; one called ``a.b`` is changed by ``**{"a.b": value}``.

    Raises:
        ConfigError: see :func:`check`.
    """
    return check(composed() | changes)


@pytest.mark.parametrize("experiment", group_options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    settings = check(settings_of(f"experiment={experiment}"))
    assert settings["experiment"] == experiment
    if experiment.startswith("occlusion"):
        assert settings["method"] == "segment"
        assert settings["datamodule.image_size"] == 128
        return
    if experiment.startswith("svm"):
        assert settings["method"] == "hybrid"
        assert settings["label_fraction"] == 1
        assert f"svm_{settings['datamodule.dataset']}".startswith(experiment)
        return
    if experiment == "few_labels":
        assert (settings["method"], settings["semi.select"], settings["semi.transfer"]) == ("semi", "last", "auto")
        assert (settings["datamodule.dataset"], settings["datamodule.random_split"]) == ("folder", False)
        return
    method, dataset, fraction = re.fullmatch(  # type: ignore[union-attr]
        r"(mtl|baseline|semi|synthetic)_(lapa|celebamask|folder)(.*)", experiment
    ).groups()
    assert settings["method"] == {"synthetic": "baseline"}.get(method, method)
    assert settings["datamodule.dataset"] == {"celebamask": "celebamask_hq"}.get(dataset, dataset)
    assert settings["datamodule.merging"] == {"celebamask": "official"}.get(dataset)
    assert (
        settings["label_fraction"]
        == {"": 1.0, "_full": 1.0, "_0": 0, "_05pct": 0.005, "_1pct": 0.01, "_10pct": 0.1}[fraction]
    )


@pytest.mark.parametrize(("scale", "trainer"), list(zip(group_options("scale"), group_options("trainer"), strict=True)))
def test_every_scale_and_trainer_composes(scale: str, trainer: str) -> None:
    """They set different keys, so each is composed once."""
    settings = check(settings_of(ONE, f"scale={scale}", f"trainer={trainer}"))
    assert settings["scale"] == scale
    assert settings["recipe"] == ("paper" if scale == "paper" else "tuned")


def test_the_paper_as_published() -> None:
    """Implementation details of the paper, at the defaults."""
    settings = check(settings_of("experiment=mtl_lapa"))
    assert settings["datamodule.image_size"] == 480
    assert (settings["model.encoder"], settings["model.encoder_weights"]) == ("resnet50", "imagenet")
    assert settings["pretrain.augmentation.rotation"] == 30
    assert settings["pretrain.augmentation.scale"] == [0.75, 1.25]
    assert settings["finetune.augmentation.rotation"] == 15
    assert settings["finetune.augmentation.scale"] == [0.8, 1.2]
    assert (settings["pretrain.patches"], settings["pretrain.patch_size"]) == (128, [32, 64])
    assert settings["pretrain.masking"] == "central"
    for stage, rate in (("pretrain", 1e-4), ("finetune", 1e-5)):
        assert settings[f"{stage}.optimizer.name"] == "sgd"
        assert settings[f"{stage}.optimizer.lr"] == rate
        assert settings[f"{stage}.batch_size"] == 16
        assert settings[f"{stage}.augmentation.flip"] == settings[f"{stage}.augmentation.color"] == 0
    assert settings["pretrain.epochs"] == 500
    assert settings["finetune.lambda_ce"] == settings["finetune.lambda_dice"] == 0.5
    assert settings["finetune.loss"] == "focal_dice"


def test_recipe_on_the_command_line_overrides_that_of_the_scale() -> None:
    assert check(settings_of(ONE, "scale=demo", "recipe=paper"))["finetune.optimizer.name"] == "sgd"


def test_the_schema_knows_every_composed_key_and_no_other() -> None:
    assert {name for name in composed() if name not in FREE} == set(KEYS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_fraction": 2}, "label_fraction=2 .*\n.*at least 0 and at most 1"),
        ({"label_fraction": 0}, "label_fraction=0"),
        ({"label_fraction": "ten"}, "label_fraction=ten"),
        ({"seed": -1}, "seed=-1 .*\n.*at least 0"),
        ({"seed": True}, "seed=true"),
        ({"finetune.seed": 1.5}, r"finetune.seed=1\.5"),
        ({"finetune.loss": "focal_dcie"}, "Did you mean focal_dice"),
        ({"datamodule.image_size": 100}, "multiple of 32"),
        ({"pretrain.patch_size": [64, 32]}, "smallest, largest"),
        ({"pretrain.patch_size": [32]}, "smallest, largest"),
        ({"finetune.optimizer.lr": 0}, "above 0"),
        ({"finetune.optimizer.lr": float("inf")}, "lr=inf"),
        ({"method": "mlt"}, "Did you mean mtl"),
        ({"subset": 3}, "one of 0, 1, 2"),
        ({"finetune.seed": 99999999999}, "at most 4294967295"),
        ({"logger": {"wandb": {"mode": "ofline"}}}, "Did you mean offline"),
        ({"finetune.validate_every": 501}, "beyond"),
        ({"finetune.frozen_epochs": 500}, r"frozen_epochs=500 with finetune\.epochs=500.*\n.*trained=head"),
        ({"classify.head": "svm_dbt"}, "Did you mean svm_bdt"),
        ({"method": "hybrid", "classify.kernel": "rbf"}, "would take hours.*\n.*max_pixels=20000"),
        ({"method": "hybrid", "finetune.transfer": "all"}, "not for method=hybrid"),
        ({"callbacks": {"swa": {"patience": 3}}}, "callbacks.swa has no _target_"),
        ({"trainer.max_epochs": 3}, "trainer.max_epochs is set by <stage>.epochs"),
        ({"trainer.gradient_clipval": 1}, "Did you mean trainer.gradient_clip_val"),
        ({"stages": ["pretrain", "finetun"]}, "Did you mean finetune"),
        ({"stages": [{"_target_": "no_such_package.Stage"}]}, "no module no_such_package"),
        ({"stages": [{"_target_": "models.parser.FaceParse"}]}, "Did you mean FaceParser"),
        ({"datamodule.merging": "farl"}, "datamodule.dataset=lapa.*\n.*null"),
        (
            {"datamodule.dataset": "celebamask_hq", "datamodule.merging": None},
            "merging=null .*\n.*official, zllrunning, farl",
        ),
        ({"datamodule.dataset": "celebamask_hq", "datamodule.merging": "fral"}, "Did you mean farl"),
        ({"callbacks": {"panels": False}}, "callbacks.panels=False is invalid"),
        ({"finetune.los": "ce"}, "Did you mean finetune.loss"),
        ({"pretrain.optimiser.lr": 1}, "Did you mean pretrain.optimizer.lr"),
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(**changes)


def test_frozen_epochs_have_no_limit_without_a_trained_trunk() -> None:
    assert changed(**{"finetune.trained": "head", "finetune.frozen_epochs": 500})
    assert changed(**{"finetune.frozen_epochs": 499})


def test_integers_are_numbers() -> None:
    assert changed(label_fraction=1) == changed(label_fraction=1.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=mtl_lap"], "Did you mean mtl_lapa?"),
        (["scale=dmeo"], "one of demo, paper, small, study"),
        (["labelfraction=0.1"], "Did you mean label_fraction?"),
        (["finetune.lr=0.1"], "Did you mean finetune.optimizer.lr?"),
        (["datamodule.rot=x"], "Did you mean datamodule.root?"),
        (["epochs=3"], "epochs?"),
        (["experimnt=mtl_lapa"], "Did you mean experiment?"),
        (["verbose"], "key=value"),
        (["datamodule.root=~/LaPa"], "datamodule.root=$HOME/LaPa"),
    ],
)
def test_refused_overrides_are_explained(overrides: list[str], message: str) -> None:
    explanation = explain_overrides(overrides, KEYS)
    assert explanation is not None
    assert message in explanation


def test_good_overrides_need_no_explanation() -> None:
    good = [ONE, "scale=demo,small", "+callbacks.mine._target_=x", "~logger.wandb", "seed=1"]
    assert explain_overrides(good, KEYS) is None
