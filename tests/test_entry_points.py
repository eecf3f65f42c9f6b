"""Entry points: exit codes, one message, and no import of torch if nothing is trained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from curation.preparation import TASKS
from engine.settings import CONF, group_options
from tests.commands import process, within
from tests.conftest import ROOT, TINY


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["experiment=mtl_lapa_1pct"], ["data/LaPa", "labels/*.png", "make demo", "datamodule.root="]),
        (["experiment=mtl_lapa_1pct", "label_fraction=2"], ["label_fraction=2", "at most 1"]),
        (["experiment=mtl_lapa_1pct", "seed=-1"], ["seed=-1", "at least 0"]),
        (["experiment=mtl_lapa_1pct", "labelfraction=0.1"], ["labelfraction", "label_fraction"]),
        (["experiment=mtl_lapa_1pct", "scale=huge"], ["scale=huge", "demo, paper, small, study"]),
        (["experiment=mtl_lapa_2pct"], ["mtl_lapa_2pct", "Did you mean mtl_lapa_1pct"]),
        ([], ["experiment", "mtl_lapa_1pct"]),
        (["experiment=mtl_lapa_1pct", "seed=[1"], ["seed=[1", "quotes"]),
        (["experiment=mtl_lapa_1pct", "sweep_name=a=b"], ['sweep_name="a=b"']),
        (["experiment=mtl_lapa_1pct", "finetune=null"], ["finetune=null does not exist"]),
        (["--experiment", "mtl_lapa_1pct"], ["--experiment is not an option", "without dashes"]),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(words: list[str], expected: list[str], tmp_path: Path) -> None:
    finished = within("train.py", *words, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    assert "Error executing job" not in finished.stderr
    assert len(finished.stderr.strip().splitlines()) < 14
    for word in expected:
        assert word in finished.stderr
    assert not (tmp_path / "outputs" / "runs").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'a: !!python/object/apply:os.system ["ls"]\n', "could not determine a constructor"),
        (b"a: \0b\n", "special characters are not allowed"),
        pytest.param(b"a: " + b"[" * 3000 + b"]" * 3000, "nested too deeply", marks=pytest.mark.slow),
        (b"defaults:\n  - strange\n", "names itself"),
        (b"a: [1\n", "expected ',' or ']'"),
        (b"a: \xff\n", "can't decode byte 0xff"),
    ],
)
def test_a_configuration_that_is_no_yaml(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "strange.yaml").write_bytes(content)
    process = within("train.py", "--config-dir", str(tmp_path / "conf"), "experiment=strange", cwd=tmp_path)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert "The configuration cannot be read: " in process.stderr
    assert reason in process.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", ("mtl_lapa_1pct", "scale       demo, paper, small, study", "python train.py experiment=")),
        ("evaluate", ("checkpoint", "split: test", "python evaluate.py checkpoint=")),
        ("predict", ("checkpoint", "input", "python predict.py checkpoint=")),
        ("prepare", ("task", "python prepare.py task=")),
        ("export", ("precision", "python export.py checkpoint=")),
        ("report", ("view", "python report.py")),
    ],
)
def test_help_shows_choices_and_examples(name: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    finished = process(f"{name}.py", "--help", cwd=tmp_path)
    assert finished.returncode == 0
    for word in expected:
        assert word in finished.stdout
    if name == "train":
        lines = finished.stdout.rstrip().splitlines()
        assert len(lines) <= 40, "one screen"
        assert max(map(len, lines)) <= 120
        assert set(group_options("ablation")) < set(re.findall(r"\w+", finished.stdout)), "every choice"


@pytest.mark.process
def test_first_run_dry_run_and_all_done(lapa: Path, tmp_path: Path) -> None:
    """All stages of the parser, with the default encoder, in separate processes."""
    common = [word for word in TINY if not word.startswith("model.encoder")]
    common += [f"{stage}.{name}=1" for stage in ("pretrain", "finetune") for name in ("epochs", "steps_per_epoch")]
    words = ["experiment=svm_lapa", *common, "classify.after=finetune", "label_fraction=0.1", f"datamodule.root={lapa}"]
    dry = within("train.py", *words, "dry_run=true", cwd=tmp_path)
    assert dry.returncode == 0
    assert dry.stdout.count("new") == 4
    assert not (tmp_path / "outputs" / "runs").exists()

    first = process("train.py", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "mIoU" in first.stdout
    assert not list(tmp_path.glob("lightning_logs")), "nothing is written outside the output folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]

    light = (
        "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rpartition('/')[0]);"
        "runpy.run_path(sys.argv[0], run_name='__main__');"
        "heavy = {'torch', 'pytorch_lightning', 'albumentations', 'cv2', 'wandb'} & sys.modules.keys();"
        "assert not heavy, heavy"
    )
    again = subprocess.run(
        [sys.executable, "-c", light, str(ROOT / "train.py"), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("Done already") == 4

    report = within("report.py", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "outputs" / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["checkpoint", "finetune-0123456789ab"]),
        (["checkpoint=finetune-000000000000", "dataset=lapa"], ["finetune-000000000000", "does not exist"]),
        (["checkpoint=finetune-000000000000", "dataset=lappa"], ["dataset=lappa", "Did you mean lapa"]),
        (["checkpoint=finetune-000000000000", "dataste=lapa"], ["dataste", "Did you mean dataset"]),
        (["checkpoint=finetune-000000000000", "dataset=lapa", "splitt=all"], ["Did you mean split"]),
    ],
)
def test_invalid_settings_of_evaluate(words: list[str], expected: list[str], tmp_path: Path) -> None:
    finished = within("evaluate.py", *words, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    for word in expected:
        assert word in finished.stderr
    assert not list(tmp_path.iterdir())


def test_prepare_renders_a_data_set_once(tmp_path: Path) -> None:
    words = ["task=synthetic_faces", "layout=lapa", "count=12", "size=32", "workers=1", "out=synthetic/LaPa"]
    first = within("prepare.py", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert len(list((tmp_path / "synthetic" / "LaPa").glob("*/labels/*.png"))) == 12
    assert within("prepare.py", *words, cwd=tmp_path).returncode == 0
    other = within("prepare.py", *words, "seed=9", cwd=tmp_path)
    assert other.returncode == 2
    assert "synthetic/LaPa" in other.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["task=synthetic_face"],
        [],
        ["task=synthetic_faces", "count=ten"],
        ["task=synthetic_faces", "cuont=10"],
        ["task=audit", "+foo=1"],
    ],
)
def test_invalid_settings_of_prepare(words: list[str], tmp_path: Path) -> None:
    finished = within("prepare.py", *words, cwd=tmp_path)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert not list(tmp_path.iterdir())


def test_each_setting_of_prepare_is_used_by_a_task() -> None:
    heeded = {name for task in TASKS.values() for name in task.settings}
    assert {*OmegaConf.load(CONF / "prepare.yaml")} - {"defaults", "hydra"} == heeded | {"task", "out"}


def test_report_without_runs(tmp_path: Path) -> None:
    finished = within("report.py", cwd=tmp_path)
    assert finished.returncode == 2
    assert "outputs" in finished.stderr
    assert "train.py" in finished.stderr
