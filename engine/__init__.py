"""What runs: stages and their identity, training, scoring, prediction, export.

``from engine import load`` gives a trained network that takes any picture, see :func:`engine.predictor.load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.predictor import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # torch and Lightning, seconds: only for those who ask
        from engine.predictor import load

        return load
    raise AttributeError(f"module {__name__} has no attribute {name}")
