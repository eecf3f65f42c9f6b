"""Scoring trained parsers: on their own data, on other data in common classes, and mistakes."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from callbacks.checkpoints import load
from datamodules.labels import CELEBAMASK_HQ, LAPA
from datamodules.layouts import SPLITS, open_layout
from datamodules.layouts.celebamask_hq import MAPPING, PARTITIONS
from datamodules.merging import merge
from engine.settings import CONF
from engine.stage import Run
from examples.own_stage.probe import Probe
from foundation.errors import ConfigError, DataError
from foundation.run_folder import RunFolder
from lightning_modules.parsing import FaceParsing
from models.merged_classes import MergedClasses
from stages.evaluation import Evaluation, check_evaluation, evaluate, plan_evaluation
from stages.scoring import scored_faces, scored_module
from tests.commands import forked
from tests.conftest import copied, run_training


def config_of(*words: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose("evaluate", overrides=["workers=0", "trainer.accelerator=cpu", *words]))
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def scored(*words: str) -> RunFolder:
    """Run an evaluation to its end; its folder."""
    config = config_of(*words)
    evaluate(OmegaConf.create(config))
    return plan_evaluation(check_evaluation(config)).folder


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def trained(output: Path, parser_runs: list[Run], celebamask: Path) -> dict[str, list[Run]]:
    """The runs of a parser of each data set; LaPa's has a pre-training."""
    words = ("datamodule.merging=farl", "finetune.epochs=1")
    return {
        "lapa": copied(parser_runs, output),
        "celebamask_hq": run_training("baseline_celebamask_10pct", celebamask, output, *words),
    }


@pytest.mark.parametrize("dataset", ["lapa", "celebamask_hq"])
def test_a_run_on_its_own_test_split_reproduces_its_scores(
    dataset: str, trained: dict[str, list[Run]], output: Path, capsys: pytest.CaptureFixture
) -> None:
    run = trained[dataset][-1]
    words = (f"dataset={dataset}", f"root={run.layout.root}", f"output_dir={output}")
    folder = scored(f"checkpoint={run.folder.name}", *words, "batch_size=3")
    status = folder.status
    its = {name: value for name, value in run.folder.status["metrics"].items() if name.startswith("test/")}
    assert status["metrics"] == pytest.approx(its, abs=1e-6, nan_ok=True)
    assert folder.confusion.read_bytes() == run.folder.confusion.read_bytes()
    assert (status["state"], status["stage"], status["upstream"]) == ("done", "evaluate", [run.id])
    assert (status["id"], folder.name) == (folder.id, f"evaluate-{folder.id}")
    for key in ("experiment", "method", "label_fraction", "subset", "seed", "dataset", "origin", "merging"):
        assert status[key] == run.folder.status[key]
    assert (status["classes"], status["split"], status["faces"]) == (dataset, "test", 4)
    assert {"data_digest", "device", "versions", "git_sha", "seconds", "peak_memory_mb"} <= status.keys()
    assert OmegaConf.load(folder.config).dataset == dataset
    assert len(list((folder.panels / "test").glob("*.prediction.png"))) == 2, "the first batch"
    assert (folder.panels / "test" / "confusion.png").is_file()

    capsys.readouterr()
    written = (folder.path / "status.json").stat().st_mtime_ns
    same = [run.folder.path, run.folder.best, shutil.copy(run.folder.best, output / "moved.ckpt")]
    for checkpoint in same:
        assert scored(f"checkpoint={checkpoint}", *words).path == folder.path
    assert capsys.readouterr().out.count("Done already") == len(same)
    assert (folder.path / "status.json").stat().st_mtime_ns == written
    again = scored(f"checkpoint={run.folder.path}", *words, "force=true")
    assert again.status["metrics"] == pytest.approx(status["metrics"], nan_ok=True)
    assert (output / "replaced" / f"{folder.name}-1").is_dir()


def test_scored_data_and_weights_enter_the_id(
    trained: dict[str, list[Run]], lapa: Path, celebamask: Path, output: Path
) -> None:
    checkpoint = f"checkpoint={trained['lapa'][-1].folder.path}"
    config = OmegaConf.create(config_of(checkpoint, f"output_dir={output}"))

    def identity(*words: str) -> str:
        changed = OmegaConf.to_container(OmegaConf.merge(config, OmegaConf.from_dotlist(list(words))))
        assert isinstance(changed, dict)
        return plan_evaluation(check_evaluation({str(name): value for name, value in changed.items()})).folder.id

    on_lapa, on_celebamask = (("dataset=lapa", f"root={lapa}"), ("dataset=celebamask_hq", f"root={celebamask}"))
    changes = ((), ("split=val",), ("split=all",), ("score_at=input",), ("background=out",), ("image_size=64",))
    ids = [identity(*on_lapa, *change) for change in (*changes, ("trainer.precision=bf16-mixed",))]
    ids += [identity(*on_celebamask, *change) for change in ((), ("merging=farl",))]
    assert len(set(ids)) == len(ids)
    for change in ("batch_size=1", "workers=1", "panels=1", "trainer.accelerator=auto", "score_at=label"):
        assert identity(*on_lapa, change) == ids[0]
    assert identity(*on_celebamask, "merging=official") == identity(*on_celebamask)


@pytest.mark.parametrize(("source", "target"), [("lapa", "celebamask_hq"), ("celebamask_hq", "lapa")])
def test_another_data_set_is_scored_in_lapas_classes(
    source: str, target: str, trained: dict[str, list[Run]], output: Path
) -> None:
    root = trained[target][-1].layout.root
    words = (f"dataset={target}", f"root={root}", f"output_dir={output}", "split=all")
    folder = scored(f"checkpoint={trained[source][-1].folder.name}", *words)
    status = folder.status
    assert (status["trained_dataset"], status["dataset"], status["classes"]) == (source, target, "lapa")
    assert status["faces"] == 40
    assert status["merging"] == (None if target == "lapa" else "official")
    with folder.confusion.open(newline="") as file:
        assert tuple(next(csv.reader(file))[1:]) == LAPA.classes


class Perfect(nn.Module):
    """Predicts given label maps (h, w), one after the other, for any input."""

    def __init__(self, labels: list[Tensor], classes: int) -> None:
        super().__init__()
        self.labels = iter(labels)
        self.classes = classes

    def forward(self, image: Tensor) -> Tensor:
        label = torch.stack([next(self.labels) for _ in image])
        return 20 * nn.functional.one_hot(label.long(), self.classes).permute(0, 3, 1, 2).float()


def test_a_perfect_parser_is_perfect_through_the_mapping(
    lapa: Path, celebamask: Path, trained: dict[str, list[Run]], output: Path
) -> None:
    """CelebAMask-HQ's labels as the prediction, against themselves and against LaPa's labels of the same faces."""
    layout = open_layout("celebamask_hq", celebamask)
    faces_by_id = {
        int(face.id): torch.from_numpy(merge(face, "official", CELEBAMASK_HQ))
        for split in SPLITS
        for face in layout.samples(split)
    }
    tested = [faces_by_id[int(face.id)] for face in layout.samples("test")]
    table = CELEBAMASK_HQ.table_to(LAPA)[: len(CELEBAMASK_HQ)]
    swapped = np.where(table < 6, np.array([0, 1, 3, 2, 5, 4])[table.clip(max=5)], table)

    def score(source: str, target: str, root: Path, labels: list[Tensor], table: np.ndarray) -> dict[str, float]:
        words = (f"checkpoint={trained[source][-1].folder.path}", f"dataset={target}", f"root={root}")
        split = "split=all" if len(labels) > 4 else "split=test"
        config = config_of(*words, f"output_dir={output}", "image_size=64", split)
        evaluation = plan_evaluation(check_evaluation(config))
        assert isinstance(evaluation.stage, Evaluation)
        assert isinstance(evaluation.stage, Evaluation)
        assert evaluation.stage.scored_in is LAPA
        module = scored_module(load(trained[source][-1].folder.best), "literature", evaluation.stage.mapped)
        module.model = MergedClasses(Perfect(labels, len(CELEBAMASK_HQ)), table.tolist(), True, len(LAPA))
        for batch in scored_faces(evaluation).test_dataloader():
            module.test_step(batch, 0)
        return {name: value.item() for name, value in module.scores.compute().items()}

    own = score("lapa", "celebamask_hq", celebamask, tested, table)
    assert own["miou"] == own["mean_f1"] == own["pixel_accuracy"] == own["iou/left_eye"] == 1
    twins = [faces_by_id[number] for number in sorted(faces_by_id)]
    right = score("celebamask_hq", "lapa", lapa, twins, table)
    assert right["pixel_accuracy"] > 0.97, "separate part masks differ from a label map along their borders"
    for prediction, ground_truth in ((right, 0.5), (score("celebamask_hq", "lapa", lapa, twins, swapped), 0.0)):
        for name in ("left_eye", "right_eye", "left_eyebrow", "right_eyebrow"):
            assert prediction[f"iou/{name}"] > ground_truth if ground_truth else prediction[f"iou/{name}"] < 0.05
    wrong = score("lapa", "celebamask_hq", celebamask, tested, swapped)
    assert wrong["iou/left_eye"] == wrong["iou/right_eyebrow"] == 0
    assert wrong["iou/hair"] == 1


def test_split_all_needs_no_lists_of_splits(
    trained: dict[str, list[Run]], celebamask: Path, output: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(celebamask, tmp_path / "CelebAMask-HQ"))
    for name in (MAPPING, PARTITIONS[0]):
        (root / name).unlink()
    words = (f"checkpoint={trained['lapa'][-1].folder.path}", "dataset=celebamask_hq", f"root={root}")
    with pytest.raises(DataError, match=rf"{MAPPING} does not exist(.|\n)*split=all"):
        scored(*words, f"output_dir={output}")
    assert scored(*words, f"output_dir={output}", "split=all").status["faces"] == 40


@pytest.mark.parametrize("mapped", [False, True])
def test_merging_classes_adds_their_probabilities(mapped: bool) -> None:
    logits = torch.randn(2, len(CELEBAMASK_HQ), 4, 4, generator=torch.Generator().manual_seed(0))
    merged = CELEBAMASK_HQ.table_to(LAPA)[: len(CELEBAMASK_HQ)].tolist() if mapped else list(range(len(CELEBAMASK_HQ)))
    prediction = MergedClasses(nn.Identity(), merged, True, 1 + max(merged))(logits).softmax(dim=1)
    expected = torch.zeros_like(prediction)
    for part, whole in enumerate(merged):
        expected[:, whole] += logits.softmax(dim=1)[:, part]
    assert torch.allclose(prediction, expected, atol=1e-6)


def test_an_unmapped_target_class_is_never_predicted() -> None:
    logits = torch.randn(2, 3, 4, 4)
    joined = MergedClasses(nn.Identity(), [0, 2, 2], True, classes=4)(logits)
    assert joined.shape == (2, 4, 4, 4)
    assert set(joined.argmax(dim=1).unique().tolist()) <= {0, 2}
    assert (joined.softmax(dim=1)[:, [1, 3]] == 0).all()
    assert joined.half().isfinite().all()


class Unscored(LightningModule):
    """A module of a user's own stage, without scores."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, classes, 1)


def test_the_module_of_a_users_own_stage_is_scored_or_refused() -> None:
    made: dict[str, Any] = {"classes": CELEBAMASK_HQ.classes, "encoder": "tu-test_efficientnet", "levels": 2}
    probe = Probe(**made)
    content: dict[str, Any] = {"stage": "probe", "module": "examples.own_stage.probe.Probe", "hyper_parameters": made}
    content["state_dict"] = probe.state_dict()
    module = scored_module(content, "out", (CELEBAMASK_HQ, LAPA), trust="examples")
    assert torch.equal(module.state_dict()["model.parser.head.weight"], probe.model.head.weight)
    assert (module.scores.classes, module.scores.background) == (LAPA.classes, "out")
    with pytest.raises(ConfigError, match="add trust=examples"):
        scored_module(content, "out")
    content["hyper_parameters"] = {"levels": 2}
    with pytest.raises(ConfigError, match=r"cannot be made from its saved hyper-parameters.*'classes'"):
        scored_module(content, "out", trust="examples")
    content |= {"module": "tests.test_evaluation.Unscored", "hyper_parameters": {}}
    with pytest.raises(ConfigError, match=r"does not score itself.\nIt must hold self.scores"):
        scored_module(content, "out", trust="tests")


@pytest.mark.parametrize("key", ["loss", "network"])
def test_a_checkpoint_runs_no_code_through_interpolations(key: str, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    call = f"${{oc.create:{{_target_:os.mkdir,path:'{folder}'}}}}"
    made = {"classes": CELEBAMASK_HQ.classes, "encoder": "tu-test_efficientnet", "architecture": "unetplusplus"}
    for values in ([call], {"deep": (call,)}, ["${oc.env:HOME}"]):
        own = {key: {"_target_": "torch.nn.ParameterList", "values": values}}
        content = {"stage": "finetune", "state_dict": {}, "hyper_parameters": made | own}
        for trust in (None, "torch", "examples"):
            with pytest.raises(DataError, match=r"is invalid: it records .\$\{oc\..*is resolved as"):
                scored_module(content, "out", trust=trust)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (
            ("checkpoint=finetune-000000000000", "dataset=lapa"),
            ConfigError,
            "does not exist.*\n.*It must be a finished run",
        ),
        (("checkpoint={typo}", "dataset=lapa"), ConfigError, "Did you mean {finetune}"),
        (("checkpoint=/nowhere/best.ckpt", "dataset=lapa"), ConfigError, "does not exist"),
        (
            ("checkpoint={pretrain}", "dataset=lapa"),
            ConfigError,
            "of stage pretrain, which has no parser",
        ),
        (("checkpoint={moved}", "dataset=lapa"), ConfigError, "of stage pretrain, which has no parser"),
        (("checkpoint={rubbish}", "dataset=lapa"), DataError, "cannot be read"),
        (("checkpoint={finetune}", "dataset=lappa"), ConfigError, "dataset=lappa is invalid.*\n.*Did you mean lapa"),
        (("checkpoint={finetune}", "dataset=lapa", "root=/nowhere"), DataError, " root=/path/to/LaPa"),
        (("checkpoint={finetune}", "dataset=lapa", "merging=farl"), ConfigError, "merging=farl does not go with"),
        (("checkpoint={finetune}", "dataset=lapa", "split=train"), ConfigError, "one of test, val, all"),
        (("checkpoint={finetune}",), ConfigError, "The setting dataset is missing"),
        (("dataset=lapa",), ConfigError, "The setting checkpoint is missing"),
    ],
)
def test_mistakes_are_reported(
    words: tuple[str, ...], error: type[Exception], message: str, trained: dict[str, list[Run]], output: Path
) -> None:
    pretrain, finetune = (run.folder for run in trained["lapa"])
    (output / "rubbish.ckpt").write_bytes(b"rubbish")
    names = {"pretrain": pretrain.name, "finetune": finetune.name, "typo": finetune.name[:-1]}
    names |= {"moved": str(shutil.copy(pretrain.best, output / "pre.ckpt")), "rubbish": str(output / "rubbish.ckpt")}
    before = sorted((output / "runs").iterdir())
    with pytest.raises(error, match=message.format(**names)):
        scored(*(word.format(**names) for word in words), f"output_dir={output}")
    assert sorted((output / "runs").iterdir()) == before


def test_a_checkpoint_without_image_size_asks_for_it(trained: dict[str, list[Run]], lapa: Path, output: Path) -> None:
    content = torch.load(trained["lapa"][-1].folder.best, weights_only=True)
    del content["settings"]
    torch.save(content, output / "old.ckpt")
    words = (f"checkpoint={output / 'old.ckpt'}", "dataset=lapa", f"root={lapa}", f"output_dir={output}")
    with pytest.raises(ConfigError, match="image_size=480"):
        scored(*words)
    assert scored(*words, "image_size=32").status["faces"] == 4


def test_a_failure_is_recorded_in_the_status(
    trained: dict[str, list[Run]], lapa: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"checkpoint={trained['lapa'][-1].folder.name}", "dataset=lapa", f"root={lapa}", f"output_dir={output}")
    config = config_of(*words, "split=val")
    folder = plan_evaluation(check_evaluation(config)).folder
    for error, state in ((RuntimeError("boom"), "failed"), (KeyboardInterrupt(), "interrupted")):

        def broken(*_: Any, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(FaceParsing, "test_step", broken)
            with pytest.raises(type(error)):
                evaluate(OmegaConf.create(config))
        assert folder.state == state
    evaluate(OmegaConf.create(config))
    assert folder.state == "done"
    assert folder.status["error"] is None


@pytest.mark.process
def test_the_memory_of_scoring_does_not_grow_with_the_images(
    parser_runs: list[Run], lapa: Path, tmp_path: Path
) -> None:
    few, many, side = 4, 84, 320  # label maps that are large next to what the network sees
    for count in (few, many):
        for kind, suffix in (("images", "jpg"), ("labels", "png")):
            folder = tmp_path / str(count) / "test" / kind
            folder.mkdir(parents=True)
            first = folder / f"face_000.{suffix}"
            with Image.open(next((lapa / "test" / kind).iterdir())) as file:
                file.resize((side, side), Image.Resampling.NEAREST).save(first)
            for index in range(1, count):
                os.link(first, folder / f"face_{index:03}.{suffix}")
        words = [f"checkpoint={parser_runs[-1].folder.path}", "dataset=lapa", f"root={tmp_path / str(count)}"]
        words += ["workers=0", "batch_size=2", "trainer.accelerator=cpu", f"output_dir={tmp_path / 'out'}"]
        code, output = forked("evaluate.py", *words)
        assert code == 0, output
    statuses = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*/status.json")]
    peaks = {status["faces"]: status["peak_memory_mb"] for status in statuses}
    kept = (many - few) * side**2 / 2**20  # MiB, a byte for each pixel
    assert peaks[many] - peaks[few] < kept / 2, peaks
