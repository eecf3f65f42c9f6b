"""Segmenters of occlusion for tests: planned runs and Lightning modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.stage import Run
from lightning_modules.occlusion import OcclusionSegmentation
from stages.command import check, plan
from tests.conftest import TINY_SEGMENTER, settings_of


def planned_run(root: Path, output: Path, *words: str, experiment: str = "occlusion_celeba") -> Run:
    """The run of a training command, which is not started."""
    where = (f"datamodule.root={root}", f"output_dir={output}")
    (run,) = plan(check(settings_of(f"experiment={experiment}", *TINY_SEGMENTER, *where, *words)))
    return run


def segmenter(**changes: Any) -> OcclusionSegmentation:
    chosen: dict[str, Any] = {
        "network": "modified_unet",
        "width": 8,
        "bottleneck_convs": 1,
        "kernel": 3,
        "decoder_kernel": 3,
        "count": "all",
        "initialization": "default",
        "lambda_dice": 0.5,
        "noise_kernel": 7,
        "rho_lr": 10.0,
        "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.5, "weight_decay": 0.1},
        "schedule": {"name": "constant", "warmup": 0.0},
        "steps": 10,
    }
    return OcclusionSegmentation(**(chosen | changes))
