"""The environment of a run: commit, library versions and device."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch

from foundation.errors import ConfigError
from foundation.run_folder import git_state

LIBRARIES = ("torchvision", "pytorch-lightning", "segmentation-models-pytorch", "albumentations", "numpy")
"""Libraries that can change a result; their versions are recorded, with that of torch."""
OPTIONAL = ("ultralytics",)
"""Likewise, if installed."""


def environment_info(accelerator: str) -> dict[str, Any]:
    """Commit, versions and name of the device, for ``status.json``.

    Args:
        accelerator: as in ``trainer.accelerator``.
    """
    return {
        "git_sha": git_state(),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            **{name: metadata.version(name) for name in LIBRARIES},
            **{name: metadata.version(name) for name in OPTIONAL if find_spec(name)},
        },
        "device": _device(accelerator),
    }


def _device(accelerator: str) -> str:
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def require_precision(precision: Any, accelerator: str) -> None:
    """Check that the device supports the precision: Lightning would use another one and only warn.

    Raises:
        ConfigError: if it does not, or the device does not exist.
    """
    if precision == "16-mixed" and device_of(accelerator) == "cpu":
        raise ConfigError("trainer.precision=16-mixed does not run on a CPU.\nIt must be 32-true or bf16-mixed there.")


def device_of(accelerator: str) -> str:
    """The torch device of ``trainer.accelerator``: cpu, cuda or mps.

    Raises:
        ConfigError: if this machine has none.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return "cuda" if available["cuda"] else "cpu"
    name = {"gpu": "cuda"}.get(accelerator, accelerator)
    if not available.get(name, True):
        raise ConfigError(
            f"trainer.accelerator={accelerator}: this machine has no such device.\nIt must be auto or cpu."
        )
    return name
