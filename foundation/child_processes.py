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


def end_with_parent() -> None:
    """Called in a process that multiprocessing has started: let it end as soon as its parent has ended.

    Without this, processes that wait for work stay when their parent is killed, with all of their memory. On Linux the
    system kills them; elsewhere, and in processes that a server forks for their parent, a thread waits for its end.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux" and os.getppid() == parent.pid:
        ctypes.CDLL(None, use_errno=True).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent.pid:  # it ended before the call
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)
