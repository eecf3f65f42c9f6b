"""Checkpoints and exported files of any content: one message, exit code 2, nothing asked of a network."""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from callbacks.checkpoints import load as load_checkpoint
from datamodules.labels import LAPA
from deploy.predictor import load
from engine.stage import Run
from foundation.errors import DataError, UserError
from lightning_modules.exported import METADATA, metadata_of
from lightning_modules.occlusion_comparators import segmentation
from lightning_modules.parsing import FaceParsing
from stages.evaluation import evaluate
from tests.conftest import copied, run_training
from tests.test_evaluation import config_of
from tests.test_export import run_export
from tests.training_runs import interrupted_at

OPTIMIZATION = {"optimizer": {"name": "adam", "lr": 0.001}, "schedule": {"name": "constant"}, "steps": 4}
Change = Callable[[dict[str, Any]], Any]


def parser() -> dict[str, Any]:
    """The content of the best.ckpt of a small parser."""
    terms = {"loss": "focal_dice", "lambda_ce": 1.0, "lambda_dice": 1.0, "alpha": 0.25, "gamma": 2.0}
    module = FaceParsing(LAPA.classes, "tu-test_efficientnet", 4, architecture="linknet", **terms, **OPTIMIZATION)  # type: ignore[arg-type]
    return _content("finetune", "lapa", module) | {"class_set": LAPA.as_plain()}


def segmenter() -> dict[str, Any]:
    kernels = {"bottleneck_convs": 1, "kernel": 3, "decoder_kernel": 3, "noise_kernel": 3, "rho_lr": 1.0}
    words: dict[str, Any] = {"width": 2, "count": "all", "initialization": "default", "lambda_dice": 1.0, **kernels}
    return _content("segment", "augmented_celeba", segmentation("base_unet", **words, **OPTIMIZATION))


def _content(stage: str, dataset: str, module: Any) -> dict[str, Any]:
    return {
        "state_dict": dict(module.state_dict()),
        "hyper_parameters": dict(module.hparams),
        "metrics": {},
        "stage": stage,
        "id": "0123456789ab",
        "dataset": dataset,
        "settings": {"datamodule.image_size": 32, f"{stage}.score_at": "label", "trainer.precision": "32-true"},
    }


def first(content: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The state dictionary and the name of its first weights of a convolution."""
    state = content["state_dict"]
    return state, next(name for name, value in state.items() if value.ndim == 4)


def with_weights(change: Callable[[torch.Tensor], Any]) -> Change:
    def changed(content: dict[str, Any]) -> Any:
        state, name = first(content)
        state[name] = change(state[name])
        return content

    return changed


def put(key: str, value: Any) -> Change:
    """Replace the entry ``a/b/c``."""

    def changed(content: dict[str, Any]) -> Any:
        *parents, last = key.split("/")
        part = content
        for parent in parents:
            part = part[parent]
        part[last] = value
        return content

    return changed


def without(key: str) -> Change:
    return lambda content: {name: value for name, value in content.items() if name != key}


def endless(content: dict[str, Any]) -> Any:
    own: list[Any] = []
    own.append(own)
    return content | {"hyper_parameters": content["hyper_parameters"] | {"classes": own}}


def doubling(content: dict[str, Any]) -> Any:
    values: list[Any] = []
    for _ in range(40):
        values = [values, values]
    return content | {"metrics": values}


MALFORMED: dict[str, tuple[Change, str]] = {
    "a list": (lambda content: [content], "it holds a list"),
    "a tensor": (lambda _: torch.zeros(3), "it holds a Tensor"),
    "no id": (without("id"), "it has no id"),
    "an id that is a path": (put("id", "../../elsewhere"), "its id is '../../elsewhere'"),
    "no hyper-parameters": (without("hyper_parameters"), "no hyper_parameters"),
    "no weights": (without("state_dict"), "weights are a NoneType"),
    "a stage of a number": (put("stage", 3), "its stage is 3"),
    "settings in a list": (put("settings", ["x"]), "its settings are a list"),
    "a size in letters": (put("settings/datamodule.image_size", "abc"), "image_size is 'abc'"),
    "a size of 33": (put("settings/datamodule.image_size", 33), "image_size is 33"),
    "a size below 0": (put("settings/datamodule.image_size", -32), "image_size is -32"),
    "a size of a million": (put("settings/datamodule.image_size", 2**20), "image_size is 1048576"),
    "an unknown precision": (put("settings/trainer.precision", "9"), "precision is '9'"),
    "300 classes": (put("hyper_parameters/classes", ["x"] * 300), "300 classes, its data set 11"),
    "an unknown network": (put("hyper_parameters/architecture", "no_such"), "architecture=no_such does not exist"),
    "features of another kind": (put("hyper_parameters/encoder", ["resnet18"]), "encoder=.*does not exist"),
    "another loss": (put("hyper_parameters/trained", "nothing"), "does not contain a parser"),
    "NaN": (with_weights(lambda value: value * torch.nan), "are NaN or infinite"),
    "integers": (with_weights(lambda value: value.long()), "1 of another kind"),
    "another shape": (with_weights(lambda value: value[:1]), "1 of another shape"),
    "another rank": (with_weights(lambda value: value[0, 0]), "1 of another shape"),
    "an expanded tensor": (with_weights(lambda _: torch.zeros(1).expand(10**6, 10**6)), "with fewer values"),
    "a sparse tensor": (with_weights(lambda value: value.to_sparse()), "not a plain one|cannot be read"),
    "a text": (with_weights(lambda _: "x"), "a str"),
    "a value within itself": (endless, "nested without end"),
    "values of values": (doubling, "nested without end"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_checkpoint_is_one_message(name: str, tmp_path: Path) -> None:
    change, message = MALFORMED[name]
    torch.save(change(parser()), tmp_path / "best.ckpt")
    with pytest.raises(UserError, match=message) as raised:
        load(str(tmp_path / "best.ckpt"), faces="whole")
    assert raised.value.exit_code == 2
    assert "best.ckpt" in str(raised.value)


def test_a_sound_checkpoint_is_read(tmp_path: Path) -> None:
    for content in (parser(), segmenter()):
        torch.save(content, tmp_path / "best.ckpt")
        label = load(str(tmp_path / "best.ckpt"), faces="whole").predict(np.zeros((20, 24, 3), np.uint8)).label
        assert label.shape == (20, 24)


@pytest.mark.parametrize("name", ["no id", "NaN", "a size in letters", "an unknown network"])
def test_evaluation_and_export_read_it_the_same_way(name: str, lapa: Path, tmp_path: Path) -> None:
    change, message = MALFORMED[name]
    torch.save(change(parser()), tmp_path / "best.ckpt")
    words = (f"checkpoint={tmp_path / 'best.ckpt'}", f"root={lapa}", f"output_dir={tmp_path}")
    for command in (
        lambda: evaluate(OmegaConf.create(config_of(*words, "dataset=lapa"))),
        lambda: run_export(*words),
    ):
        with pytest.raises(DataError, match=message):
            command()


def test_an_unknown_data_set_has_no_faces_for_a_comparison(lapa: Path, tmp_path: Path) -> None:
    torch.save(put("dataset", "elsewhere")(parser()), tmp_path / "best.ckpt")
    with pytest.raises(UserError, match="elsewhere, which is no data set") as raised:
        run_export(f"checkpoint={tmp_path / 'best.ckpt'}", f"root={lapa}", f"output_dir={tmp_path}")
    assert raised.value.exit_code == 2


def test_an_unknown_segmenter_is_not_taken_for_another(tmp_path: Path) -> None:
    torch.save(put("hyper_parameters/network", "no_such")(segmenter()), tmp_path / "best.ckpt")
    with pytest.raises(DataError, match="network=no_such is none of"):
        load(str(tmp_path / "best.ckpt"), faces="whole")


def test_a_file_that_inflates_is_refused_before_it_is_read(tmp_path: Path) -> None:
    content = parser()
    content["state_dict"]["more"] = torch.zeros(2**22)  # 16 MiB
    torch.save(content, tmp_path / "plain.ckpt")
    small = zipfile.ZipFile(tmp_path / "best.ckpt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.ckpt") as plain, small:
        for member in plain.infolist():
            small.writestr(member.filename, plain.read(member))
    assert (tmp_path / "best.ckpt").stat().st_size < 2**20
    with pytest.raises(DataError, match="would inflate to"):
        load(str(tmp_path / "best.ckpt"), faces="whole")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Addresses that were looked up or connected to; each fails."""
    asked: list[Any] = []

    def refuse(*address: Any, **_: Any) -> Any:
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


ELSEWHERE = ("tu-hf-hub:someone/x", "tu-hf_hub:someone/x", "tu-local-dir:/tmp/x", "https://example.org/x", "tu-timm/x")


@pytest.mark.parametrize("encoder", ELSEWHERE)
@pytest.mark.parametrize("suffix", ["ckpt", "onnx"])
def test_a_file_looks_nothing_up(encoder: str, suffix: str, offline: list[Any], tmp_path: Path) -> None:
    content = put("hyper_parameters/encoder", encoder)(parser())
    if suffix == "ckpt":
        torch.save(content, tmp_path / "best.ckpt")
    else:
        save_onnx(tmp_path / "best.onnx", content, 11)
    with pytest.raises(DataError, match=f"encoder={encoder} does not exist"):
        load(str(tmp_path / f"best.{suffix}"), faces="whole")
    assert offline == []


def test_no_segmenter_asks_for_weights(offline: list[Any]) -> None:
    from models.comparators import COMPARATORS

    for name in COMPARATORS:
        with torch.device("meta"), contextlib.suppress(RuntimeError, ImportError):  # MiT reads values; no ultralytics
            COMPARATORS[name]()
    assert offline == []


def save_onnx(path: Path, content: dict[str, Any], channels: int, change: Callable[[Any], None] | None = None) -> None:
    """A graph with the inputs, outputs and metadata of an export: a convolution of one pixel."""
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("weight", TensorProto.FLOAT, (channels, 3, 1, 1), [0.5] * 3 * channels)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight"], ["logits"], kernel_shape=[1, 1]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "classes", "height", "width"])
    graph = helper.make_graph(nodes, "network", [image], [logits], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    about = metadata_of(content, {"precision": "fp32"}, LAPA.classes)
    helper.set_model_props(model, {METADATA: json.dumps(about)})
    if change is not None:
        change(model)
    onnx.save_model(model, path)


def _nan(model: Any) -> None:
    model.graph.initializer[0].float_data[0] = float("nan")


def _rank_two(model: Any) -> None:
    from onnx import helper

    model.graph.node[2].output[0] = "maps"
    model.graph.node.append(helper.make_node("Flatten", ["maps"], ["logits"]))
    del model.graph.output[0].type.tensor_type.shape.dim[2:]


def _float_images(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 1


@pytest.mark.parametrize(
    ("channels", "change", "content", "message"),
    [
        (300, None, None, r"gives float32 of shape \(1, 300, 32, 32\), not"),
        (11, _nan, None, "logits that are NaN"),
        (11, _rank_two, None, "logits.*2.*in place of"),
        (11, _float_images, None, "tensor.float.*in place of"),
        (11, None, put("settings/datamodule.image_size", "abc"), "image_size is 'abc'"),
        (11, None, put("settings/datamodule.image_size", None), "does not record its image size"),
        (11, None, put("hyper_parameters/features", 10**9), "weights|does not contain a parser"),
        (11, None, put("hyper_parameters", [1]), "hyper_parameters are no mapping"),
        (11, None, put("class_set", {"name": 3}), "image_size|classes"),
        (11, None, put("stage", "../x"), "its stage is"),
    ],
)
def test_a_malformed_onnx_file_is_one_message(
    channels: int, change: Callable[[Any], None] | None, content: Change | None, message: str, tmp_path: Path
) -> None:
    described = parser() | {"dataset": "own"}  # so that its class_set is read
    described["hyper_parameters"]["architecture"] = "unetplusplus"  # which has features
    save_onnx(tmp_path / "network.onnx", content(described) if content else described, channels, change)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "network.onnx"), faces="whole").predict(np.zeros((20, 24, 3), np.uint8))


@pytest.mark.training
def test_a_start_with_malformed_weights(parser_runs: list[Run], lapa: Path, tmp_path: Path) -> None:
    start = copied(parser_runs, tmp_path)[1].folder
    content = load_checkpoint(start.best)
    words = ("method=transfer", f"finetune.start_from={start.name}", "finetune.seed=9")
    for name, message in (
        ("NaN", "NaN or infinite"),
        ("another shape", "of another shape"),
        ("integers", "of another"),
    ):
        torch.save(MALFORMED[name][0](copy.deepcopy(content)), start.best)
        with pytest.raises(DataError, match=message):
            run_training("mtl_lapa_10pct", lapa, tmp_path, *words)


def no_momentum(content: dict[str, Any]) -> Any:
    content["optimizer_states"][0]["param_groups"] = []
    return content


@pytest.mark.training
def test_a_malformed_last_checkpoint_is_not_resumed(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("finetune.optimizer.name=adam",)
    with interrupted_at(monkeypatch, FaceParsing, 2):
        run_training("baseline_lapa_10pct", lapa, tmp_path, *words)
    (last,) = tmp_path.glob("runs/finetune-*/checkpoints/last.ckpt")
    sound = torch.load(last, weights_only=True)
    changes = {
        "it has no loops": without("loops"),
        "param": no_momentum,
        "NaN or infinite": MALFORMED["NaN"][0],
        "of another shape": MALFORMED["another shape"][0],
        "it has no state_dict": lambda content: [content],
    }
    for message, change in changes.items():
        torch.save(change(copy.deepcopy(sound)), last)
        with pytest.raises(DataError, match=rf"last\.ckpt cannot be read.*{message}"):
            run_training("baseline_lapa_10pct", lapa, tmp_path, *words)
    torch.save(sound, last)
    assert run_training("baseline_lapa_10pct", lapa, tmp_path, *words)[0].folder.done
