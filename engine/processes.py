"""The processes of one command (DDP): which is the leader (rank 0), and what it broadcasts to the others.

The leader takes the locks, decides what is trained and writes the run folders; the followers only train. They are
started in three ways: Lightning starts the command again (``strategy=ddp``), Lightning spawns workers that do not run
this code (``ddp_spawn``), or torchrun starts all of them.
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

RUNS_VARIABLE = "HALFMASK_RUNS"
"""Environment variable, or key of torchrun's store, with the names of the runs to train."""

_followers: list[subprocess.Popen] = []
"""Processes started by Lightning that :func:`unwatch` took over."""


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_leader() -> bool:
    """Whether this process (rank 0) writes the run folders."""
    return int(os.environ.get("RANK" if by_torchrun() else "LOCAL_RANK", "0")) == 0


def broadcast(names: list[str]) -> None:
    """Called by the leader: broadcast the names of the runs to train, in order."""
    os.environ[RUNS_VARIABLE] = " ".join(names)  # Lightning's processes inherit it
    if by_torchrun():
        _store().set(_attempt(), os.environ[RUNS_VARIABLE])


def broadcast_runs() -> list[str]:
    """Called by a follower: wait for the names that the leader broadcasts, which may itself wait for a lock."""
    if by_torchrun():
        store = _store()
        while not store.check([_attempt()]):  # a blocking wait in the store would ignore signals
            time.sleep(0.2)
        return store.get(_attempt()).decode().split()
    return os.environ[RUNS_VARIABLE].split()


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error only reports that the connection to another process is lost."""
    words = ("gloo/", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return not isinstance(error, UserError) and any(word in str(error) for word in words)


def unwatch() -> None:
    """Stop Lightning from killing this process a few seconds after one that it started has ended."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            _followers.extend(thread._child_processes)  # type: ignore[attr-defined]
            thread._child_processes.clear()  # type: ignore[attr-defined]


def end_followers(spawned: bool) -> None:
    """Kill the processes that Lightning started: without the leader they would wait forever."""
    for process in _followers:
        process.kill()
    for child in multiprocessing.active_children() if spawned else []:
        child.kill()
    _followers.clear()


def leave_group() -> None:
    """Leave the process group of the training, before the leader continues in one process."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def devices(total: int) -> dict[str, Any]:
    """Lightning's arguments for a number of devices: on this machine, or split over the nodes of torchrun."""
    if not by_torchrun():
        return {"devices": total}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": here, "num_nodes": total // here}


def is_sweep() -> bool:
    """Whether this process runs jobs of a sweep (``-m``)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def require_one_group(settings: Any) -> None:
    """Refuse ways of starting several processes that do not form one process group.

    Raises:
        ConfigError: with the way that works.
    """
    total = settings["trainer.devices"]
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if by_torchrun() and total != started:
        raise ConfigError(
            f"torchrun started {started} processes, but trainer.devices={total}.\n"
            f"It must be trainer.devices={started}, the total number of processes; it enters the runs' ids."
        )
    if by_torchrun() and settings["trainer.strategy"] == "ddp_spawn":
        raise ConfigError("trainer.strategy=ddp_spawn starts processes itself.\nUnder torchrun it must be ddp or auto.")
    if (started > 1 or not is_leader()) and not by_torchrun() and RUNS_VARIABLE not in os.environ:
        raise ConfigError(
            "WORLD_SIZE or LOCAL_RANK marks this process as one of several, but there is no leader.\n"
            "Do one of: start the command once, with trainer=ddp trainer.devices=2, and it starts the others;\n"
            "torchrun --nproc-per-node 2 train.py ... trainer=ddp trainer.devices=2."
        )
    if is_sweep() and total > 1 and settings["trainer.strategy"] != "ddp_spawn":
        raise ConfigError(
            f"A sweep (-m) does not go with trainer.devices={total}: each job would start the complete sweep again.\n"
            f"Do one of: trainer.strategy=ddp_spawn; run the jobs one by one; sweep with one device each."
        )


def _attempt() -> str:
    """The store's key for this attempt: torchrun restarts the processes after a failure."""
    return f"{RUNS_VARIABLE}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _store() -> TCPStore:
    """The key-value store that torchrun provides for its processes."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))
