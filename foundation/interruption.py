"""SIGTERM and Ctrl-C: a command ends at the next safe place, and no interruption is lost.

Python runs a signal's handler between any two instructions, also in a callback of its garbage collector or in a
destructor, where an exception is printed and dropped. So the handlers record the signal, and :func:`check` raises
KeyboardInterrupt where the work can stop: after a batch, between two stages, in every long loop.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
GRACE = 3.0
"""Seconds from SIGTERM to the interruption of what waits or computes in one piece, without a :func:`check`."""
_state = {"requested": False}


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handle SIGTERM (a cluster preempts the job) and Ctrl-C of a command, which is run in the main thread."""
    _state["requested"] = False
    signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, _on_ctrl_c)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _on_alarm)
    try:
        yield
    finally:
        settle()
        _state["requested"] = False


def requested() -> bool:
    """Whether this process was asked to end."""
    return _state["requested"]


def check() -> None:
    """Raise KeyboardInterrupt if this process was asked to end; in its main thread alone."""
    if _state["requested"] and threading.current_thread() is threading.main_thread():
        settle()
        raise KeyboardInterrupt


def settle() -> None:
    """Interrupt nothing more by time: the process is ending, and writes what remains to be written."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)


def checked(items: Iterable[T]) -> Iterator[T]:
    """The items, with a :func:`check` before each."""
    for item in items:
        check()
        yield item


def _on_sigterm(*_: object) -> None:
    if _state["requested"]:  # a second signal does not wait
        raise KeyboardInterrupt
    _state["requested"] = True
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, GRACE)


def _on_alarm(*_: object) -> None:
    if _state["requested"]:
        raise KeyboardInterrupt


def _on_ctrl_c(*_: object) -> None:
    _state["requested"] = True
    raise KeyboardInterrupt
