"""Sweeps on a SLURM cluster through submitit: environment of the jobs, job states, messages about refused jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from foundation.errors import ConfigError, RunError, UserError

REMEDIES = {
    "generic resource": "trainer=cpu (asks for no GPU), hydra.launcher.partition=<name> (a partition with GPUs) or "
    "hydra.launcher.gpus_per_node=<n>.",
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
    "controller": "nothing, but wait until the cluster's controller responds; `sinfo` shows whether it does.",
}
"""Words in an error of sbatch -> settings that fix it; the first match counts."""


# ``auto`` counts as a GPU: the login node need not have the GPU that its jobs get.
OmegaConf.register_new_resolver(
    "if_gpu", lambda accelerator, with_gpu, without: without if accelerator == "cpu" else with_gpu, replace=True
)


def prepare_jobs(config: DictConfig) -> None:
    """Prepare a sweep of submitit: PYTHONPATH for its jobs, and job states on clusters without accounting."""
    launcher = config.hydra.launcher._target_.rpartition(".")[2]
    if launcher not in ("SlurmLauncher", "LocalLauncher"):
        return
    paths = (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    if launcher == "SlurmLauncher" and shutil.which("srun") and not _has_accounting():
        _use_queue_watcher()


def _has_accounting() -> bool:
    try:
        subprocess.run(["sacct", "--noheader", "--allocations"], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _use_queue_watcher() -> None:
    """Let submitit read job states from squeue: by default it calls sacct, and warns at each poll if that fails."""
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob  # slow to import, needed on a cluster only

    class QueueWatcher(SlurmInfoWatcher):
        """A job that has left the queue has ended; its result file records whether it succeeded."""

        def _make_command(self) -> list[str] | None:
            return ["squeue", "--me", "--array", "--noheader", "--format=%i|%T"] if self._registered else None

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            lines = (string if isinstance(string, str) else string.decode()).split()
            queued = dict(line.split("|") for line in lines)
            return {job: {"JobID": job, "State": queued.get(job, "ENDED")} for job in self._registered}

    print("This cluster has no accounting (sacct fails): job states come from squeue.", flush=True)
    SlurmJob.watcher = QueueWatcher(delay_s=30)


def explained_refusal(error: BaseException) -> UserError | None:
    """The message about jobs that SLURM refused or lost, with the settings that fix it; None for any other error.

    Submitit has already printed the error of sbatch.
    """
    if 'Could not detect "srun"' in str(error):
        return ConfigError(
            "launcher=submitit_slurm needs a SLURM cluster, but this machine has no srun.\n"
            "Do one of: run the command on a login node of the cluster; launcher=joblib or launcher=submitit_local, "
            "which run the jobs on this machine."
        )
    cause = error.__cause__
    if isinstance(cause, subprocess.CalledProcessError) and cause.cmd[0] == "sbatch":
        message = str(cause.stderr).lower()
        matches = (remedy for words, remedy in REMEDIES.items() if words in message)
        remedy = next(matches, "other settings of hydra.launcher; --cfg hydra --package hydra.launcher shows them.")
        return ConfigError(
            f"SLURM refused the sweep's jobs (see the error of sbatch above); none was started.\nSet {remedy}"
        )
    if type(error).__name__ in ("UncompletedJobError", "FailedJobError"):
        first, *_, last = [line for line in str(error).splitlines() if line.strip()] * 2
        return RunError(
            f"A job of the sweep ended without a result; it may have been cancelled or run out of memory:\n"
            f"{first.strip()} {last.strip()}\n"
            f"Its log is in the sweep's folder, under .submitit. The same command trains what is missing."
        )
    return None
