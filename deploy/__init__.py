"""Trained networks at work: prediction, videos, export, latency.

``from deploy import load`` gives a trained network that takes any image, see :func:`deploy.predictor.load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.predictor import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # torch and Lightning, seconds: only for those who ask
        from deploy.predictor import load

        return load
    raise AttributeError(f"module {__name__} has no attribute {name}")
