"""Reads files of ``torch.save`` that may come from anywhere: no code is run, and memory stays near the file's size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOST_VALUES = 300_000
"""Values that a file may hold, a tensor being one; a value that contains itself has infinitely many."""
DEEPEST = 50
"""Levels of nested values; a checkpoint of Lightning has fewer than ten."""
ZIP = b"PK\x03\x04"


class WeightsError(Exception):
    """The reason for which a file is not read, in a few words."""


def read_weights(path: Path, before_zip: bool = False) -> Any:
    """What ``torch.save`` wrote to a file: plain values and dense tensors on the CPU, each within its storage.

    Args:
        path: the file.
        before_zip: whether the format from before PyTorch 1.6 is read too, as in older published weights.

    Raises:
        WeightsError: if it cannot be read, holds code, inflates beyond its size, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(ZIP)) == ZIP
        if zipped:
            _require_bounded(path)
        elif not before_zip:
            raise WeightsError("not an archive of torch.save")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # a pickle of code, a truncated file, another format
        raise WeightsError(type(error).__name__) from error
    _require_plain(content)
    return content


def _require_bounded(path: Path) -> None:
    """See that the members of an archive are stored as they are; the reader is the one that ``torch.load`` uses.

    ``torch.save`` does not compress. A compressed member of 60 MB can inflate to gigabytes.
    """
    archive = torch._C.PyTorchFileReader(str(path))
    total = sum(archive.get_record_size(name) for name in archive.get_all_records())
    if total > path.stat().st_size:
        raise WeightsError(f"{path.stat().st_size:,} bytes that would inflate to {total:,}")


def _require_plain(content: Any) -> None:
    waiting, seen = [(content, 0)], 1
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Tensor):
            _require_dense(value)
            continue
        parts: list[Any] = []
        if isinstance(value, Mapping):
            parts = [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            parts = list(value)
        seen += len(parts)
        if seen > MOST_VALUES or depth > DEEPEST:
            raise WeightsError("values nested without end")
        waiting += [(part, depth + 1) for part in parts]


def _require_dense(value: Tensor) -> None:
    known = type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided
    if not known or value.is_quantized or value.device.type != "cpu":
        raise WeightsError("a tensor that is not a plain one")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():  # expanded: copies would not fit
        raise WeightsError(f"a tensor of shape {tuple(value.shape)} with fewer values")


def unfit_weights(state: Any) -> str | None:
    """What is wrong with a state dictionary, if it is none or holds NaN; None for a sound one."""
    if not isinstance(state, Mapping) or not state:
        return f"its weights are {'empty' if isinstance(state, Mapping) else f'a {type(state).__name__}'}"
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            return f"its weights hold {str(name)[:80]!r}, a {type(value).__name__}"
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return f"its weights {name} are NaN or infinite"
    return None


def misfit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """How weights differ from those of a network in names, shapes or kinds of number; None if they fit.

    Args:
        state: the weights.
        expected: those of the network, which may be on the meta device.
    """
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    other = [
        f"{name} {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    kinds = [
        f"{name} of {str(state[name].dtype).removeprefix('torch.')}"
        for name, value in expected.items()
        if name in state and state[name].is_floating_point() != value.is_floating_point()
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": other, "of another kind": kinds}
    found = [f"{len(names)} {kind} (such as {', '.join(names[:3])})" for kind, names in problems.items() if names]
    if not found:
        return None
    fitting = len(expected) - len(missing) - len({text.partition(" ")[0] for text in (*other, *kinds)})
    return f"{fitting} of {len(expected)} tensors fit: {', '.join(found)}"
