"""Every command of the README, the guides and the examples is checked; one of each kind is run.

A command with a setting, a choice or a file that does not exist is an error with its file and line. Training commands
are checked as ``train.py`` checks them before it reads data; some are run on small data with tiny settings.
"""

from __future__ import annotations

import csv
import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from curation import preparation
from deploy.settings import check_export, check_prediction
from engine.settings import CONF, group_options
from engine.stage import Run
from foundation import pretrained
from reports.views import VIEWS
from stages.command import check, plain_config
from stages.evaluation import check_evaluation
from tests.commands import Finished, within
from tests.conftest import GROUPS, TINY, settings_of
from tests.documents import DOCUMENTS, ROOT, Command, blocks, commands, links

NOT_RUN = {
    "make": "installs, tests, or runs commands that are checked on their own; the target must exist",
    "source": "the shell's own",
    "torchrun": "starts processes; its train.py is checked",
    "sbatch": "needs SLURM, see test_clusters.py; its train.py is checked",
    "watch": "repeats a command, which is checked",
    "wandb": "needs a login",
    "uvx": "needs a connection",
}
"""Commands that are not run, and why."""


def checked(command: Command) -> None:
    """Check a command as its entry point does before it opens files."""
    program, *words = command.words
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[0] in targets, f"make {words[0]} does not exist"
        return
    if program == "sbatch":
        program, *words = shlex.split(words[words.index("--wrap") + 1])
    if program in ("torchrun", "watch"):
        start = next(place for place, word in enumerate(words) if word == "python" or word.endswith(".py"))
        program, words = "python", [word for word in words[start:] if word != "python"]
    if program != "python":
        assert program in NOT_RUN
        return
    if words[0] == "-m":
        _check_module(words[1], words[2:])
    else:
        CHECKS[words[0]](words[1:])


def _check_module(module: str, words: list[str]) -> None:
    file = ROOT / f"{module.replace('.', '/')}.py"
    assert file.is_file(), f"{module} does not exist"
    source = file.read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{module} has no {word}"


def _check_train(words: list[str]) -> None:
    if "--help" in words or "--cfg" in words:
        return
    several = (
        "-m" in words or any(word.startswith("sweep=") for word in words) or "experiment=occlusion_table4" in words
    )
    words = [word for word in words if word != "-m"]
    if words and words[0] == "--config-dir":
        words = [*words[2:], f"hydra.searchpath=[file://{ROOT / words[1]}]"]
        check(plain_config(_composed("train", *words)))
        return
    one_of_each = []
    if own := [word for word in words if word.startswith("hydra.")]:
        choices = [word for word in words if word.partition("=")[0] in GROUPS and "," not in word]
        _composed("train", *choices, *own, "hydra.mode=null", hydra=True)
    for word in words:
        if word in own:
            continue
        key, _, values = word.partition("=")
        first, *others = re.split(r",(?![^\[{]*[\]}])", values)
        assert not others or several, f"{word} needs -m"
        for value in (first, *others):
            assert key not in GROUPS or value in group_options(key), f"{key}={value} does not exist"
        one_of_each.append(f"{key}={first}")
    check(settings_of(*one_of_each))


@functools.cache
def _composed(name: str, *words: str, hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(words), return_hydra_config=hydra)


def _check_prepare(words: list[str]) -> None:
    config = _composed("prepare", *words)
    with pytest.MonkeyPatch.context() as patch:
        task = preparation.TASKS[config.task]
        patch.setitem(preparation.TASKS, config.task, preparation.Task(lambda _: None, task.settings))
        preparation.prepare(config)


def _check_report(words: list[str]) -> None:
    assert _composed("report", *words).view in VIEWS


CHECKS: dict[str, Any] = {
    "train.py": _check_train,
    "prepare.py": _check_prepare,
    "report.py": _check_report,
    "evaluate.py": lambda words: check_evaluation(_plain("evaluate", words)),
    "predict.py": lambda words: check_prediction(_plain("predict", words)),
    "export.py": lambda words: check_export(_plain("export", words)),
}


def _plain(name: str, words: list[str]) -> dict[str, Any]:
    """The configuration of an entry point; the first of several values."""
    first = [word.partition(",")[0] if "-m" in words else word for word in words if word != "-m"]
    return plain_config(_composed(name, *first))


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_of_a_document_is_valid(name: str) -> None:
    errors = []
    for command in commands(name):
        try:
            checked(command)
        except Exception as error:
            errors.append(f"{command.place}: {shlex.join(command.words)}\n  {type(error).__name__}: {error}")
    assert not errors, "\n".join(errors)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("python train.py experiment=mtl_lapa_2pct", "mtl_lapa_2pct"),
        ("python train.py experiment=mtl_lapa label_fractoin=0.1", "label_fractoin"),
        ("python train.py experiment=mtl_lapa finetune.loss=dice", "dice"),
        ("python train.py experiment=mtl_lapa subset=0,1", "needs -m"),
        ("python train.py -m experiment=mtl_lapa,mtl_lappa", "mtl_lappa"),
        ("python predict.py inptu=photo.jpg", "inptu"),
        ("python prepare.py task=audit count=3", "count"),
        ("python -m benchmarks.masked_faces --sheet", "--sheet"),
        ("make demos", "demos"),
    ],
)
def test_a_mistake_in_a_document_is_found(line: str, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        checked(Command("here", tuple(line.split())))


def test_there_are_commands_to_check() -> None:
    counts = {name: len(commands(name)) for name in DOCUMENTS}
    assert counts["README.md"] >= 15
    assert sum(counts.values()) > 100
    assert not [name for name, count in counts.items() if not count and name != "docs/settings.md"], "opens with one"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_blocks_and_links_of_a_document(name: str) -> None:
    for block in blocks(name):
        if block.language == "python":
            compile(block.text, block.place, "exec")
        if block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)
    assert not [str(path) for path in links(name) if not path.exists()]


def test_the_readme_is_a_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
    images = [path for path in links("README.md") if path.suffix in (".webp", ".png", ".svg")]
    assert len(images) >= 2
    assert all(0 < image.stat().st_size < 400_000 for image in images)


def test_numbers_of_the_figure_stand_in_the_results() -> None:
    results = (ROOT / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    with (ROOT / "docs" / "images" / "label_efficiency.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            deviation = float(row["standard deviation"])
            assert (f"{row['mIoU']} ± {deviation}" if deviation else row["mIoU"]) in results


# One command of each kind, as a document prints it

SMALL = [word for word in TINY if word != "scale=demo"]


@pytest.fixture
def weights(parser_runs: list[Run], segmenter_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small trained networks as the shipped weights."""
    names = {"parser": parser_runs[-1].folder.name, "segmenter": segmenter_run.folder.name}
    monkeypatch.setattr(pretrained, "FOLDER", parser_runs[-1].folder.output_dir)
    monkeypatch.setattr(pretrained, "weights", lambda: names)


def run(name: str, line: str, cwd: Path, *more: str, **replaced: Path) -> Finished:
    """Run a command that a document prints, which begins with the given words."""
    wanted = tuple(line.split())
    (command, *_) = [command for command in commands(name) if command.words[: len(wanted)] == wanted]
    _, script, *words = command.words
    words = [
        f"{key}={replaced.get(key.rpartition('.')[2], value)}" for key, _, value in (w.partition("=") for w in words)
    ]
    finished = within(script, *words, *more, cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.mark.training
def test_commands_of_prediction(weights: None, lapa: Path, tmp_path: Path) -> None:
    del weights
    photo = next(lapa.glob("test/images/*.jpg"))
    (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(photo.read_bytes())
    run("README.md", "python predict.py input=photo.jpg", tmp_path)
    run("README.md", "python predict.py task=occlusion", tmp_path, "out=masks")
    assert (tmp_path / "outputs/predictions/labels/photo.jpg.png").is_file()
    assert (tmp_path / "masks/overlays/one.jpg.jpg").is_file()
    run("docs/first_run.md", "python evaluate.py checkpoint=parser", tmp_path, "workers=0", root=lapa)
    run("docs/deployment.md", "python export.py checkpoint=parser", tmp_path, "rounds=0", "workers=0", root=lapa)
    assert list((tmp_path / "outputs/exports").glob("finetune-*.onnx"))


@pytest.mark.training
def test_commands_of_training(lapa: Path, tmp_path: Path) -> None:
    small = (*SMALL, "finetune.epochs=1", "callbacks.panels=null", "callbacks.activations=null")
    run("README.md", "python train.py experiment=baseline_lapa_10pct", tmp_path, *small, f"datamodule.root={lapa}")
    assert "dry_run" not in (status := next((tmp_path / "outputs/runs").glob("finetune-*/status.json")).read_text())
    assert '"state": "done"' in status
    run("README.md", "python report.py", tmp_path)
    assert (tmp_path / "outputs/report/index.html").is_file()
    shown = run("docs/report.md", "python report.py view=status", tmp_path).stdout
    assert "1 done" in shown
    planned = run(
        "docs/runs.md", "python train.py experiment=mtl_lapa_1pct dry_run=true", tmp_path, f"datamodule.root={lapa}"
    )
    assert planned.stdout.count("train") >= 2


def test_commands_of_data(celebamask: Path, tmp_path: Path) -> None:
    small = ("count=10", "size=32", "workers=1")
    run("docs/synthetic_faces.md", "python prepare.py task=synthetic_faces layout=lapa", tmp_path, *small)
    assert len(list((tmp_path / "data/synthetic/LaPa").glob("*/labels/*.png"))) == 10
    audit = run("docs/first_run.md", "python prepare.py task=audit", tmp_path, root=celebamask)
    assert "40" in audit.stdout


@pytest.mark.training
@pytest.mark.parametrize("name", ["README.md", "docs/deployment.md", "docs/synthetic_faces.md"])
def test_python_of_documents(name: str, weights: None) -> None:
    del weights
    import numpy as np

    names: dict[str, Any] = {"image": np.zeros((64, 48, 3), np.uint8)}
    for block in blocks(name):
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), names)  # noqa: S102
    assert names["masks"].label.shape == (64, 48) if "masks" in names else names["turned"].image.shape == (512, 512, 3)
