"""Processes that a command starts end with it, also if it is killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from typing import Any

SET_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux."""


def end_with_parent(*_: object) -> None:
    """Called in a process that multiprocessing has started: let the system kill it as soon as its parent has ended.

    Without this, processes that wait for work stay when their parent is killed, with all of their memory. Elsewhere
    than on Linux, a thread waits for that end.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform != "linux":
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
        return
    ctypes.CDLL(None, use_errno=True).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)
