"""What enters the id of self-training, and mistakes in its settings."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.settings import flatten
from engine.stage import Run
from foundation.errors import ConfigError, DataError
from stages.command import check, plan
from tests.conftest import TINY, settings_of, unchecked
from tests.semi_settings import SEMI

ROOT = "semi.synthetic.root"


@functools.cache
def composed(experiment: str = "semi_lapa_10pct") -> dict[str, Any]:
    return flatten(settings_of(f"experiment={experiment}", *TINY))


def planned(root: Path, output: Path, experiment: str = "semi_lapa_10pct", /, **changes: object) -> list[Run]:
    """The runs of a command; a setting ``a.b`` is changed by ``**{"a.b": value}``."""
    places = {"datamodule.root": str(root), "output_dir": str(output)}
    return plan(check(composed(experiment) | places | changes))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the digest cache."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def settings(lapa: Path, output: Path) -> Any:
    """Settings of a command with synthetic faces."""
    places = {"datamodule.root": str(lapa), "output_dir": str(output), ROOT: str(lapa)}
    return check(composed() | places)


@pytest.mark.parametrize("key", SEMI)
def test_each_setting_changes_the_id_if_it_must(key: str, settings: Any, tmp_path: Path, lapa: Path) -> None:
    value, changes = SEMI[key]
    if key == ROOT:
        value = str(shutil.copytree(lapa, tmp_path / "copy"))
    assert settings[key] != value, "another value"
    if key == "semi.start_from":
        return  # the run itself enters, see test_self_training
    (before,), (after,) = plan(settings), plan(unchecked(settings, **{key: value}))
    assert (before.id != after.id) == changes


def test_synthetic_faces_enter_by_content_and_their_settings_with_them(
    lapa: Path, celebamask: Path, output: Path
) -> None:
    def identified(**changes: object) -> str:
        (run,) = planned(lapa, output, **changes)
        return run.id

    none = identified()
    assert identified(**{"semi.synthetic.share": 0.5}) == none, "of no synthetic face"
    assert len({none, identified(**{ROOT: str(lapa)}), identified(**{ROOT: str(celebamask)})}) == 3


def test_defaults_added_later_enter_no_id(lapa: Path, output: Path) -> None:
    (run,) = planned(lapa, output, "baseline_lapa_10pct")
    later = {"finetune.ema_decay", "finetune.select", "finetune.augmentation.photometric"}
    assert not later & run.identity["settings"].keys()
    for name, value in (("ema_decay", 0.5), ("select", "last"), ("augmentation.photometric", 0.5)):
        (other,) = planned(lapa, output, "baseline_lapa_10pct", **{f"finetune.{name}": value})
        assert other.identity["settings"][f"finetune.{name}"] == value
        assert other.id != run.id


def test_a_start_has_other_steps_and_rate() -> None:
    random = settings_of("experiment=semi_lapa_1pct", "scale=small", "semi.start_from=null")["semi"]
    started = settings_of("experiment=semi_lapa_1pct", "scale=small", "semi.start_from=finetune-0123456789ab")["semi"]
    assert (random["epochs"] * random["steps_per_epoch"], random["optimizer"]["lr"]) == (900, 2e-3)
    assert (started["epochs"] * started["steps_per_epoch"], started["optimizer"]["lr"]) == (600, 1e-3)
    assert random["batch_size"] == random["unlabelled_batch_size"] == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_fraction": 0}, "label_fraction=0 leaves no labelled face.\n.*semi.synthetic.root"),
        ({"label_fraction": 0, "method": "baseline"}, "label_fraction=0 leaves no labelled face for finetune"),
        ({"label_fraction": 0, ROOT: "x"}, "label_fraction=0 leaves no labelled face"),
        (
            {"label_fraction": 0, ROOT: "x", "semi.synthetic.share": 1, "semi.synthetic.schedule": "linear"},
            "semi.synthetic.schedule=constant",
        ),
        (
            {"label_fraction": 0, ROOT: "x", "semi.synthetic.share": 1, "semi.select": "best"},
            "semi.select=best with label_fraction=0",
        ),
        ({ROOT: "x", "semi.synthetic.share": 1}, "leaves no place in a batch for real labels"),
        ({"trainer.devices": 4, "semi.unlabelled_batch_size": 6}, "semi.unlabelled_batch_size=6 .*\n.*multiple"),
        ({"stages": ["pretrain", "semi"], "semi.start_from": "x"}, "semi starts from the stage before it"),
        ({"stages": ["pretrain", "semi"], "semi.transfer": "all"}, "semi.transfer=all is not for"),
        ({"method": "baseline", "semi.start_from": "x"}, "method=baseline and semi.start_from=x do not go together"),
        ({"semi.threshold": 1}, "semi.threshold=1"),
        ({"semi.views": 3}, "semi.views=3"),
    ],
)
def test_mistakes(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        check(composed() | changes)


def test_synthetic_faces_must_be_some_and_of_classes_that_map(lapa: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"semi.synthetic.root=.* holds no labelled synthetic faces.\n.*prepare.py"):
        planned(lapa, tmp_path, **{ROOT: str(tmp_path)})
    real = Path(shutil.copytree(lapa, tmp_path / "real"))
    (real / "dataset.json").write_text(json.dumps({"origin": "real", "layout": "lapa"}))
    with pytest.raises(DataError, match="holds no labelled synthetic faces"):
        planned(lapa, tmp_path, **{ROOT: str(real)})


def test_the_synthetic_classes_must_map_to_those_of_the_data(lapa: Path, celebamask: Path, output: Path) -> None:
    with pytest.raises(ConfigError, match="has the classes of lapa, which do not map to those of celebamask_hq"):
        planned(celebamask, output, "semi_celebamask_10pct", **{ROOT: str(lapa)})
