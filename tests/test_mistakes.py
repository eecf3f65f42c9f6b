"""Mistakes with code from outside: one message each, exit code 2, before anything is trained where that is possible."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from foundation.errors import UserError
from stages.command import train
from tests.commands import ROOT, Finished, within
from tests.conftest import TINY, settings_of
from tests.mistakes import write_modules

PARSER = ("experiment=baseline_lapa_10pct", "model.architecture=null")
THROUGH_ENTRY_POINT = ("--", "callbacks")
"""Starts of words that Hydra or the entry point judges."""
BOTH = ("experiment=mtl_lapa_10pct",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own folder with the package ``mistakes``."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_modules(folder)
    return folder


@pytest.fixture
def command(folder: Path, tmp_path: Path, lapa: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.syspath_prepend(str(folder))
    return Command(lapa, tmp_path / "outputs")


class Command:
    """Runs a training command on small data; through ``train.py`` itself where its options are what is wrong."""

    def __init__(self, root: Path, output: Path) -> None:
        self.root, self.output = root, output

    def __call__(self, *words: str) -> Finished:
        small = (*TINY, f"datamodule.root={self.root}", f"output_dir={self.output}")
        if any(word.startswith(THROUGH_ENTRY_POINT) for word in words):
            return within("train.py", *small, *words, cwd=ROOT)
        try:
            train(OmegaConf.create(settings_of(*small, *words)))
        except UserError as error:
            return Finished(error.exit_code, "", str(error))
        return Finished(0, "", "")

    def refuses(self, *words: str, message: tuple[str, ...]) -> None:
        finished = self(*words)
        assert finished.returncode == 2, finished.stderr
        assert "Traceback" not in finished.stderr
        assert len(finished.stderr.strip().splitlines()) < 6, finished.stderr
        for part in message:
            assert part in finished.stderr


def network(target: str, *words: str) -> tuple[str, ...]:
    return (*PARSER, f"model.network={{_target_:{target}{','.join(['', *words])}}}")


def stage(target: str, *words: str) -> tuple[str, ...]:
    return (*BOTH, f"stages=[pretrain,{{_target_:{target}{','.join(['', *words])}}}]")


def callback(target: str, *words: str) -> tuple[str, ...]:
    return (*PARSER[:1], f"+callbacks.mine={{_target_:{target}{','.join(['', *words])}}}")


def logger(target: str) -> tuple[str, ...]:
    return (*PARSER[:1], f"+logger.mine={{_target_:{target}}}")


def task(target: str, *words: str) -> tuple[str, ...]:
    return (*BOTH, f"pretrain.task={{_target_:{target}{','.join(['', *words])}}}")


def loss(target: str, *words: str) -> tuple[str, ...]:
    return (*PARSER[:1], f"finetune.loss={{_target_:{target}{','.join(['', *words])}}}")


def layout(target: str, *words: str) -> tuple[str, ...]:
    return (*PARSER[:1], f"datamodule.layout={{_target_:{target}{','.join(['', *words])}}}")


PLACES = {
    "model.network": network,
    "stages[1]": stage,
    "callbacks.mine": callback,
    "logger.mine": logger,
    "pretrain.task": task,
    "finetune.loss": loss,
    "datamodule.layout": layout,
}


@pytest.mark.parametrize(("key", "words"), PLACES.items(), ids=PLACES)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_package.Thing", ("there is no module no_such_package", "importable from the current folder")),
        ("mistakes.no_such_module.Thing", ("there is no module mistakes.no_such_module",)),
        ("mistakes.networks.Goood", ("mistakes.networks has no Goood", "Did you mean Good?")),
        ("Thing", ("_target_=Thing is invalid", "package.module.Name")),
        ("mistakes.networks.", ("is invalid", "package.module.Name")),
        ("mistakes.syntax.Thing", ("importing mistakes.syntax failed: SyntaxError", "syntax.py, line 1")),
        ("mistakes.needs.Thing", ("there is no module no_such_library, which mistakes.needs imports",)),
        ("mistakes.renamed.Thing", ("importing mistakes.renamed failed: ImportError", "FaceParsr")),
        (
            "mistakes.raises.Thing",
            ("importing mistakes.raises failed: RuntimeError: no licence file (raises.py",),
        ),
        ("mistakes.divides.Thing", ("ZeroDivisionError", "divides.py, line 1")),
        ("mistakes.exits.Thing", ("importing mistakes.exits failed: SystemExit", "exits.py, line 2")),
        ("mistakes.networks.NUMBER", ("is a int", "a class or a function")),
    ],
)
def test_a_target_that_cannot_be_imported(
    command: Command, key: str, words: object, target: str, message: tuple[str, ...]
) -> None:
    command.refuses(*words(target), message=(f"{key}._target_={target}", *message))  # type: ignore[operator]
    assert not command.output.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (network("mistakes.networks.Good", "widht:8"), ("model.network", "'widht'", "It is called as (classes, width")),
        (network("mistakes.networks.Needs"), ("model.network", "missing a required argument: 'depth'")),
        (network("mistakes.networks.NoClasses"), ("model.network", "'classes'", "(width=4)")),
        (
            network("mistakes.networks.Good", "classes:3"),
            ("given classes by this project", "Leave model.network.cl"),
        ),
        (stage("mistakes.own_stages.Mine", "rate:1"), ("stages[1]", "does not take these arguments")),
        (stage("mistakes.own_stages.TakesRate", "rat:1"), ("stages[1]", "'rat'", "(rate=1.0)")),
        (callback("mistakes.tasks.Counts"), ("callbacks.mine", "missing a required argument: 'every'")),
        (callback("mistakes.tasks.Counts", "evry:1"), ("callbacks.mine", "(every)")),
        (task("mistakes.tasks.NoOptimization"), ("pretrain.task", "'optimization'", "(model)")),
        (task("mistakes.tasks.KeepsObjects", "strenght:1"), ("pretrain.task", "'strenght'")),
        (loss("torch.nn.CrossEntropyLoss", "ignore:255"), ("finetune.loss", "'ignore'", "ignore_index")),
        (loss("torch.nn.functional.cross_entropy"), ("finetune.loss", "missing a required argument: 'input'")),
        (layout("mistakes.layouts.Needs"), ("datamodule.layout", "missing a required argument: 'years'")),
        (layout("mistakes.layouts.NoRoot"), ("datamodule.layout", "'root'")),
    ],
)
def test_arguments_that_do_not_fit(command: Command, words: tuple[str, ...], message: tuple[str, ...]) -> None:
    command.refuses(*words, message=message)
    assert not (command.output / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            callback("mistakes.tasks.NoCallback"),
            ("callbacks.mine", "no subclass of pytorch_lightning.Callback"),
        ),
        (logger("mistakes.tasks.Fails"), ("logger.mine", "no subclass of pytorch_lightning.loggers.Logger")),
        (stage("mistakes.own_stages.NoStage"), ("stages[1]", "no subclass of engine.stage.Stage")),
        (stage("mistakes.own_stages.Abstract"), ("stages[1]", "abstract")),
        (stage("mistakes.own_stages.Nameless"), ("stages[1]", "has no name, version, settings, reads")),
        (stage("mistakes.own_stages.NamedModel"), ("stages[1]", "the name model is that of a setting")),
        (stage("mistakes.networks.number"), ("stages[1]", "gives no engine.stage.Stage")),
        (stage("mistakes.own_stages.Needs"), ("The setting mine.classes is missing", "at least 1")),
        ((*stage("mistakes.own_stages.Mine"), "mine.epoch=1"), ("no setting mine.epoch", "Did you mean mine.epochs?")),
        ((*stage("mistakes.own_stages.Mine"), "mine.epochs=0"), ("mine.epochs=0 is invalid", "at least 1")),
        ((*stage("mistakes.own_stages.Mine"), "mine.epochs=many"), ("mine.epochs=many is invalid", "integer")),
        (layout("mistakes.layouts.NoLayout"), ("datamodule.layout", "no subclass of datamodules.layouts.Layout")),
        (layout("mistakes.layouts.Abstract"), ("datamodule.layout", "abstract")),
        (layout("mistakes.layouts.Nameless"), ("datamodule.layout", "has no name, labels, title, published")),
        (
            layout("mistakes.layouts.Fails"),
            ("datamodule.layout", "OSError: the share is not mounted (layouts.py"),
        ),
        (layout("mistakes.layouts.gives_none"), ("datamodule.layout", "gives no datamodules.layouts.Layout")),
    ],
)
def test_an_object_of_the_wrong_kind(command: Command, words: tuple[str, ...], message: tuple[str, ...]) -> None:
    command.refuses(*words, message=message)
    assert not (command.output / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*BOTH, "stages=[]"), ("stages=[] is invalid", "a list")),
        ((*BOTH, "stages=pretrain"), ("stages=pretrain is invalid", "a list")),
        ((*BOTH, "stages=[pretrain,finetun]"), ("stages[1]=finetun", "Did you mean finetune?")),
        ((*BOTH, "stages=[pretrain,3]"), ("stages[1]=3 is invalid",)),
        ((*BOTH, "stages=[finetune,pretrain]"), ("pretrain starts from no other run", "first")),
        ((*BOTH, "stages=[pretrain,segment]"), ("segment starts from no other run",)),
        ((*BOTH, "stages=[finetune,finetune]"), ("finetune twice",)),
        ((*BOTH, "stages=[classify]"), ("after pretrain, finetune or semi",)),
        ((*BOTH, "model.network={_target_:mistakes.networks.Good}"), ("method=mtl", "method=baseline")),
        ((*network("mistakes.networks.Good"), "finetune.trained=head"), ("finetune.trained=head needs a parser with",)),
        ((*network("mistakes.networks.Good"), "finetune.trunk_lr=0.1"), ("finetune.trunk_lr must be 1",)),
        ((*BOTH, "model.network=mistakes.networks.Good"), ("model.network=mistakes", "_target_ and its arguments")),
        ((*BOTH, "model.network={width:3}"), ("model.network", "_target_")),
        ((*BOTH, "datamodule.layout=mistakes.layouts.Needs"), ("datamodule.layout=", "_target_ and its arguments")),
        ((*BOTH, "finetune.loss=mistakes.networks.PixelLoss"), ("finetune.loss=mistakes", "_target_")),
        ((*BOTH, "callbacks.mine._target_=mistakes.tasks.Counts"), ("callbacks.mine", "+callbacks.mine")),
        ((*BOTH, "+callbacks.mine.every=3"), ("callbacks.mine has no _target_",)),
        ((*BOTH, "callbacks=3"), ("callbacks=3 does not exist",)),
        ((*BOTH, "trainer.max_epoch=3"), ("no setting trainer.max_epoch",)),
        ((*BOTH, "own.epochs=3"), ("no setting own.epochs",)),
        (("--config-dir", "examples/own_network/cnf", "experiment=own_network"), ("examples/own_network/cnf",)),
        (("--config-dir", "examples/own_network/conf", "experiment=own_networks"), ("Did you mean own_network?",)),
        (
            ("--config-dir", "examples/own_network/conf", "experiment=own_network", "finetune.epoch=1"),
            ("no setting finetune.epoch", "Did you mean finetune.epochs?"),
        ),
        (("--config-dir=examples/own_network/conf", "experiment=own_network", "scale=dmeo"), ("Did you mean demo?",)),
        (
            ("--config-dir", "examples/own_network/conf", "experiment=own_network", "model.network.widht=8"),
            ("model.network.widht",),
        ),
    ],
)
def test_settings_that_do_not_go_together(command: Command, words: tuple[str, ...], message: tuple[str, ...]) -> None:
    command.refuses(*words, message=message)
    assert not (command.output / "runs").exists()


@pytest.mark.training
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (network("mistakes.networks.Fails"), ("model.network", "ValueError: width must be even (networks.py, line")),
        (network("mistakes.networks.Plain"), ("model.network", "gives a Plain", "torch.nn.Module")),
        (network("mistakes.networks.OneClassTooMany"), ("(4, 12, 32, 32)", "shape (4, 11, 32, 32)")),
        (network("mistakes.networks.HalfSize"), ("(4, 11, 16, 16)", "shape (4, 11, 32, 32)")),
        (network("mistakes.networks.Labels"), ("(4, 32, 32)", "shape (4, 11, 32, 32)")),
        (network("mistakes.networks.Dictionary"), ("returned a dict", "shape (4, 11, 32, 32)")),
        (loss("mistakes.networks.PixelLoss"), ("finetune.loss", "a tensor of shape (4, 32, 32)", "scalar")),
        (loss("mistakes.networks.FloatLoss"), ("finetune.loss", "returned a float", "scalar")),
        (loss("mistakes.networks.number"), ("finetune.loss", "gives a int", "_partial_")),
        (callback("mistakes.tasks.Fails"), ("callbacks.mine", "WANDB_TEAM")),
        (callback("mistakes.tasks.gives_a_number"), ("callbacks.mine", "gives no pytorch_lightning.Callback")),
        (
            (*BOTH, "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/miou}"),
            ("in stage pretrain", "`val/miou` which is not available"),
        ),
        (
            (
                *BOTH,
                "+callbacks.best={_target_:pytorch_lightning.callbacks.ModelCheckpoint,monitor:x,mode:most}",
            ),
            ("callbacks.best", "`mode` can be"),
        ),
        (task("mistakes.tasks.NoModule"), ("pretrain.task", "no subclass of pytorch_lightning.LightningModule")),
        (task("mistakes.tasks.OwnModel"), ("pretrain.task", "self.model = model")),
        (task("mistakes.tasks.KeepsObjects"), ("model, optimization", "save_hyperparameters(ignore=")),
    ],
)
def test_what_is_seen_only_as_it_runs(command: Command, words: tuple[str, ...], message: tuple[str, ...]) -> None:
    command.refuses(*words, message=message)
