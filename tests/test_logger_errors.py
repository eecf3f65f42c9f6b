"""No logger costs a run: an error of W&B or of a logger of the user's own is one warning."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, Logger
from rich.console import Console

from engine import fitting
from engine.guarded_loggers import guarded
from engine.stage import Run
from engine.wandb_runs import is_disabled, log_classes, wandb_run
from foundation.recorded_runs import read_runs
from reports import wandb_sync
from tests.conftest import wandb_records
from tests.run_folders import write_run

CONFIG: dict[str, Any] = {"logger": {"wandb": {"project": "halfmask", "mode": "offline", "group": None, "tags": []}}}


class Broken(CSVLogger):
    """A logger whose server has gone."""

    def log_metrics(self, *_: Any, **__: Any) -> None:
        raise ConnectionError("no server")

    def finalize(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("not reached")


def test_a_logger_that_fails_warns_once(tmp_path: Path) -> None:
    logger = copy.deepcopy(guarded(Broken(tmp_path)))  # as processes get it that Lightning spawns
    with pytest.warns(UserWarning, match=r"Broken has failed .*no server.*metrics.csv is complete"):
        logger.log_metrics({"loss": 1.0}, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logger.log_metrics({"loss": 1.0}, 1)
        logger.finalize("success")
    assert isinstance(logger, Logger)


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be made, as that of a container's user."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("homeless")
def test_a_run_without_a_home_logs_its_table(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with wandb_run(tmp_path / "run", CONFIG, id="one") as run:
            run.log({"loss": 1.0})
            log_classes(run, {"test/iou/nose": 0.5})
    assert list(tmp_path.glob("run/wandb/offline-run-*-one/files/media/table/test/*.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


@pytest.mark.slow
def test_a_table_that_wandb_refuses_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wandb_run(tmp_path, CONFIG, id="one") as run, monkeypatch.context() as patch:
        patch.setattr("wandb.Table", refuse)
        with pytest.warns(UserWarning, match="W&B has failed"):
            log_classes(run, {"test/iou/nose": 0.5})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            log_classes(run, {"test/iou/nose": 0.5})


def refuse(*_: Any, **__: Any) -> None:
    raise PermissionError(13, "Permission denied", "/.local")


def test_wandb_that_cannot_open_a_run_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/home/none")

    monkeypatch.setattr("wandb.init", init)
    with pytest.warns(UserWarning, match="W&B has failed"), wandb_run(tmp_path, CONFIG, id="one") as run:
        assert run is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"WANDB_MODE": "disabled"}, True),
        ({"WANDB_DISABLED": "true"}, True),
        ({"WANDB_DISABLED": "false"}, False),
        ({"WANDB_MODE": "offline"}, False),
    ],
)
def test_variables_that_disable_wandb(
    variables: dict[str, str], expected: bool, parser_runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_disabled("offline") is expected
    if expected:
        with fitting._loggers(parser_runs[0], CONFIG, 1, last=True) as loggers:
            assert len(loggers) == 1


@pytest.mark.slow
def test_an_agent_of_wandb_gets_the_last_run_of_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "agents1")
    ids = []
    for name, last in (("pretrain-1", False), ("finetune-1", True)):
        with wandb_run(tmp_path / name, CONFIG, by_agent=last, id=name) as run:
            ids.append((run.id, run.sweep_id))
    assert ids == [("pretrain-1", None), ("agents1", "sweep1")]


@pytest.mark.slow
def test_a_run_that_wandb_has_not_written_completely_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "finetune", "one1")
    original, console = wandb_sync.wandb_run, Console(quiet=True)

    def on_a_full_disk(*arguments: Any, **named: Any) -> Any:
        opened = original(*arguments, **named)
        enter = type(opened).__enter__

        class Opened:
            def __enter__(self) -> Any:
                run = enter(opened)
                monkeypatch.setattr(run, "log", lambda *_, **__: None)
                return run

            def __exit__(self, *error: Any) -> Any:
                return opened.__exit__(*error)

        return Opened()

    with monkeypatch.context() as patch:
        patch.setattr(wandb_sync, "wandb_run", on_a_full_disk)
        patch.setattr(wandb_sync, "ATTEMPTS", 1)
        with pytest.raises(Exception, match="could be written"):
            wandb_sync.write_wandb_runs(read_runs(tmp_path), tmp_path, console)
    assert not list((tmp_path / "wandb").iterdir())
    (folder,) = wandb_sync.write_wandb_runs(read_runs(tmp_path), tmp_path, console)
    (kept,) = folder.glob("wandb/offline-run-*")
    (file,) = kept.glob("*.wandb")
    history = [record for record in wandb_records(kept) if record["type"] == "history"]
    assert wandb_sync._history_records(file) == len(history) > 0
