"""Shared fixtures: synthetic faces in published layouts, trained runs, real faces if available, and marks by cost.

``training`` marks what trains a network, ``process`` what starts processes, ``slow`` what takes a second; the rest is
what ``make test-fast`` runs. A test without the mark that trains all the same fails, so the marks stay true.

Libraries are imported where they are used: the process that hands out the tests reads this file and needs none.
"""

from __future__ import annotations

import copy
import functools
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; sums of two threads differ in their last bits

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from engine.settings import CONF
from engine.stage import Run
from engine.validation import validated
from stages.command import check, plain_config, plan, train
from tests import commands

commands.save_time()
if threading.current_thread() is threading.main_thread():
    # A shell has its background jobs ignore Ctrl-C, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = commands.ROOT
REQUIRE_ALL = "HALFMASK_REQUIRE_ALL"
"""Environment variable under which no test is skipped for lack of Chromium, SLURM or real data."""
TINY = (
    "scale=demo",
    "logger=none",
    "trainer=cpu",
    "trainer.precision=32-true",  # the default follows the processor
    "trainer.channels_last=false",
    "model.encoder=tu-test_efficientnet",
    "datamodule.image_size=32",
    "datamodule.workers=0",
    "pretrain.epochs=2",
    "pretrain.steps_per_epoch=2",
    "pretrain.batch_size=4",
    "finetune.epochs=2",
    "finetune.steps_per_epoch=2",
    "finetune.batch_size=4",
    "semi.epochs=2",
    "semi.steps_per_epoch=2",
    "semi.batch_size=4",
    "semi.unlabelled_batch_size=4",
    "semi.start_from=null",  # the network is not that of pretrained/
    "callbacks.panels=null",
    "callbacks.group_panels=null",
    "callbacks.activations=null",
)
"""Overrides with which every stage trains in less than a second. The encoder is a test model of timm with 82,300
parameters, available by name in every process of Lightning, torchrun or SLURM."""
PANELS = (
    "callbacks.panels={_target_:callbacks.panels.Panels,count:6}",
    "callbacks.group_panels={_target_:callbacks.group_panels.GroupPanels,count:2}",
    "callbacks.activations={_target_:callbacks.activations.Activations,count:4,classes:null}",
)
"""Overrides that switch on again the images that a training writes by default, a third of the time of a small one."""
GROUPS = {path.name for path in CONF.iterdir() if path.is_dir()}
TRAINED = {"parser_runs", "segmenter_run"}
"""Fixtures of trained runs."""
TINY_SEGMENTER = (*TINY, "segment.epochs=2", "segment.steps_per_epoch=2", "segment.batch_size=4")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for trained runs trains, if it is the first to ask.

    Each of two test processes begins with tests that start processes, one of them with those of SLURM, which wait more
    than they work; the cheap tests come last, where one process takes over what the other has not come to.
    """
    for item in items:
        if TRAINED & set(getattr(item, "fixturenames", ())):
            item.add_marker("training")
    processes = [item for item in items if "process" in item.keywords]
    second = [item for item in processes if item.path.name == "test_processes.py"]
    first = [item for item in processes if item not in second]
    others = [item for item in items if item not in processes]
    others.sort(key=lambda item: "training" not in item.keywords)
    items[:] = [*first, *others[::2], *second, *others[1::2]]


def pytest_collection_finish() -> None:
    """Exclude libraries from garbage collection: each training ends with a collection, which took half a second."""
    import albumentations  # noqa: F401
    import segmentation_models_pytorch  # noqa: F401

    import engine.fitting  # noqa: F401

    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """The process that hands out the tests starts the server that their forked commands come from."""
    if getattr(config.option, "numprocesses", None) and "not process" not in config.option.markexpr:
        commands.start_server()


def skip(reason: str) -> None:
    """Skip the test because this machine lacks something; a failure if everything is required."""
    if os.environ.get(REQUIRE_ALL):
        pytest.fail(f"{REQUIRE_ALL} is set, but: {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Tests do not depend on random numbers used by earlier tests."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _plain_confusion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of the confusion matrix is a sixth of a small training's time; test_metrics.py tests it by itself."""
    from matplotlib.figure import Figure

    monkeypatch.setattr("callbacks.confusion.confusion_figure", lambda *_: Figure(figsize=(1, 1)))


@pytest.fixture(autouse=True)
def _true_to_its_marks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expensive tests must be marked, or ``make test-fast`` would run them."""
    import pytorch_lightning as pl

    def refuse(kind: str) -> Any:
        def refused(*_: Any, **__: Any) -> None:
            pytest.fail(f"mark this test with pytest.mark.{kind}")

        return refused

    marks = {mark.name for mark in request.node.iter_markers()}
    if "training" not in marks:
        monkeypatch.setattr(pl.Trainer, "fit", refuse("training"))
    if "process" not in marks:
        monkeypatch.setattr(commands, "process", refuse("process"))
        monkeypatch.setattr(commands.Forked, "__init__", refuse("process"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all test processes: data are built and runs are trained once."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def lapa(shared: Path) -> Path:
    """Forty synthetic faces of 64 px in LaPa's layout: 32 train, 4 val, 4 test. Read only."""
    from synthesis.synthetic_faces import write_synthetic_faces

    folder = shared / "data" / "LaPa"
    write_synthetic_faces(folder, layout="lapa", count=40, size=64, seed=3, workers=1)
    return folder


@pytest.fixture(scope="session")
def celebamask(shared: Path) -> Path:
    """Forty synthetic faces of 64 px in CelebAMask-HQ's layout: 32 train, 4 val, 4 test. Read only."""
    from synthesis.synthetic_faces import write_synthetic_faces

    folder = shared / "data" / "CelebAMask-HQ"
    write_synthetic_faces(folder, layout="celebamask_hq", count=40, size=64, seed=3, workers=1)
    return folder


@pytest.fixture(scope="session")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty synthetic photographs of 128 px in CelebA's layout. Read only."""
    from synthesis.synthetic_faces import write_synthetic_faces

    root = tmp_path_factory.mktemp("source") / "CelebA"
    write_synthetic_faces(root, layout="celeba", count=40, size=128, seed=2, workers=1)
    return root


@pytest.fixture(scope="session")
def masked(lapa: Path, shared: Path) -> Path:
    """Forty of those faces, most with rendered face masks, as an augmented set of 64 px: 28, 4, 8. Read only."""
    from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
    from synthesis.masks.choices import MaskChoices

    folder = shared / "data" / "AugmentedCelebA"
    choices = MaskChoices(bare=0.2)
    write_masked_faces(folder, MaskedFacesConfig(lapa, count=40, seed=5, choices=choices), workers=1)
    return folder


@pytest.fixture(scope="session")
def face_data() -> Path:
    """The folder of real faces that the environment variable FACE_DATA names; tests skip without it."""
    folder = Path(os.environ.get("FACE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "real" / "LaPa" / "train").is_dir():
        skip("no real faces: FACE_DATA names no folder that holds real/LaPa")
    return folder


Read = Callable[[FileConfigSource, str], ConfigResult]


def _reading_once(read: Read) -> Read:
    """Hydra parses the thirty files of conf/ for each configuration; here it does so once."""
    found: dict[tuple[str, str, str], ConfigResult] = {}

    def read_once(source: FileConfigSource, config_path: str) -> ConfigResult:
        if not source.path.startswith(str(CONF)):
            return read(source, config_path)
        key = (source.provider, source.path, config_path)
        if key not in found:
            found[key] = read(source, config_path)
        return copy.deepcopy(found[key])

    return read_once


mock.patch.object(FileConfigSource, "load_config", _reading_once(FileConfigSource.load_config)).start()


@functools.cache
def _composed(*choices: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(choices))


def settings_of(*overrides: str) -> dict:
    """The composed training configuration with overrides, as plain values.

    Hydra composes each choice of groups once, which takes it a tenth of a second; values are set as it sets them.
    """
    words = OverridesParser.create().parse_overrides(list(overrides))
    plain = (OverrideType.CHANGE, OverrideType.ADD)
    values = [word for word in words if word.key_or_group not in GROUPS and word.type in plain]
    config = copy.deepcopy(_composed(*(str(word.input_line) for word in words if word not in values)))
    for word in values:
        OmegaConf.update(config, word.key_or_group, word.value(), merge=True, force_add=True)
    return plain_config(config)


def run_training(experiment: str, root: Path, output: Path, *overrides: str) -> list[Run]:
    """Run a training command of a small network to its end, in this process; returns its runs."""
    config = settings_of(
        f"experiment={experiment}", *TINY_SEGMENTER, f"datamodule.root={root}", f"output_dir={output}", *overrides
    )
    train(OmegaConf.create(config))
    return plan(check(config))


@pytest.fixture(scope="session")
def parser_runs(lapa: Path, shared: Path) -> list[Run]:
    """A pre-training and a fine-tuning on 10 % of the labels, done. Read only; see :func:`copied`."""
    return run_training("mtl_lapa_10pct", lapa, shared / "outputs", *PANELS)


@pytest.fixture(scope="session")
def segmenter_run(masked: Path, shared: Path) -> Run:
    """A segmenter of face masks, done. Read only; see :func:`copied`."""
    (run,) = run_training("occlusion_celeba", masked, shared / "outputs", *PANELS)
    return run


def changed(settings: Any, /, **changes: object) -> Any:
    """Settings with others in their place; a setting ``a.b`` is changed by ``**{"a.b": value}``.

    Raises:
        ConfigError: see :func:`stages.command.check`.
    """
    return check(settings.flat() | changes)


def unchecked(settings: Any, /, **changes: object) -> Any:
    """As :func:`changed`, without asking whether the settings go together."""
    return validated(type(settings), settings.flat() | changes)


def copied(runs: list[Run], output: Path) -> list[Run]:
    """A copy of shared runs in another output folder, for tests that change it."""
    for run in runs:
        shutil.copytree(run.folder.path, output / "runs" / run.folder.name)
    manifests = runs[-1].folder.output_dir / "manifests"
    if manifests.is_dir():
        shutil.copytree(manifests, output / "manifests", dirs_exist_ok=True)
    return plan(changed(runs[-1].settings, output_dir=str(output)))


def wandb_records(folder: Path) -> list[dict[str, Any]]:
    """The records of an offline W&B run, read by W&B's tool."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    """Run folders for reports: a pre-training, a comparable pair, a failed run and one whose status is half written."""
    from tests.run_folders import write_run

    write_run(tmp_path, "pretrain", "pre1")
    write_run(tmp_path, "finetune", "mtl1", miou=0.5831)
    write_run(tmp_path, "finetune", "base1", miou=0.569, method="baseline", masking=None)
    write_run(tmp_path, "finetune", "fail1", state="failed", error="<b>boom</b> & smoke", seed=1)
    (write_run(tmp_path, "finetune", "half1") / "status.json").write_text('{"state": "done", "metr')
    return tmp_path
