"""The processes of one command: which of them leads, and what it tells the others.

The leader takes the locks, decides what is trained and keeps the run folders; those that follow train along. They come
about in three ways: Lightning starts the command again (``strategy=ddp``), it spawns functions that never pass here
(``ddp_spawn``), or torchrun starts all of them alike.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from foundation.errors import ConfigError, UserError

if TYPE_CHECKING:
    from torch.distributed import TCPStore

TOLD = "HALFMASK_RUNS"
"""Environment variable, or key of torchrun's store, with the names of the runs that are trained."""


_followers: list[subprocess.Popen] = []
"""Processes that Lightning no longer watches."""


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_leader() -> bool:
    """Whether this process keeps the run folders: of those that train together, the first."""
    return int(os.environ.get("RANK" if by_torchrun() else "LOCAL_RANK", "0")) == 0


def broadcast(names: list[str]) -> None:
    """The leader's word to those that follow: the runs that are trained, in order."""
    os.environ[TOLD] = " ".join(names)  # Lightning's processes inherit it
    if by_torchrun():
        _store().set(_attempt(), os.environ[TOLD])


def broadcast_runs() -> list[str]:
    """What the leader told; waits for it, as the leader may wait for another command's lock."""
    if by_torchrun():
        store = _store()
        while not store.check([_attempt()]):  # to wait within the store would be deaf to signals
            time.sleep(0.2)
        return store.get(_attempt()).decode().split()
    return os.environ[TOLD].split()


def says_peer_is_gone(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    words = ("gloo/", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return not isinstance(error, UserError) and any(word in str(error) for word in words)


def unwatch() -> None:
    """Have Lightning no longer kill this process a few seconds after one that it started has ended."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            _followers.extend(thread._child_processes)  # type: ignore[attr-defined]
            thread._child_processes.clear()  # type: ignore[attr-defined]


def end_followers(spawned: bool) -> None:
    """End the processes that Lightning started: without their leader they would wait for ever."""
    for process in _followers:
        process.kill()
    for child in multiprocessing.active_children() if spawned else []:
        child.kill()
    _followers.clear()


def leave_group() -> None:
    """Leave the group of processes that trained together, as each of them does before the leader goes on alone."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def devices(total: int) -> dict[str, Any]:
    """Lightning's words for a number of devices: all of this machine, or torchrun's share of each of its machines."""
    if not by_torchrun():
        return {"devices": total}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": here, "num_nodes": total // here}


def is_sweep() -> bool:
    """Whether this process runs the jobs of a sweep one after the other (``-m``)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def require_one_group(settings: Any) -> None:
    """Refuse ways to start several processes that would train against one another.

    Raises:
        ConfigError: naming the way that works.
    """
    total = settings["trainer.devices"]
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if by_torchrun() and total != started:
        raise ConfigError(
            f"torchrun started {started} processes, but trainer.devices={total}.\n"
            f"Expected: trainer.devices={started}, the number of all processes together; it enters the runs' ids."
        )
    if by_torchrun() and settings["trainer.strategy"] == "ddp_spawn":
        raise ConfigError("trainer.strategy=ddp_spawn starts processes itself.\nExpected under torchrun: ddp or auto.")
    if (started > 1 or not is_leader()) and not by_torchrun() and TOLD not in os.environ:
        raise ConfigError(
            "WORLD_SIZE or LOCAL_RANK says that this process is one of several, but none of them leads.\n"
            "Do one of: start the command once, with trainer=ddp trainer.devices=2, and it starts the others;\n"
            "torchrun --nproc-per-node 2 train.py ... trainer=ddp trainer.devices=2."
        )
    if is_sweep() and total > 1 and settings["trainer.strategy"] != "ddp_spawn":
        raise ConfigError(
            f"A sweep (-m) cannot train with trainer.devices={total}: each job would start the whole sweep.\n"
            f"Do one of: trainer.strategy=ddp_spawn; run the jobs one by one; sweep with one device each."
        )


def _attempt() -> str:
    """The store's key for this start of the processes: torchrun starts them again after a failure."""
    return f"{TOLD}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _store() -> TCPStore:
    """The store that torchrun keeps for its processes."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))
