"""The examples are run as their READMEs print them, on small data; ids follow the source of code from outside."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.plugins import source_digest
from engine.stage import Run
from stages.command import check, plan
from tests.commands import ROOT, Finished, within
from tests.conftest import PANELS, TINY, TINY_SEGMENTER, settings_of

EXAMPLES = ROOT / "examples"
SMALL = [word for word in TINY if word not in ("scale=demo", "model.encoder=tu-test_efficientnet")]


def commands(name: str) -> list[list[str]]:
    """The commands that an example's README prints, as words."""
    lines = (EXAMPLES / name / "README.md").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    python ")]


def run(name: str, lapa: Path, output: Path, *more: str, place: int = 0, encoder: bool = True) -> Finished:
    """Run a command of an example's README for two steps an epoch, on the test data."""
    script, *words = commands(name)[place]
    assert script == "train.py"
    assert "scale=demo" in words
    small = [*SMALL, *(["model.encoder=tu-test_efficientnet"] if encoder else [])]
    finished = within(script, *words, *small, f"datamodule.root={lapa}", f"output_dir={output}", *more, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return finished


def statuses(output: Path) -> dict[str, dict[str, Any]]:
    """The status of each run of a command, by stage."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (output / "runs").glob("*/status.json")]
    assert all(status["state"] == "done" for status in found)
    return {status["stage"]: status for status in found}


def curves(output: Path, stage: str) -> set[str]:
    """The columns of a run's metrics.csv."""
    (path,) = (output / "runs").glob(f"{stage}-*/metrics.csv")
    with path.open(encoding="utf-8") as file:
        return set(next(csv.reader(file)))


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/README.md")))
def test_an_example_is_small_and_its_commands_name_what_exists(name: str) -> None:
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 25
    assert commands(name)[0][:3] == ["train.py", "--config-dir", f"examples/{name}/conf"]
    files = (EXAMPLES / name / "conf").rglob("*.yaml")
    (root,) = {line.split()[1] for path in files for line in path.open(encoding="utf-8") if "root:" in line}
    assert f"SYNTHETIC := {root}\n" in (ROOT / "Makefile").read_text(encoding="utf-8"), "the faces of make demo"
    assert f"examples/{name}" in (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.mark.training
def test_own_dataset(lapa: Path, tmp_path: Path) -> None:
    run("own_dataset", lapa, tmp_path)
    status = statuses(tmp_path)["finetune"]
    assert status["dataset"] == "hashed_splits"
    assert status["identity"]["sources"].keys() == {"examples.own_dataset.layout.HashedSplits"}
    assert status["identity"]["settings"]["datamodule.layout"]["held_out"] == 0.15
    assert "test/iou/hair" in status["metrics"]

    script, *printed = commands("own_dataset")[1]
    (layout,) = (word for word in printed if word.startswith("layout="))
    words = [f"checkpoint=finetune-{status['id']}", f"root={lapa}", f"output_dir={tmp_path}", "workers=0"]
    scored = within(script, *words, layout, "trainer.accelerator=cpu", cwd=ROOT)
    assert scored.returncode == 0, scored.stderr
    evaluation = statuses(tmp_path)["evaluate"]
    assert evaluation["metrics"]["test/miou"] == pytest.approx(status["metrics"]["test/miou"])
    assert evaluation["identity"]["sources"].keys() == {"examples.own_dataset.layout.HashedSplits"}
    for wrong in ((), ("dataset=lapa", layout), ("layout={_target_:models.parser.FaceParser}",)):
        refused = within(script, *words, *wrong, cwd=ROOT)
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
    assert "add trust=examples" in within("export.py", *words, "rounds=0", cwd=ROOT).stderr
    exported = within("export.py", *words, "rounds=0", "trust=examples", cwd=ROOT)
    assert exported.returncode == 0, exported.stderr

    audited = within("prepare.py", "task=audit", layout, f"root={lapa}", f"out={tmp_path / 'audit'}", cwd=ROOT)
    assert audited.returncode == 0, audited.stderr
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["faces"] == 40


@pytest.mark.training
def test_own_network_is_scored_only_where_it_is_trusted(lapa: Path, tmp_path: Path) -> None:
    run("own_network", lapa, tmp_path, encoder=False)
    status = statuses(tmp_path)["finetune"]
    assert status["network"] == "examples.own_network.network.LightParser"
    assert status["parameters"] < 100_000
    checkpoint = f"checkpoint=finetune-{status['id']}"

    script, *words = commands("own_network")[1]
    assert script == "evaluate.py"
    words = [word for word in words if not word.startswith(("checkpoint=", "root="))]
    words += [checkpoint, f"root={lapa}", f"output_dir={tmp_path}", "workers=0", "trainer.accelerator=cpu"]
    refused = within(script, *(word for word in words if not word.startswith("trust=")), cwd=ROOT)
    assert refused.returncode == 2
    assert "add trust=examples" in refused.stderr
    assert within(script, *words, "trust=other", cwd=ROOT).returncode == 2
    scored = within(script, *words, cwd=ROOT)
    assert scored.returncode == 0, scored.stderr
    assert statuses(tmp_path)["evaluate"]["metrics"]["test/miou"] == pytest.approx(status["metrics"]["test/miou"])

    image = next((lapa / "test" / "images").iterdir())
    words = [checkpoint, f"input={image}", f"out={tmp_path / 'masks'}", f"output_dir={tmp_path}"]
    assert within("predict.py", *words, cwd=ROOT).returncode == 2
    predicted = within("predict.py", *words, "trust=examples", cwd=ROOT)
    assert predicted.returncode == 0, predicted.stderr


@pytest.mark.training
def test_any_architecture_by_name(lapa: Path, tmp_path: Path) -> None:
    run("own_network", lapa, tmp_path, place=2)
    assert statuses(tmp_path)["finetune"]["network"] == "fpn"


@pytest.mark.training
def test_own_pretext_task(lapa: Path, tmp_path: Path) -> None:
    finished = run("own_pretext_task", lapa, tmp_path)
    assert "0 missing, 0 unexpected" in finished.stdout
    done = statuses(tmp_path)
    assert done["finetune"]["masking"] == done["pretrain"]["masking"] == "examples.own_pretext_task.task.Denoising"
    assert done["finetune"]["upstream"] == [done["pretrain"]["id"]]
    assert {"train/loss", "val/loss"} <= curves(tmp_path, "pretrain")


@pytest.mark.training
def test_own_callback(lapa: Path, tmp_path: Path) -> None:
    run("own_callback", lapa, tmp_path / "own")
    assert "train/gradient_norm" in curves(tmp_path / "own", "finetune")
    run("own_callback", lapa, tmp_path / "without", "callbacks.gradient_norm=null")
    assert "train/gradient_norm" not in curves(tmp_path / "without", "finetune")
    run("own_callback", lapa, tmp_path / "lightning", place=1)
    done = [statuses(tmp_path / name)["finetune"] for name in ("own", "without", "lightning")]
    assert len({status["id"] for status in done}) == 3
    swa = "pytorch_lightning.callbacks.StochasticWeightAveraging"
    assert done[2]["identity"]["settings"]["callbacks.swa"] == {"_target_": swa, "swa_lrs": 0.001}
    assert done[2]["identity"]["sources"].keys() == {swa}


@pytest.mark.training
def test_own_stage(lapa: Path, tmp_path: Path) -> None:
    small = (*PANELS[:1], "probe.epochs=2", "probe.steps_per_epoch=2")
    run("own_stage", lapa, tmp_path, *small)
    done = statuses(tmp_path)
    assert done["probe"]["upstream"] == [done["pretrain"]["id"]]
    assert {"test/miou", "test/iou/hair"} <= done["probe"]["metrics"].keys()
    assert done["probe"]["identity"]["sources"].keys() == {"examples.own_stage.stage.LinearProbe"}
    (folder,) = (tmp_path / "runs").glob("probe-*")
    assert (folder / "confusion.csv").is_file()
    assert list((folder / "panels" / "test").glob("*.prediction.png"))
    assert run("own_stage", lapa, tmp_path, *small).stdout.count("Done already") == 2
    report = within("report.py", f"output_dir={tmp_path}", cwd=tmp_path)
    assert report.returncode == 0, report.stderr

    script, *printed = commands("own_stage")[1]
    words = [word for word in printed if not word.startswith(("checkpoint=", "root=", "trust="))]
    words += [f"checkpoint={folder.name}", f"root={lapa}", f"output_dir={tmp_path}", "workers=0"]
    refused = within(script, *words, "trainer.accelerator=cpu", cwd=ROOT)
    assert refused.returncode == 2
    assert "add trust=examples" in refused.stderr
    scored = within(script, *words, "trainer.accelerator=cpu", "trust=examples", cwd=ROOT)
    assert scored.returncode == 0, scored.stderr
    image = next((lapa / "test" / "images").iterdir())
    words = [f"checkpoint={folder.name}", f"output_dir={tmp_path}", f"input={image}", f"out={tmp_path / 'masks'}"]
    predicted = within("predict.py", *words, "trust=examples", cwd=ROOT)
    assert predicted.returncode == 0, predicted.stderr
    metrics = statuses(tmp_path)["evaluate"]["metrics"]
    assert metrics == {name: pytest.approx(done["probe"]["metrics"][name]) for name in metrics}


METRIC = """
from pytorch_lightning import Callback

class Coverage(Callback):
    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        face = (pl_module(batch["image"]).argmax(dim=1) > 0).float().mean()
        pl_module.log("test/coverage", face, batch_size=len(batch["id"]), on_step=False, on_epoch=True)
"""


@pytest.mark.training
def test_loss_logger_and_metric_on_the_command_line(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/extending.md shows them."""
    guide = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for line in METRIC.split("\n\n")[1].strip().splitlines():
        assert line in guide
    (tmp_path / "own_metric.py").write_text(METRIC, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    loss = "finetune.loss={_target_:torch.nn.CrossEntropyLoss,ignore_index:255}"
    assert loss in guide
    words = [*TINY, "experiment=baseline_lapa_10pct", f"datamodule.root={lapa}", f"output_dir={tmp_path / 'outputs'}"]
    words += [loss, "+callbacks.coverage._target_=own_metric.Coverage"]
    words += [f"+logger.csv={{_target_:pytorch_lightning.loggers.CSVLogger,save_dir:{tmp_path / 'logs'}}}"]
    words += [
        "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/miou,patience:1,mode:max}"
    ]
    finished = within("train.py", *words, "finetune.optimizer.lr=1e-12", "finetune.epochs=9", cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    status = statuses(tmp_path / "outputs")["finetune"]
    assert status["loss"] == "torch.nn.CrossEntropyLoss"
    assert 0 < status["metrics"]["test/coverage"] <= 1
    assert "logger.csv" not in str(status["identity"])
    assert list((tmp_path / "logs").rglob("metrics.csv"))
    words = [f"checkpoint=finetune-{status['id']}", "dataset=lapa", f"root={lapa}", "workers=0"]
    scored = within("evaluate.py", *words, f"output_dir={tmp_path / 'outputs'}", "trainer.accelerator=cpu", cwd=ROOT)
    assert scored.returncode == 0, scored.stderr  # torch.nn needs no trust


SEGMENTER = """
from torch import nn

class Segmenter(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
    def forward(self, image):
        return self.conv(image)
"""


@pytest.mark.training
def test_a_segmenter_from_outside(masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_segmenter.py").write_text(SEGMENTER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = [*TINY_SEGMENTER, "experiment=occlusion_celeba", f"datamodule.root={masked}", f"output_dir={tmp_path}"]
    wrong = within("train.py", *words, "segment.network={_target_:own_segmenter.Segmenter,channels:2}", cwd=ROOT)
    assert wrong.returncode == 2
    assert "segment.network: own_segmenter.Segmenter returned (4, 2, 32, 32)" in wrong.stderr
    shutil.rmtree(tmp_path / "runs")
    trained = within("train.py", *words, "segment.network={_target_:own_segmenter.Segmenter}", cwd=ROOT)
    assert trained.returncode == 0, trained.stderr
    status = statuses(tmp_path)["segment"]
    assert status["network"] == "own_segmenter.Segmenter"
    words = [f"checkpoint=segment-{status['id']}", "dataset=augmented_celeba", f"root={masked}", "workers=0"]
    words += [f"output_dir={tmp_path}", "trainer.accelerator=cpu"]
    assert "add trust=own_segmenter" in within("evaluate.py", *words, cwd=ROOT).stderr
    scored = within("evaluate.py", *words, "trust=own_segmenter", cwd=ROOT)
    assert scored.returncode == 0, scored.stderr


class Outside:
    """A copy of an example under a name of its own, so that a test may change it."""

    def __init__(self, example: str, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder / name
        shutil.copytree(EXAMPLES / example, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        for path in self.folder.glob("*.py"):
            path.write_text(path.read_text(encoding="utf-8").replace(f"examples.{example}", name), encoding="utf-8")

    def append(self, file: str, text: str = "\n# changed\n") -> None:
        path = self.folder / file
        path.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + text, encoding="utf-8")


@pytest.fixture
def outside(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Outside(request.param, tmp_path, f"copy_of_{request.param}_{tmp_path.parent.name}".replace("-", "_"))


def runs(lapa: Path, output: Path, changes: dict[str, Any], *words: str) -> list[Run]:
    """The runs of a command with values set in its composed configuration."""
    config = settings_of(*words, *TINY, f"datamodule.root={lapa}", f"output_dir={output}")
    for key, value in changes.items():
        *path, leaf = key.split(".")
        place = config
        for part in path:
            place = place[part]
        place[leaf] = value
    return plan(check(config), config)


def test_a_module_next_to_it_that_is_not_imported_changes_no_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "follows_imports"
    package.mkdir()
    texts = {
        "__init__": "",
        "thing": "from follows_imports import near\nfrom . import second\nclass Thing: pass\n",
        "near": "from .third import VALUE\nif False:\n    import follows_imports.broken\n",
        "second": "import foundation.errors, models.parser\n",
        "third": "VALUE = 1\n",
        "broken": "def (:\n",
        "elsewhere": "VALUE = 2\n",
    }
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = source_digest("follows_imports.thing")
    for name in ("thing", "near", "second", "third", "broken"):
        (package / f"{name}.py").write_text(texts[name] + "# changed\n", encoding="utf-8")
        after = source_digest("follows_imports.thing")
        assert after != before, name
        before = after
    (package / "elsewhere.py").write_text("VALUE = 3\n", encoding="utf-8")
    assert source_digest("follows_imports.thing") == before
    for module in [name for name in sys.modules if name.startswith("follows_imports")]:
        del sys.modules[module]


@pytest.mark.parametrize(
    ("outside", "file", "key", "target", "argument", "stage"),
    [
        ("own_dataset", "layout.py", "datamodule.layout", "layout.HashedSplits", {"held_out": 0.2}, "pretrain"),
        ("own_network", "network.py", "model.network", "network.LightParser", {"width": 8}, "finetune"),
        ("own_pretext_task", "task.py", "pretrain.task", "task.Denoising", {"gamma": 0.9}, "pretrain"),
        ("own_callback", "callback.py", "callbacks.norm", "callback.GradientNorm", {"order": 1.0}, "finetune"),
    ],
    indirect=["outside"],
)
def test_the_id_follows_source_and_arguments(
    outside: Outside, file: str, key: str, target: str, argument: dict[str, Any], stage: str, lapa: Path, tmp_path: Path
) -> None:
    method = "mtl" if stage == "pretrain" else "baseline"
    words = (f"experiment={method}_lapa_10pct",)

    def ids(**more: Any) -> list[str]:
        return [
            run.id
            for run in runs(lapa, tmp_path / "outputs", {key: {"_target_": f"{outside.name}.{target}"} | more}, *words)
        ]

    first = ids()
    assert not set(ids(**argument)) & set(first), "an argument"
    outside.append("elsewhere.py")
    outside.append("README.md")
    assert ids() == first, "a file that is not imported"
    outside.append(file)
    assert not set(ids()) & set(first), "the source"


@pytest.mark.parametrize("outside", ["own_stage"], indirect=True)
def test_the_id_of_a_stage_follows_source_arguments_and_settings(outside: Outside, lapa: Path, tmp_path: Path) -> None:
    def ids(**more: Any) -> list[str]:
        stage = {"_target_": f"{outside.name}.stage.LinearProbe"}
        changes = {"stages": ["pretrain", stage], "probe": {"epochs": 2} | more}
        return [run.id for run in runs(lapa, tmp_path / "outputs", changes, "experiment=mtl_lapa_10pct")]

    pretrain, probe = ids()
    assert ids(levels=3)[0] == pretrain
    assert ids(levels=3)[1] != probe
    outside.append("probe.py")  # imported by stage.py, in a function
    changed = ids()
    assert changed[0] == pretrain
    assert changed[1] != probe


def test_a_stage_of_ones_own_has_the_seed_of_the_command(lapa: Path, tmp_path: Path) -> None:
    stage = {"_target_": "examples.own_stage.stage.LinearProbe"}
    probe = runs(lapa, tmp_path, {"stages": ["pretrain", stage], "probe": {}}, "experiment=mtl_lapa_10pct", "seed=7")[1]
    assert probe.own.seed == 7
    assert probe.own.epochs == 50
