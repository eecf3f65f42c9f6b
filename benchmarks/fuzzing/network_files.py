"""Small networks as checkpoints and exported files, and changes of them by their structure."""

from __future__ import annotations

import io
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from benchmarks.fuzzing import texts
from benchmarks.fuzzing.form import CANARY, OUTSIDE
from benchmarks.fuzzing.values import changed, other_value
from datamodules.labels import LAPA
from datamodules.transforms import MEAN, STD
from deploy.torchscript_files import trace, write_torchscript
from lightning_modules.exported import METADATA, metadata_of
from lightning_modules.occlusion_comparators import segmentation
from lightning_modules.parsing import FaceParsing
from models.deployed import Deployed

ENCODER, SIZE = "tu-test_efficientnet", 32
OPTIMIZATION: dict[str, Any] = {
    "optimizer": {"name": "adam", "lr": 0.001},
    "schedule": {"name": "constant"},
    "steps": 4,
}


def parser() -> dict[str, Any]:
    """The content of a parser's best.ckpt."""
    torch.manual_seed(0)
    terms = {"loss": "dice_focal", "lambda_ce": 1.0, "lambda_dice": 1.0, "alpha": 0.25, "gamma": 2.0}
    module = FaceParsing(LAPA.classes, ENCODER, features=4, architecture="linknet", **terms, **OPTIMIZATION)  # type: ignore[arg-type]
    return _content("finetune", "lapa", module) | {"class_set": LAPA.as_plain()}


def segmenter() -> dict[str, Any]:
    """The content of a segmenter's best.ckpt."""
    torch.manual_seed(0)
    kernels = {"bottleneck_convs": 1, "kernel": 3, "decoder_kernel": 3, "noise_kernel": 3}
    module = segmentation(
        network="base_unet",
        width=2,
        count="all",
        initialization="default",
        lambda_dice=1.0,
        rho_lr=1.0,
        **kernels,
        **OPTIMIZATION,
    )
    return _content("segment", "augmented_celeba", module)


def _content(stage: str, dataset: str, module: Any) -> dict[str, Any]:
    return {
        "state_dict": dict(module.state_dict()),
        "hyper_parameters": dict(module.hparams),
        "metrics": {"val/miou": 0.5},
        "epoch": 2,
        "global_step": 4,
        "stage": stage,
        "id": "0123456789ab",
        "dataset": dataset,
        "settings": {"datamodule.image_size": SIZE, f"{stage}.score_at": "label", "trainer.precision": "32-true"},
    }


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def checkpoints() -> list[bytes]:
    return [*[saved(segmenter())] * 5, saved(parser())]


class Code:
    """An object whose pickle runs a command when it is read with code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {CANARY}",)


def checkpoint_file(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """A checkpoint of other values: of settings and descriptions most often, of weights, or with code in it."""
    content: Any = torch.load(io.BytesIO(rng.choice(originals)), weights_only=True)
    kind = rng.randrange(10)
    if kind == 0:
        return saved(rng.choice((other_value(rng), Code(), {"stage": Code()}, content | {"id": Code()}, [content])))
    if kind < 3 and isinstance(content.get("state_dict"), dict):
        content["state_dict"] = _changed_weights(rng, content["state_dict"])
        return saved(content)
    weights = content.pop("state_dict", None)
    content = changed(rng, content)
    if isinstance(content, dict) and weights is not None:
        content["state_dict"] = weights
    return saved(content)


def _changed_weights(rng: random.Random, weights: dict[str, Any]) -> Any:
    kind, name = rng.randrange(7), rng.choice(list(weights))
    if kind == 0:
        return other_value(rng)
    tensor = weights[name]
    weights[name] = (
        tensor.flatten()[:1],
        torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor,
        tensor.double() if tensor.is_floating_point() else tensor,
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(3, 3).to_sparse(),
        other_value(rng),
    )[kind - 1]
    return weights


def resumable() -> dict[str, Any]:
    """What Lightning stores to resume a run, as far as it matters here."""
    return segmenter() | {"callbacks": {"EpochCheckpoint": {"score": 0.5}}, "optimizer_states": [{"state": {}}]}


def _metadata(stage: str = "segment") -> str:
    content = segmenter() if stage == "segment" else parser()
    return json.dumps(metadata_of(content, {"precision": "fp32", "opset": 18}, ("occluded",)))


def onnx_files() -> list[bytes]:
    """A graph of one convolution with the inputs, outputs and metadata of an export."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, (1, 3, 1, 1), [0.5, -0.5, 0.25])
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight"], ["logits"], kernel_shape=[1, 1]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, "height", "width"])
    graph = helper.make_graph(nodes, "network", [image], [logits], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA: _metadata()})
    return [model.SerializeToString()]


def onnx_file(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """An ONNX file with other metadata, weights in another file, other shapes, operators and versions."""
    model = onnx.load_from_string(rng.choice(originals))
    graph, kind = model.graph, rng.randrange(9)
    if kind < 3:
        model.metadata_props[0].value = texts.json_file(rng, [model.metadata_props[0].value.encode()])[:200_000].decode(
            "utf-8", "replace"
        )
    elif kind == 3:
        weight = graph.initializer[0]
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        places = (f"../{OUTSIDE}/{CANARY}.bin", "/etc/hostname", "absent.bin", "")
        for key, value in (("location", rng.choice(places)), ("offset", rng.choice(("0", "-1", "9" * 30)))):
            weight.external_data.add(key=key, value=value)
    elif kind == 4:
        shapes: tuple[list[int], ...] = ([2**40], [-1], [], [0, 3, 1, 1], [1, 3, 2**31, 2**31], [1, 3, 3, 3])
        graph.initializer[0].dims[:] = rng.choice(shapes)
    elif kind == 5:
        rng.choice(graph.node).op_type = rng.choice(
            ("Relu", "Absent", "", "Softmax", "Gather", "ConstantOfShape", "Conv")
        )
    elif kind == 6:
        side = rng.choice((graph.input, graph.output))[0]
        side.type.tensor_type.elem_type = rng.randrange(0, 30)
        side.name = rng.choice((side.name, "other"))
    elif kind == 7:
        model.opset_import[0].version = rng.choice((0, 1, 7, 2**31, 999))
        model.ir_version = rng.choice((0, 3, 9, 99, 2**40))
    else:
        del rng.choice((graph.node, graph.input, graph.output, graph.initializer, model.metadata_props))[0]
    return model.SerializeToString()


def torchscript_files() -> list[bytes]:
    """A traced convolution with metadata."""
    torch.manual_seed(0)
    graph = Deployed(nn.Conv2d(3, 1, 1), SIZE, MEAN, STD, half=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.torchscript"
        write_torchscript(trace(graph), path, json.loads(_metadata()))
        return [path.read_bytes()]


def encoder_files() -> list[bytes]:
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    return [saved(dict(smp.encoders.get_encoder(ENCODER, weights=None).state_dict()))]


def encoder_file(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """A state dictionary with other weights, of other names, or within another."""
    weights: Any = torch.load(io.BytesIO(rng.choice(originals)), weights_only=True)
    kind = rng.randrange(4)
    if kind == 0:
        return saved(
            rng.choice((other_value(rng), Code(), [weights], {"state_dict": weights}, {1: 2}, {"state_dict": 3}))
        )
    if kind == 1:
        weights[rng.choice((3, "fc.weight", "other", None))] = other_value(rng)
        return saved(weights)
    return saved(_changed_weights(rng, weights))
