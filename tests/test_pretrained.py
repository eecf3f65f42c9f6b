"""Weights that come with the project: names, publication, checksums, and what starts from them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from deploy.publish import halved, publish
from engine.stage import Run
from foundation import pretrained, processor
from foundation.errors import ConfigError, DataError
from foundation.pretrained import run_path, weights
from stages.command import plan
from stages.trained import find
from tests.conftest import changed


@pytest.fixture
def published(parser_runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights with a parser ``tiny``."""
    folder = tmp_path / "pretrained"
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    publish("tiny", parser_runs[-1].folder.path, folder)
    return folder


def test_shipped_weights_are_intact() -> None:
    for entry in json.loads((pretrained.FOLDER / pretrained.INDEX).read_text()).values():
        best = pretrained.FOLDER / "runs" / entry["run"] / "checkpoints" / "best.ckpt"
        assert hashlib.sha256(best.read_bytes()).hexdigest() == entry["sha256"]
    assert {*weights()} == {"parser", "segmenter"}
    for name, mebibytes in (("parser", 15), ("segmenter", 9)):
        trained = find(name, Path("nowhere"))
        assert trained.best.stat().st_size < mebibytes * 2**20
        text = (trained.best.parent.parent / "status.json").read_text()
        assert not re.search(r'"/\w', text), "a path of a computer"


def test_published_run_keeps_its_id_and_its_weights_to_half_precision(parser_runs: list[Run], published: Path) -> None:
    run = parser_runs[-1]
    trained = find("tiny", Path("nowhere"))
    assert trained.name == run.folder.name
    assert trained.best.parent.parent == run_path("tiny", Path("nowhere")) == published / "runs" / run.folder.name
    assert trained.best.stat().st_size < 0.6 * run.folder.best.stat().st_size
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (run.folder.best, trained.best))
    for name, value in before.items():
        torch.testing.assert_close(after[name].to(value.dtype), value, rtol=1e-3, atol=1e-6)
    status = json.loads((trained.best.parent.parent / "status.json").read_text())
    assert status["state"] == "done"
    assert status["metrics"] == run.folder.status["metrics"]
    assert not {"manifest", "device", "history"} & status.keys()


def test_run_starts_from_weights_by_name(parser_runs: list[Run], published: Path, tmp_path: Path) -> None:
    run = parser_runs[-1]
    given = {"method": "transfer", "output_dir": str(tmp_path)}
    (by_name,) = plan(changed(run.settings, **given, **{"finetune.start_from": "tiny"}))
    (by_path,) = plan(changed(run.settings, **given, **{"finetune.start_from": str(run.folder.path)}))
    assert by_name.id == by_path.id
    assert by_name.upstreams[0].best.is_relative_to(published)


def test_another_name_lists_the_weights(published: Path, parser_runs: list[Run], tmp_path: Path) -> None:
    del published
    with pytest.raises(ConfigError, match=r"tiiny does not exist.*\n.*pretrained/: tiny\. Did you mean tiny\?"):
        find("tiiny", tmp_path)
    with pytest.raises(ConfigError, match=r"finetune\.start_from=tiiny.*\n.*pretrained/: tiny\."):
        plan(changed(parser_runs[-1].settings, method="transfer", **{"finetune.start_from": "tiiny"}))


def test_own_folder_named_like_weights_is_reached_by_its_path(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert run_path("tiny", tmp_path).is_relative_to(published)
    assert run_path("./tiny", tmp_path) == Path("tiny")
    assert run_path("finetune-0123456789ab", tmp_path) == tmp_path / "runs" / "finetune-0123456789ab"


@pytest.mark.parametrize("text", ["{", "[]", '{"parser": {}}', '{"parser": 3}'])
def test_broken_index_is_one_message(published: Path, text: str) -> None:
    (published / "weights.json").write_text(text)
    with pytest.raises(DataError, match=r"weights\.json cannot be read"):
        weights()


def test_only_finished_runs_are_published(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a finished run"):
        publish("x", tmp_path, tmp_path)
    with pytest.raises(DataError, match="b has values above 65504"):
        halved({"a": torch.ones(2), "b": torch.tensor([1e6])})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu sse avx512f avx512_bf16 amx_tile\n", True),
        ("model name\t: x\nflags : fpu amx_bf16\n", True),
        ("flags\t\t: fpu avx512f\n", False),
        ("Features : fp asimd\n", False),
        (None, False),
    ],
)
def test_bfloat16_is_recognised(
    text: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert processor.multiplies_bfloat16.__wrapped__() is expected
