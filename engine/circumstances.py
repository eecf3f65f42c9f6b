"""Where a result comes from, beside its settings: the code, the libraries and the machine."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

from engine.runs import git_state

LIBRARIES = ("pytorch-lightning", "segmentation-models-pytorch", "albumentations", "numpy")
"""Those whose versions a result may depend on, beside torch."""


def circumstances(accelerator: str) -> dict[str, Any]:
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
        },
        "device": _device(accelerator),
    }


def _device(accelerator: str) -> str:
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def device_of(accelerator: str) -> str:
    """The device of ``trainer.accelerator`` as torch names it."""
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return {"gpu": "cuda"}.get(accelerator, accelerator)
