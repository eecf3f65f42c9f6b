"""What leaves the framework answers as what was trained, says what it is, and is taken back; others are refused."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from conf.schema import CONF
from datamodules.labels import OCCLUSION
from engine.errors import ConfigError, DataError, RunError
from engine.evaluation import evaluate
from engine.export import EQUAL, LOSS, Agreement, _require_equal, export
from engine.exported import METADATA, load_exported
from engine.predictor import load
from engine.stages import Run
from models.deployed import Deployed, lean
from models.layers import BatchInstanceNorm2d, SelfAttention
from models.unet import ModifiedUNet
from tests.test_prediction import parser, segmenter_run  # noqa: F401 (fixtures)


def run_export(*words: str) -> Path:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return export(compose("export", overrides=["rounds=0", "workers=0", *words]))


def scored(*words: str) -> dict[str, float]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        (row,) = evaluate(compose("evaluate", overrides=["trainer.accelerator=cpu", "workers=0", "panels=0", *words]))
    output = next(word.partition("=")[2] for word in words if word.startswith("output_dir="))
    return json.loads((Path(output) / "runs" / row["name"] / "status.json").read_text())["metrics"]


def trained_unet() -> ModifiedUNet:
    torch.manual_seed(0)
    network = ModifiedUNet(base_width=8).eval()
    for layer in network.modules():
        if isinstance(layer, BatchInstanceNorm2d):
            for values in (layer.rho, layer.weight, layer.running_mean, layer.running_var):
                nn.init.uniform_(values, 0.2, 1)
            nn.init.normal_(layer.bias)
        if isinstance(layer, SelfAttention):
            nn.init.constant_(layer.gamma, 0.7)
    return network


def test_lean_layers_answer_as_the_trained_ones() -> None:
    network = trained_unet()
    image = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(lean(network)(image), network(image), rtol=1e-4, atol=1e-4)
    kinds = {type(module) for module in lean(network).modules()}
    assert not kinds & {BatchInstanceNorm2d, SelfAttention}
    assert any(isinstance(module, SelfAttention) for module in network.modules()), "the original stays"


def test_pictures_of_any_size_are_brought_to_the_networks_own() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    network = nn.Conv2d(3, 2, 1)
    picture = torch.randint(0, 256, (2, 50, 40, 3), dtype=torch.uint8)
    with torch.inference_mode():
        answer = Deployed(network, 32, mean, std)(picture)
        resized = nn.functional.interpolate(picture.permute(0, 3, 1, 2) / 255, size=(32, 32), mode="bilinear")
        expected = network((resized - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "precision"), [("onnx", "fp32"), ("onnx", "int8"), ("onnx", "fp16"), ("torchscript", "fp32")]
)
def test_a_segmenter_is_exported_and_taken_back(
    form: str,
    precision: str,
    segmenter_run: Run,  # noqa: F811
    masked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LOSS, precision, 1.0)  # two steps of training decide nothing
    monkeypatch.setitem(EQUAL, precision, 0.9)
    trained = f"checkpoint={segmenter_run.folder.path}"
    loud = logging.getLogger().level
    file = run_export(trained, f"format={form}", f"precision={precision}", f"root={masked}", f"output_dir={tmp_path}")
    assert logging.getLogger().level == loud, "exporters are silenced for as long as they work"
    stated = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert stated["classes"] == list(OCCLUSION.classes)
    assert stated["agreement"]["equal"] > 0.9
    assert [path for path in file.parent.iterdir() if path.name.startswith(".")] == [], "nothing half-made stays"
    data = ("dataset=augmented_celeba", f"root={masked}", f"output_dir={tmp_path}")
    ours, theirs = scored(trained, *data), scored(f"checkpoint={file}", *data)
    assert abs(ours["test/accuracy"] - theirs["test/accuracy"]) < (0.05 if precision == "int8" else 0.01)
    picture = np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8)
    masks = load(str(file), faces="whole").predict(picture)
    assert masks.label.shape == (80, 60)
    with pytest.raises(ConfigError, match="exported already"):
        run_export(f"checkpoint={file}", f"root={masked}", f"output_dir={tmp_path}")
    with pytest.raises(ConfigError, match="was exported for"):
        load(str(file), faces="whole", image_size=96).predict(picture)


def test_a_parser_is_exported_with_its_classes(parser: Run, lapa: Path, tmp_path: Path) -> None:  # noqa: F811
    file = run_export(
        f"checkpoint={parser.folder.path}", f"root={lapa}", f"output_dir={tmp_path}", f"out={tmp_path / 'p.onnx'}"
    )
    content = load_exported(file)
    assert content["dataset"] == "lapa"
    stated = json.loads(file.with_name("p.onnx.json").read_text())
    assert len(stated["classes"]) == 11
    assert stated["agreement"]["equal"] > 0.9999
    ours, theirs = (
        scored(f"checkpoint={path}", "dataset=lapa", f"root={lapa}", f"output_dir={tmp_path}")
        for path in (parser.folder.path, file)
    )
    assert abs(ours["test/pixel_accuracy"] - theirs["test/pixel_accuracy"]) < 1e-4
    with pytest.raises(ConfigError, match="classes of lapa"):
        run_export(f"checkpoint={parser.folder.path}", "dataset=celebamask_hq", f"output_dir={tmp_path}")


def test_an_export_that_answers_otherwise_is_refused(
    segmenter_run: Run,  # noqa: F811
    masked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = Deployed.forward
    monkeypatch.setattr(Deployed, "forward", lambda self, image: -true(self, image))
    words = (f"checkpoint={segmenter_run.folder.path}", f"root={masked}", f"output_dir={tmp_path}")
    with pytest.raises(RunError, match="does not answer as the trained one"):
        run_export(*words, f"out={tmp_path / 'wrong.torchscript'}", "format=torchscript")
    with pytest.raises(ConfigError, match=r"ends in \.torchscript"):
        run_export(*words, f"out={tmp_path / 'wrong.onnx'}", "format=torchscript")
    assert list(tmp_path.glob("wrong*")) == []


@pytest.mark.parametrize(("equal", "miou", "fine"), [(0.99, 0.496, True), (0.99, 0.494, False)])
def test_int8_may_cost_half_a_point(equal: float, miou: float, fine: bool) -> None:
    found = Agreement(faces=70, difference=1.0, equal=equal, trained_miou=0.5, miou=miou)
    if fine:
        _require_equal(found, "int8")
    else:
        with pytest.raises(RunError, match=r"falls by 0\.60 points"):
            _require_equal(found, "int8")


def test_latencies_are_measured_in_processes_of_their_own(
    segmenter_run: Run,  # noqa: F811
    masked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.latency.THREADS", (1,))
    monkeypatch.setattr("engine.latency.BATCHES", (8,))
    words = (f"checkpoint={segmenter_run.folder.path}", f"root={masked}", f"output_dir={tmp_path}", "rounds=2")
    file = run_export(*words)
    rows = json.loads(file.with_name(f"{file.name}.json").read_text())["latency"]
    assert {(row["network"], row["batch"]) for row in rows} == {
        (name, 8) for name in ("PyTorch, as trained", file.name)
    }
    assert all(row["median_ms"] > 0 and row["p95_ms"] >= row["median_ms"] for row in rows)


def test_other_files_are_refused_and_not_run(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Identity", ["image"], ["logits"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "logits")]
    model = helper.make_model(helper.make_graph(nodes, "other", ends[:1], ends[1:]), ir_version=10)
    model.opset_import[0].version = 17
    onnx.save_model(model, tmp_path / "other.onnx")
    with pytest.raises(DataError, match="no export of this project"):
        load(str(tmp_path / "other.onnx"), faces="whole")
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x0a")
    with pytest.raises(DataError, match=r"torn\.onnx"):
        load(str(tmp_path / "torn.onnx"), faces="whole")
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (ran,)  # type: ignore[return-value]

    (tmp_path / "trap.torchscript").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"trap\.torchscript"):
        load(str(tmp_path / "trap.torchscript"), faces="whole")
    assert not ran.exists()
    assert METADATA == "halfmask"


def test_int8_is_for_onnx(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format=onnx"):
        run_export("checkpoint=x", "format=torchscript", "precision=int8", f"output_dir={tmp_path}")
