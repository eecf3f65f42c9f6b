"""Sweeps on a real SLURM: one node on this machine, with a partition whose jobs are preempted by another."""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import CalledProcessError

import pytest
import submitit
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import OmegaConf
from submitit.slurm.slurm import SlurmJob

from engine.clusters import REMEDIES, explained_refusal, prepare_jobs
from engine.settings import CONF
from foundation.errors import ConfigError, RunError
from tests.commands import PYTHON, Forked, forked, within
from tests.conftest import PANELS, TINY, skip

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=1
# Four jobs at a time, however few cores there are.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off
"""

BASELINE = ("-m", "experiment=baseline_lapa_10pct", *TINY, "launcher=submitit_slurm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of one node without GPUs on the loopback address; needs root and Debian's slurm-wlm and munge."""
    if missing := [name for name in DAEMONS if shutil.which(name) is None]:
        skip(f"no SLURM: {', '.join(missing)} not installed")
    if os.geteuid() != 0:
        skip("SLURM's daemons start jobs as their users, which needs root")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    ports = {"controller": free_port(), "node": free_port()}
    text = CONFIGURATION.format(host=socket.gethostname(), folder=folder, **ports)
    (folder / "slurm.conf").write_text(text)
    munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "key-file", "pid-file")]
    munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed", "--force", "--foreground"]
    processes = []
    with pytest.MonkeyPatch.context() as patch, (folder / "daemons.log").open("wb") as log:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            for command in (["munged", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
            _until_idle(folder / "daemons.log")
            yield
            subprocess.run(["scancel", "--user=root"], check=False)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(timeout=30)


def _until_idle(log: Path) -> None:
    end = time.monotonic() + 60
    while "idle" not in subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False).stdout:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def queue(*words: str) -> str:
    """Ids and states of the jobs in the queue."""
    command = ["squeue", "--noheader", "--format=%A %T", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def finetunings(output: Path) -> list[Path]:
    return sorted((output / "runs").glob("finetune-*"))


def steps(run: Path) -> list[int]:
    with (run / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


@pytest.mark.process
@pytest.mark.usefixtures("slurm")
def test_an_array_of_four_jobs_shares_one_pretraining(lapa: Path, tmp_path: Path) -> None:
    """On a partition without GPUs, from a folder other than the code's, with no setting but the launcher.

    Its jobs are forked commands; those of the next test are processes of their own.
    """
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tests.cluster_job "$@"\n')
    python.chmod(0o700)
    words = ("-m", "experiment=mtl_lapa_10pct", *TINY, f"datamodule.root={lapa}", "launcher=submitit_slurm")
    sweep = Forked(
        "train.py", *words, "subset=0,1", "finetune.seed=0,1", cwd=tmp_path, environment={PYTHON: str(python)}
    )
    screen, _ = sweep.communicate(timeout=280)
    assert sweep.returncode == 0, screen
    assert "4 done" in screen
    assert screen.count("has no accounting") == 1
    assert "Bypassing" not in screen
    (pretraining,) = (tmp_path / "outputs" / "runs").glob("pretrain-*")
    assert status(pretraining)["attempts"] == 1
    assert [status(run)["state"] for run in finetunings(tmp_path / "outputs")] == ["done"] * 4
    array = {folder.name for folder in tmp_path.glob("outputs/sweeps/*/.submitit/[0-9]*_*")}
    assert len({name.partition("_")[0] for name in array}) == 1
    assert len(array) == 4


@pytest.mark.process
@pytest.mark.usefixtures("slurm")
def test_a_preempted_job_is_queued_again_and_resumes(lapa: Path, tmp_path: Path) -> None:
    words = (
        *BASELINE,
        *PANELS,
        f"datamodule.root={lapa}",
        "finetune.epochs=40",
        "hydra.launcher.partition=low",
        "subset=0",
    )
    sweep = Forked("train.py", *words, cwd=tmp_path)
    runs: list[Path] = []
    while not (runs and status(runs[0]).get("epoch", 0) >= 2):
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)
        runs = [path.parent for path in tmp_path.glob("outputs/runs/finetune-*/status.json")]
    urgent = ["sbatch", "--partition=high", "--ntasks=8", f"--output={tmp_path}/urgent.log", "--wrap=sleep 1"]
    subprocess.run(urgent, check=True, capture_output=True)
    while "PENDING" not in (row := queue("--partition=low")):
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)
    # SLURM has it wait for two minutes, until its old credential has expired.
    subprocess.run(["scontrol", "update", f"JobId={row.split()[0]}", "StartTime=now"], check=True)
    screen, _ = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, screen
    (run,) = runs
    assert status(run)["state"] == "done"
    assert status(run)["attempts"] == 2
    assert steps(run) == list(range(80)), "every step once"


@pytest.mark.process
@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    ("words", "refusal", "setting"),
    [
        ((), "Invalid generic resource", "trainer=cpu"),
        (("trainer=cpu", "hydra.launcher.partition=gpus"), "partition", "hydra.launcher.partition="),
    ],
)
def test_a_refusal_is_one_message_with_the_error_of_slurm(
    words: tuple[str, ...], refusal: str, setting: str, lapa: Path, tmp_path: Path
) -> None:
    common = (word for word in BASELINE if word != "trainer=cpu")
    words = (*common, f"datamodule.root={lapa}", "subset=0,1", *words)
    code, screen = forked("train.py", *words, cwd=tmp_path, timeout=60)
    assert code == 2, screen
    shown = [line for line in screen.splitlines() if "[HYDRA]" not in line and "accounting" not in line]
    assert any(refusal.lower() in line.lower() for line in shown)
    assert setting in screen
    assert "Traceback" not in screen
    assert len(shown) < 6, "one message"
    assert not (tmp_path / "outputs" / "runs").exists()


@pytest.mark.process
@pytest.mark.usefixtures("slurm")
def test_a_cancelled_job_has_ended_without_accounting_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlurmJob, "watcher", SlurmJob.watcher)
    monkeypatch.setenv("PYTHONPATH", "")
    prepare_jobs(OmegaConf.create({"hydra": {"launcher": {"_target_": "x.SlurmLauncher"}}}))
    executor = submitit.SlurmExecutor(tmp_path)
    executor.update_parameters(additional_parameters={"hold": True})
    job = executor.submit(print)
    assert not job.done(force_check=True)
    assert job.state == "PENDING"
    job.cancel()
    end = time.monotonic() + 30
    while not job.done(force_check=True):
        assert time.monotonic() < end
        time.sleep(0.1)
    monkeypatch.setattr(job, "_results_timeout_s", 0)
    with pytest.raises(submitit.core.utils.UncompletedJobError) as caught:
        job.result()
    explained = explained_refusal(caught.value)
    assert isinstance(explained, RunError)
    assert "ended without a result" in str(explained)


@pytest.mark.parametrize("words", REMEDIES)
def test_every_remedy_names_an_existing_setting(words: str) -> None:
    error = RuntimeError("sbatch failed")
    error.__cause__ = CalledProcessError(1, ["sbatch", "x.sh"], stderr=f"sbatch: error: bad {words}")
    refusal = explained_refusal(error)
    assert isinstance(refusal, ConfigError)
    assert REMEDIES[words] in str(refusal)
    known = (CONF / "launcher" / "submitit_slurm.yaml").read_text()
    for name in re.findall(r"hydra\.launcher\.(\w+)=", REMEDIES[words]):
        assert name in known or name in SlurmQueueConf.__dataclass_fields__


def test_other_errors_are_not_explained() -> None:
    assert explained_refusal(RuntimeError("boom")) is None


def test_without_slurm_the_launchers_that_need_none_are_named(
    lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    finished = within("train.py", *BASELINE, f"datamodule.root={lapa}", "subset=0", cwd=tmp_path)
    assert finished.returncode == 2
    assert "launcher=joblib" in finished.stderr
    assert "accounting" not in finished.stdout
