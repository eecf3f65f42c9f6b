"""Where a result comes from, next to its settings: the code, the libraries and the machine."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch

from foundation.errors import ConfigError
from foundation.run_folder import git_state

LIBRARIES = ("torchvision", "pytorch-lightning", "segmentation-models-pytorch", "albumentations", "numpy")
"""Those whose versions a result may depend on, next to torch."""
OPTIONAL = ("ultralytics",)
"""Likewise, where they are installed."""


def environment_info(accelerator: str) -> dict[str, Any]:
    """Commit, versions and the name of the device, for a status.

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
    """See that the device can compute so: Lightning would take another precision and only warn.

    Raises:
        ConfigError: if it cannot, or is not there.
    """
    if precision == "16-mixed" and device_of(accelerator) == "cpu":
        raise ConfigError("trainer.precision=16-mixed is not for the CPU.\nExpected: 32-true or bf16-mixed there.")


def device_of(accelerator: str) -> str:
    """The device of ``trainer.accelerator`` as torch names it.

    Raises:
        ConfigError: if this machine has none.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return "cuda" if there["cuda"] else "cpu"
    name = {"gpu": "cuda"}.get(accelerator, accelerator)
    if not there.get(name, True):
        raise ConfigError(f"trainer.accelerator={accelerator}: there is no such device here.\nExpected: auto or cpu.")
    return name
