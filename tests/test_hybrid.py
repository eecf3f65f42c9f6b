"""Stage ``classify``: fits heads to features; its run folders, its scores, and their readers."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from callbacks.checkpoints import load as load_checkpoint
from datamodules.pixels import sample_pixels
from deploy.predictor import load as load_predictor
from engine.settings import CONF
from engine.stage import Run
from foundation.errors import RunError
from foundation.recorded_runs import read_runs
from foundation.run_folder import RunFolder
from reports.page import write_report
from reports.tables import results
from stages.command import check, plan
from tests.conftest import TINY, copied, run_training
from tests.test_evaluation import scored
from tests.test_export import run_export
from tests.test_sweeps import jobs


def command(root: Path, output: Path, *overrides: str) -> list[Run]:
    """Run a command to completion and return its runs."""
    return run_training("svm_lapa", root, output, "label_fraction=0.1", *overrides)


@pytest.fixture(scope="module")
def output(parser_runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder shared by the commands of these tests, with finished pre-training and fine-tuning runs."""
    output = tmp_path_factory.mktemp("hybrid")
    copied(parser_runs, output)
    return output


@pytest.fixture(scope="module")
def tree(lapa: Path, output: Path) -> list[Run]:
    """A pre-training run, and on its features a conv head and SVM-BDT."""
    return command(lapa, output)


@pytest.fixture(scope="module")
def after_finetuning(lapa: Path, output: Path) -> list[Run]:
    """A pre-training and a fine-tuning run, the conv head that fine-tuning trained, and SVM-RH on its features."""
    return command(lapa, output, "classify.after=finetune", "classify.head=svm_rh")


def test_a_run_folder_like_any_other(tree: list[Run], lapa: Path, output: Path) -> None:
    pretrain, conv, bdt = tree
    for run in (conv, bdt):
        status = run.folder.status
        assert status["state"] == "done"
        assert status["upstream"] == [pretrain.id]
        assert status["labelled"] == 3
        assert status["after"] == "pretrain"
        assert status["sampled_pixels"] > 1000
        assert status["fit_seconds"] > 0
        assert status["megapixels_per_second"] > 0
        assert 0 < status["metrics"]["test/miou"] < 1
        assert 0 < status["metrics"]["val/miou"] < 1
        assert status["metrics"]["test/count/skin"] > 0
        assert OmegaConf.load(run.folder.config).classify.head == run.own.head == status["head"]
        assert (run.folder.panels / "test" / "confusion.png").is_file()
        assert not run.folder.last.exists()
    assert bdt.folder.status["machines"] == 10
    assert math.log2(11) - 1 < bdt.folder.status["tests_per_pixel"] < 10
    with Image.open(bdt.folder.panels / "tree.png") as image:
        assert min(image.size) > 200
    assert not (conv.folder.panels / "tree.png").exists()
    before = {run.id: run.folder.status for run in tree}
    assert {run.id: run.folder.status for run in command(lapa, output)} == before, "done already"


def test_a_missing_conv_head_is_fitted_again(tree: list[Run], lapa: Path, output: Path) -> None:
    """Only the missing run is repeated; the finished SVM-BDT stays."""
    _, conv, bdt = tree
    scores, kept = conv.folder.status["metrics"], bdt.folder.status
    shutil.rmtree(conv.folder.path)
    command(lapa, output)
    assert conv.folder.status["metrics"] == scores, "the same pixels, the same head"
    assert bdt.folder.status == kept


def test_the_fine_tuned_head_is_the_conv_head(after_finetuning: list[Run]) -> None:
    _, finetune, conv, rh = after_finetuning
    own, again = finetune.folder.status["metrics"], conv.folder.status["metrics"]
    compared = [name for name in again if name.startswith(("test/", "val/"))]
    assert len(compared) > 30
    for name in compared:
        assert again[name] == pytest.approx(own[name], abs=1e-6, nan_ok=True), name
    assert "fit_seconds" not in conv.folder.status, "it was not fitted here"
    assert rh.folder.status["upstream"] == [finetune.id]
    assert rh.folder.status["machines"] == 10


@pytest.mark.parametrize(
    "words",
    [
        ("classify.after=finetune", "classify.head=svm_ovr"),
        ("classify.after=finetune", "classify.head=svm_ovo", "classify.kernel=nystroem", "classify.landmarks=32"),
        (
            *("classify.after=finetune", "classify.head=svm_rh", "classify.kernel=rbf", "classify.max_pixels=600"),
            "classify.order=frequency",
        ),
        ("classify.head=svm_bdt", "classify.features=hypercolumns", "classify.C=0.001", "classify.score_at=input"),
    ],
)
def test_every_head_is_fitted(words: tuple[str, ...], parser_runs: list[Run], lapa: Path, output: Path) -> None:
    pretrain, finetune = parser_runs
    *_, run = command(lapa, output, *words)
    assert run.upstream is not None
    assert run.upstream.id == (finetune if "classify.after=finetune" in words else pretrain).id
    status = run.folder.status
    assert status["machines"] == {"svm_ovr": 11, "svm_ovo": 55}.get(run.own.head, 10)
    assert status["metrics"]["test/mean_accuracy"] > 1.5 / 11, "above chance, with a hardly trained trunk"
    if "classify.max_pixels=600" in words:
        assert status["sampled_pixels"] <= 600


@pytest.mark.training
def test_a_class_that_no_face_has_is_never_predicted(celebamask: Path, tmp_path: Path) -> None:
    words = ("label_fraction=0.03", "classify.head=svm_bdt")  # one face
    quick = ("pretrain.epochs=1",)
    *_, run = run_training("svm_celebamask", celebamask, tmp_path, *words, *quick)
    status = run.folder.status
    assert status["labelled"] == 1
    assert status["absent"]
    assert status["machines"] == 19 - len(status["absent"]) - 1
    matrix = np.genfromtxt(run.folder.confusion, delimiter=",", skip_header=1)[:, 1:]
    names = run.layout.labels.classes
    assert matrix[:, [names.index(name) for name in status["absent"]]].sum() == 0


def test_features_that_are_nan_are_refused(tree: list[Run], lapa: Path, tmp_path: Path) -> None:
    shutil.copytree(tree[0].folder.path, tmp_path / "runs" / tree[0].folder.name)
    best = tmp_path / "runs" / tree[0].folder.name / "checkpoints" / "best.ckpt"
    content = load_checkpoint(best)
    name = next(name for name, weights in content["state_dict"].items() if weights.ndim == 4)
    content["state_dict"][name].fill_(3e38)  # finite, and what it computes is not
    torch.save(content, best)
    with pytest.raises(RunError, match=f"features of {tree[0].folder.name} are NaN or infinite"):
        command(lapa, tmp_path)
    (failed,) = (run for run in read_runs(tmp_path) if run.stage == "classify")
    assert failed.state == "failed"


def test_it_can_be_exported(tree: list[Run], lapa: Path, tmp_path: Path) -> None:
    checkpoint = f"checkpoint={tree[-1].folder.path}"
    file = run_export(checkpoint, f"root={lapa}", f"output_dir={tmp_path}", "format=onnx")
    assert json.loads(file.with_name(f"{file.name}.json").read_text())["agreement"]["equal"] > 0.9999
    image = np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8)
    ours, theirs = (load_predictor(str(path), faces="whole").predict(image) for path in (tree[-1].folder.path, file))
    assert (ours.label == theirs.label).mean() > 0.999


def test_a_status_with_earlier_keys_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "classify", "0123456789ab")
    identity = {"settings": {"classify.machine": "rbf"}}
    folder.write_status(stage="classify", machine="rbf", identity=identity)
    assert folder.status["kernel"] == "rbf"
    (run,) = read_runs(tmp_path)
    assert (run.text("kernel"), dict(run.setting)) == ("rbf", {"classify.kernel": "rbf"})


@pytest.mark.usefixtures("after_finetuning")
def test_evaluate_predict_and_report_read_it(tree: list[Run], lapa: Path, celebamask: Path, output: Path) -> None:
    bdt = tree[-1]
    content = load_checkpoint(bdt.folder.best)
    assert content["hyper_parameters"]["head"]["kind"] == "tree"
    own = bdt.folder.status["metrics"]
    common = (f"checkpoint={bdt.folder.name}", f"output_dir={output}")
    again = scored(*common, "dataset=lapa", f"root={lapa}").status["metrics"]["test/miou"]
    assert again == pytest.approx(own["test/miou"], abs=1e-6)
    evaluated = scored(*common, "dataset=celebamask_hq", f"root={celebamask}").status
    assert evaluated["classes"] == "lapa"
    copied_keys = ("after", "head", "kernel", "features")
    assert [evaluated[name] for name in copied_keys] == [bdt.folder.status[name] for name in copied_keys]

    image = np.asarray(Image.open(next((lapa / "test" / "images").iterdir())).convert("RGB"))
    masks = load_predictor(bdt.folder.name, output, faces="whole").predict(image)
    assert masks.label.shape == image.shape[:2]
    assert len(np.unique(masks.label)) > 1

    runs = read_runs(output)
    table = results(runs)
    heads = {run.text("head") for run in table.runs}
    assert {"conv", "svm_bdt", "svm_rh"} <= heads
    titles = [column.title for column in table.columns]
    assert {"fit, s", "Mpx/s", "tests"} <= set(titles)
    row = next(row for run, row in zip(table.runs, table.rows, strict=True) if run.id == bdt.id)
    assert "svm_bdt" in row[titles.index("variant")]
    assert float(row[titles.index("tests")]) == pytest.approx(bdt.folder.status["tests_per_pixel"], rel=1e-3)
    assert bdt.id in write_report(output).read_text()


def test_pixels_of_each_class_are_sampled() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[:2, :5], label[5, 5], label[30:] = 3, 7, 255
    places, stands_for = sample_pixels(label, 20, np.random.default_rng(0))
    assert len(set(places)) == len(places)
    sampled = label.ravel()[places]
    assert np.bincount(sampled, minlength=256).nonzero()[0].tolist() == [0, 3, 7]
    assert [np.sum(sampled == index) for index in (0, 3, 7)] == [20, 10, 1]
    assert stands_for.sum() == pytest.approx((label != 255).sum())
    assert set(stands_for[sampled != 0]) == {1}
    again, _ = sample_pixels(label, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(places, again)
    other, _ = sample_pixels(label, 20, np.random.default_rng(1))
    assert set(other) != set(places)
    assert len(sample_pixels(np.full((2, 2), 255, np.uint8), 5, np.random.default_rng(0))[0]) == 0


@pytest.mark.slow
def test_the_sweep_of_heads_shares_its_upstream_runs(lapa: Path, tmp_path: Path) -> None:
    words = ("experiment=svm_lapa", *TINY, "sweep=svm_heads", f"datamodule.root={lapa}", f"output_dir={tmp_path}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=list(words))  # once; each job's overrides are merged in
    planned = set()
    for job in jobs("svm_heads"):
        settings = OmegaConf.to_container(OmegaConf.merge(config, OmegaConf.from_dotlist(job)), resolve=True)
        assert isinstance(settings, dict)
        planned |= {run.folder.name for run in plan(check({str(name): value for name, value in settings.items()}))}
    draws, starts, heads = 2 * 3, 2, 4
    counts = {stage: sum(name.startswith(stage) for name in planned) for stage in ("pretrain", "finetune", "classify")}
    assert counts == {"pretrain": 1, "finetune": draws, "classify": draws * starts * (heads + 1)}
