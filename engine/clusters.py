"""Sweeps whose jobs are processes of their own, above all on a SLURM cluster: what submitit needs to be told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from foundation.errors import ConfigError, RunError, UserError

ANSWERS = {
    "generic resource": "trainer=cpu asks for no GPU; hydra.launcher.partition=<name> names a partition that has some; "
    "hydra.launcher.gpus_per_node=<n> says how many.",
    "partition": "hydra.launcher.partition=<name>; `sinfo -s` lists them.",
    "account": "hydra.launcher.account=<name>, with a partition that it may use (hydra.launcher.partition=<name>).",
    "qos": "hydra.launcher.qos=<name>.",
    "time limit": "hydra.launcher.timeout_min=<minutes>; `sinfo` shows each partition's limit.",
    "feature": "hydra.launcher.constraint=<feature>, or none.",
    "array": "hydra.launcher.array_parallelism=<n>, or fewer jobs in a sweep.",
    "node configuration": "hydra.launcher.cpus_per_task=<n>, hydra.launcher.mem_gb=<n> or "
    "hydra.launcher.gpus_per_node=<n>: no node has as much; `sinfo -o '%P %c %m %G'` shows what they have.",
    "memory": "hydra.launcher.mem_gb=<n>.",
    "cpu count": "hydra.launcher.cpus_per_task=<n>: no node has as many; `sinfo -o '%P %c'` shows them.",
    "controller": "wait until the cluster's controller answers; `sinfo` asks it.",
}
"""Words in a refusal of sbatch, and the settings that answer it; the first that fits counts."""


def _if_gpu(accelerator: str, with_gpu: Any, without: Any) -> Any:
    """One of two values; ``auto`` counts as a GPU, for the machine that submits need not have what its jobs run on."""
    return without if accelerator == "cpu" else with_gpu


OmegaConf.register_new_resolver("if_gpu", _if_gpu, replace=True)


def prepare_jobs(config: DictConfig) -> None:
    """Before a sweep starts: let the jobs of submitit's launchers find this code, and be watched without accounting.

    Args:
        config: the composed configuration, ``hydra`` included.
    """
    launcher = config.hydra.launcher._target_.rpartition(".")[2]
    if launcher not in ("SlurmLauncher", "LocalLauncher"):
        return
    paths = (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    if launcher == "SlurmLauncher" and shutil.which("srun") and not _keeps_accounting():
        _watch_the_queue()


def _keeps_accounting() -> bool:
    try:
        subprocess.run(["sacct", "--noheader", "--allocations"], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _watch_the_queue() -> None:
    """Let submitit ask squeue for its jobs' states: it knows only sacct, and would warn at each of its polls."""
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob  # slow, and not needed without a cluster

    class QueueWatcher(SlurmInfoWatcher):
        """Jobs that have left the queue have ended; whether well, their result files tell."""

        def _make_command(self) -> list[str] | None:
            return ["squeue", "--me", "--array", "--noheader", "--format=%i|%T"] if self._registered else None

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            lines = (string if isinstance(string, str) else string.decode()).split()
            queued = dict(line.split("|") for line in lines)
            return {job: {"JobID": job, "State": queued.get(job, "ENDED")} for job in self._registered}

    print("This cluster keeps no accounting (sacct fails): jobs are watched by squeue.", flush=True)
    SlurmJob.watcher = QueueWatcher(delay_s=30)


def explained_refusal(error: BaseException) -> UserError | None:
    """What a user can do about jobs that SLURM refused or lost; None if the error is another one.

    What sbatch said is on the screen already: submitit prints it.
    """
    if 'Could not detect "srun"' in str(error):
        return ConfigError(
            "launcher=submitit_slurm needs a SLURM cluster, but there is no srun on this machine.\n"
            "Do one of: run the command on a login node of the cluster; launcher=joblib or launcher=submitit_local, "
            "which run the jobs on this machine."
        )
    cause = error.__cause__
    if isinstance(cause, subprocess.CalledProcessError) and cause.cmd[0] == "sbatch":
        said = str(cause.stderr).lower()
        fitting = (answer for words, answer in ANSWERS.items() if words in said)
        answer = next(fitting, "other settings of hydra.launcher; --cfg hydra --package hydra.launcher shows them.")
        return ConfigError(
            f"SLURM refused the sweep's jobs, as sbatch says above. None was started.\nExpected: {answer}"
        )
    if type(error).__name__ in ("UncompletedJobError", "FailedJobError"):
        first, *_, last = [line for line in str(error).splitlines() if line.strip()] * 2
        return RunError(
            f"A job of the sweep ended without a result, as one that is cancelled or runs out of memory:\n"
            f"{first.strip()} {last.strip()}\n"
            f"Its log lies in the sweep's folder, under .submitit. The same command trains what is missing."
        )
    return None
