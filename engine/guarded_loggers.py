"""Loggers whose errors cost no run: what they raise becomes a warning, once."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from pytorch_lightning.loggers import Logger

from foundation.shown_text import printable

CALLED = ("save", "finalize", "after_save_checkpoint", "watch")
"""Methods by which Lightning and callbacks write to a logger, next to those whose names begin with ``log``."""
FAILED = "_has_failed"


def guarded(logger: Logger, owner: Any = None) -> Logger:
    """The same logger; after its first error it logs nothing more, and the run continues with ``metrics.csv``.

    Args:
        logger: the logger.
        owner: what it writes to, if others write to it too: the first error of any of them counts for all.
    """
    names = [name for name in dir(type(logger)) if name in CALLED or name.startswith("log")]
    for name in names:
        if callable(getattr(type(logger), name)):
            setattr(logger, name, functools.partial(_call, logger, logger if owner is None else owner, name))
    return logger


def _call(logger: Logger, owner: Any, name: str, *values: Any, **named: Any) -> Any:
    method = getattr(type(logger), name)
    return attempted(owner, type(logger).__name__, lambda: method(logger, *values, **named))


def attempted(owner: Any, title: str, action: Callable[[], Any]) -> Any:
    """What an action of a logger or W&B run returns; None if it fails, or if an earlier one of the same owner has."""
    if has_failed(owner):
        return None
    try:
        return action()
    except Exception as error:
        owner.__dict__[FAILED] = True
        warn(title, error)
        return None


def has_failed(owner: Any) -> bool:
    """Whether an action of an owner has failed, see :func:`attempted`."""
    return bool(getattr(owner, "__dict__", {}).get(FAILED))


def warn(title: str, error: Exception) -> None:
    """The warning about a logger that has failed."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    message = f"{title} has failed and logs nothing more ({printable(reason)}); metrics.csv is complete."
    warnings.warn(message, stacklevel=3)
