"""Deployment: prediction on images and videos, export, latency.

``from deploy import load`` loads a trained network that takes any image, see :func:`deploy.predictor.load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.predictor import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # imports torch and Lightning, which takes seconds
        from deploy.predictor import load

        return load
    raise AttributeError(f"module {__name__} has no attribute {name}")
