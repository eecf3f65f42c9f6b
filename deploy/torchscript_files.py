"""Traces a graph as TorchScript and writes it. Nothing loads such a file, see :mod:`lightning_modules.exported`."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_modules.exported import METADATA, ExportedNetwork
from models.deployed import Deployed

BY_WRITER = ("version", ".data/serialization_id")
"""Records that PyTorch's writer adds to every archive."""


def trace(graph: Deployed) -> torch.jit.ScriptModule:
    """A graph as TorchScript; it takes any number of images of any height and width."""
    example = torch.zeros(2, graph.size, graph.size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but many boards still need it
        return torch.jit.trace(graph, (example,))


def as_network(traced: torch.jit.ScriptModule, size: int, name: str) -> ExportedNetwork:
    """A traced graph with the inputs and outputs of a trained network, in the memory of this process."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(traced(torch.from_numpy(images)).numpy())

    return ExportedNetwork(run, size, name)


def write_torchscript(traced: torch.jit.ScriptModule, path: Path, about: Mapping[str, Any]) -> None:
    """Write a traced graph with its metadata, without the source lines that PyTorch records for debugging.

    They name every file of the stack, in the home folder of whoever exported.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced, content, _extra_files={f"{METADATA}.json": json.dumps(about).encode()})
    content.seek(0)
    reader = torch._C.PyTorchFileReader(content)  # reads records as bytes
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.set_min_version(int(reader.get_record("version")))  # of the operators
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in BY_WRITER:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
