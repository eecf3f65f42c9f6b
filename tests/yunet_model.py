"""A model with the inputs and outputs of YuNet, which finds a face in each white cell of 8 x 8 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BOX = 40
"""Side of its boxes, in pixels."""


def write_yunet(path: Path) -> Path:
    """Write the model; returns its path."""
    nodes, weights, outputs = [], [], []
    for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            name = f"{kind}_{stride}"
            filters = np.zeros((width, 3, stride, stride), np.float32)
            bias = np.zeros(width, np.float32)
            if kind in ("cls", "obj"):
                bias[:] = -80 if stride == 8 else -100
                filters[:] = 100 / (3 * 255 * stride**2) if stride == 8 else 0
            elif kind == "bbox":
                bias[:] = (0.5, 0.5, *[np.log(BOX / stride)] * 2)
            weights += [
                numpy_helper.from_array(filters, f"{name}.weight"),
                numpy_helper.from_array(bias, f"{name}.bias"),
            ]
            weights.append(numpy_helper.from_array(np.array([1, -1, width]), f"{name}.shape"))
            inputs = ["input", f"{name}.weight", f"{name}.bias"]
            nodes.append(helper.make_node("Conv", inputs, [f"{name}.map"], strides=[stride] * 2))
            logits = f"{name}.map"
            if kind in ("cls", "obj"):
                nodes.append(helper.make_node("Sigmoid", [logits], [f"{name}.sigmoid"]))
                logits = f"{name}.sigmoid"
            nodes.append(helper.make_node("Transpose", [logits], [f"{name}.last"], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [f"{name}.last", f"{name}.shape"], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, width]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    graph = helper.make_graph(nodes, "yunet", [image], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
