"""A setting that is a path is the text that was typed, at every entry point."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from deploy.settings import ExportSettings, PredictionSettings
from engine.entry_point import _as_typed
from engine.settings import fields, paths
from stages.command import Command
from stages.evaluation import EvaluationSettings
from tests.commands import within

NAMES = (
    *("2024_11_30", "2024", "1e3", "true", "李明", "my faces", "a,b", "photos[1]", "(old)", "a=b", "a:b", "{x}"),
    *("it's", 'the "best"', "C:\\faces\\", "$HOME", "a b (2), [3]"),
)


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_the_text(name: str) -> None:
    override = OverridesParser.create().parse_override(_as_typed(f"out={name}", sweeping=False))
    assert override.value() == name


@pytest.mark.parametrize("value", ["", "null", "[a,b]", "${oc.env:HOME}/x", "'a b'", '"2024"', "~/faces"])
def test_values_that_hydra_reads_stay(value: str) -> None:
    word = _as_typed(f"out={value}", sweeping=False)
    assert word in (f"out={value}", "out='null'")
    assert value != "null" or OverridesParser.create().parse_override(word).value() is None


def test_a_comma_separates_the_values_of_a_sweep() -> None:
    parser = OverridesParser.create()
    (override,) = parser.parse_overrides([_as_typed("out=2024_1,李明,null", sweeping=True)])
    assert override.is_sweep_override()
    values = [value.text if isinstance(value, QuotedString) else value for value in override.sweep_iterator()]
    assert values == ["2024_1", "李明", None]
    assert _as_typed("out=glob(*)", sweeping=True) == "out=glob(*)"
    assert _as_typed("out='a,b',c", sweeping=True) == "out='a,b',c"


@pytest.mark.parametrize(
    ("script", "words", "key"),
    [
        ("train.py", ["experiment=mtl_lapa_1pct"], "output_dir"),
        ("train.py", ["experiment=mtl_lapa_1pct"], "datamodule.root"),
        ("train.py", ["experiment=mtl_lapa_1pct"], "model.encoder_weights"),
        ("evaluate.py", [], "root"),
        ("predict.py", [], "input"),
        ("export.py", [], "out"),
        ("prepare.py", ["task=masked_faces"], "source"),
        ("report.py", [], "output_dir"),
    ],
)
def test_every_entry_point(script: str, words: list[str], key: str, tmp_path: Path) -> None:
    name = "2024_11_30 李, (1)"
    finished = within(script, *words, f"{key}={name}", "--cfg", "job", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    value = yaml.safe_load(finished.stdout)
    for part in key.split("."):
        value = value[part]
    assert value == name


def test_a_folder_whose_name_is_a_number_is_no_camera(tmp_path: Path) -> None:
    (tmp_path / "2024").mkdir()
    finished = within("predict.py", "checkpoint=finetune-000000000000", "input=2024", cwd=tmp_path)
    assert finished.returncode == 2
    assert "input=2024" in finished.stderr
    assert "image" in finished.stderr


@pytest.mark.parametrize("group", [Command, EvaluationSettings, PredictionSettings, ExportSettings])
def test_settings_that_name_a_folder_or_file_are_paths(group: type) -> None:
    words = ("folder", ".dat", "or a file", "the file;", "classes.yaml", "a run")
    by_description = {name for name, field in fields(group) if any(word in (field.description or "") for word in words)}
    texts = {name for name, field in fields(group) if "str" in str(field.annotation)}
    assert by_description & texts <= {*paths(group)}
    assert "output_dir" in paths(group)
