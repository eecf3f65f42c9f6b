"""Failures of a running command: signals, a full disk, a killed worker, broken data."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from PIL import Image

from foundation.errors import ConfigError, RunError, UserError, explained
from tests.commands import Forked, within
from tests.conftest import TINY, skip

WORDS = ("experiment=baseline_lapa_10pct", *TINY, "finetune.epochs=3")


def start(root: Path, output: Path, *words: str) -> Forked:
    return Forked("train.py", *WORDS, f"datamodule.root={root}", f"output_dir={output}", *words, cwd=output.parent)


def run(root: Path, output: Path, *words: str) -> tuple[int | None, str]:
    """Exit code and everything on the screen."""
    process = start(root, output, *words)
    screen, _ = process.communicate(timeout=120)
    return process.returncode, screen


def status(output: Path) -> dict[str, Any]:
    files = list((output / "runs").glob("*/status.json"))
    return json.loads(files[0].read_text()) if files else {}


def wait_for(condition: Callable[[], object], process: Forked) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


def result(output: Path) -> tuple[dict[str, torch.Tensor], bytes, dict[str, float]]:
    (folder,) = (output / "runs").iterdir()
    state = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return state, (folder / "metrics.csv").read_bytes(), status(output)["metrics"]


def assert_same(output: Path, uninterrupted: Path) -> None:
    (weights, curves, metrics), (expected, expected_curves, expected_metrics) = result(output), result(uninterrupted)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert curves == expected_curves
    assert metrics == expected_metrics
    assert not list(output.rglob(".*.tmp"))
    assert not list(output.rglob("last.ckpt"))


@pytest.fixture(scope="module")
def uninterrupted(lapa: Path, shared: Path) -> Path:
    """The outputs of an uninterrupted command. Read only."""
    output = shared / "uninterrupted"
    code, screen = run(lapa, output)
    assert code == 0, screen
    return output


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])  # SIGTERM: test_processes.py
def test_resume_after_a_signal(number: signal.Signals, lapa: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """After one epoch, with loader workers that survive a killed process for a while."""
    output = tmp_path / "outputs"
    process = start(lapa, output, "datamodule.workers=1")
    wait_for(lambda: list(output.rglob("last.ckpt")), process)
    process.send_signal(number)
    screen, _ = process.communicate(timeout=60)
    if number is signal.SIGKILL:
        assert status(output)["state"] == "running"
    else:
        assert process.returncode == 130, screen
        assert "The same command resumes" in screen
        assert "Traceback" not in screen
        assert status(output)["state"] == "interrupted"
    code, screen = run(lapa, output, "datamodule.workers=1")
    assert code == 0, screen
    assert "Resuming" in screen
    assert_same(output, uninterrupted)
    assert status(output)["attempts"] == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of 100 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
    mounted = subprocess.run(words, check=False, capture_output=True)
    if mounted.returncode:
        skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


@pytest.mark.process
def test_resume_after_a_full_disk(lapa: Path, uninterrupted: Path, small_disk: Path) -> None:
    output = small_disk / "outputs"
    process = start(lapa, output)
    wait_for(lambda: list(output.rglob("last.ckpt")), process)
    process.send_signal(signal.SIGSTOP)
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(small_disk)
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 2**20)
    process.send_signal(signal.SIGCONT)
    screen, _ = process.communicate(timeout=120)
    assert process.returncode == 1, screen
    assert "The disk is full" in screen
    assert "Traceback" not in screen
    assert "disk is full" in status(output)["error"]
    assert status(output)["state"] == "failed"
    (last,) = output.rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["epoch"] >= 0, "the last good checkpoint is complete"
    assert not list(output.rglob(".*.tmp")), "nothing half written takes up room"
    filler.unlink()
    code, screen = run(lapa, output)
    assert code == 0, screen
    assert "Resuming" in screen
    assert_same(output, uninterrupted)


@pytest.mark.process
def test_resume_after_a_killed_worker(lapa: Path, tmp_path: Path) -> None:
    output = tmp_path / "outputs"
    process = start(lapa, output, "datamodule.workers=1", "finetune.epochs=200")
    wait_for(lambda: list(output.rglob("last.ckpt")), process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.is_file():
        process.kill()
        skip("no list of child processes here")
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)
    screen, _ = process.communicate(timeout=120)
    assert process.returncode == 1, screen
    assert "DataLoader worker" in screen
    assert "datamodule.workers" in screen
    assert "Traceback" not in screen
    assert status(output)["state"] == "failed"
    trained = status(output)["epoch"]
    again = start(lapa, output, "datamodule.workers=1", "finetune.epochs=200")
    wait_for(lambda: status(output)["epoch"] > trained, again)
    again.terminate()
    screen, _ = again.communicate(timeout=120)
    assert "Resuming" in screen
    assert status(output)["state"] == "interrupted"


def truncated(root: Path) -> Path:
    victim = sorted((root / "train" / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:500])
    return victim


def of_another_size(root: Path) -> Path:
    victim = sorted((root / "train" / "labels").iterdir())[0]
    with Image.open(victim) as file:
        file.crop((0, 0, 60, 64)).save(victim)
    return victim


def with_id_11(root: Path) -> Path:
    victim = sorted((root / "train" / "labels").iterdir())[0]
    with Image.open(victim) as file:
        file.putpixel((3, 3), 11)
        file.save(victim)
    return victim


def without_label(root: Path) -> Path:
    victim = sorted((root / "train" / "labels").iterdir())[0]
    victim.unlink()
    return victim


def empty_split(root: Path) -> Path:
    shutil.rmtree(root / "val" / "images")
    (root / "val" / "images").mkdir()
    return root / "val" / "images"


@pytest.mark.training
@pytest.mark.parametrize(
    ("damage", "expected", "code", "cache"),
    [
        (truncated, "Cannot read the image", 1, "none"),
        (truncated, "Cannot read the image", 1, "disk"),
        (of_another_size, "60x64 pixels, its image 64x64", 1, "none"),
        (with_id_11, "holds class id 11", 1, "ram"),
        (without_label, "have no label map", 2, "none"),
        (empty_split, "is empty", 2, "none"),
    ],
)
def test_bad_data_is_one_message_with_the_files_name(
    damage: Callable[[Path], Path],
    expected: str,
    code: int,
    cache: str,
    lapa: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    victim = damage(copy)
    words = ("label_fraction=1", "finetune.steps_per_epoch=null", f"datamodule.cache={cache}", "datamodule.workers=1")
    where = (f"datamodule.root={copy}", f"output_dir={tmp_path / 'outputs'}")
    ended = within("train.py", *WORDS, *where, *words, cwd=tmp_path)
    screen = "".join((ended.stdout, ended.stderr, *capfd.readouterr()))
    assert ended.returncode == code, screen
    assert victim.name in screen
    assert expected in screen
    assert "Traceback" not in screen
    message = screen.partition("Training finetune-")[2] or screen
    assert len(message.strip().splitlines()) < 12, "one message"
    assert status(tmp_path / "outputs").get("state", "none") == ("failed" if code == 1 else "none")
    if code == 1:
        assert victim.name in status(tmp_path / "outputs")["error"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "best.ckpt"), "The disk is full at best.ckpt"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "datamodule.workers"),
        (RuntimeError("\n\n-- Process 1 ...\nRuntimeError: DataLoader worker (pid 7) is killed by signal"), "pid 7"),
        (RuntimeError("could not unlink </torch_12>: No space left on device"), "shm-size"),
        (RuntimeError("unable to allocate shared memory(shm) for /dev/shm/x: No space left"), "datamodule.workers=0"),
        (MemoryError("Unable to allocate 3 TiB"), "Memory ran out: Unable"),
        (
            cv2.error(
                "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 3 bytes in function "
                "'OutOfMemoryError'"
            ),
            "smaller images",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "batch_size"),
    ],
)
def test_errors_of_the_machine_are_explained(error: BaseException, words: str) -> None:
    reason = explained(error)
    assert isinstance(reason, RunError)
    assert words in str(reason)


def test_a_user_error_of_another_process_stays_a_user_error() -> None:
    wrapped = "Traceback:\n  File x\nfoundation.errors.BrokenFileError: Cannot read a.jpg: truncated.\nReplace it.\n"
    reason = explained(RuntimeError(wrapped))
    assert isinstance(reason, UserError)
    assert reason.exit_code == 1
    assert str(reason) == "Cannot read a.jpg: truncated.\nReplace it."


def test_a_missing_optional_package_is_a_config_error() -> None:
    reason = explained(ImportError("model=x wants the package x.\nDo: pip install 'x'."))
    assert isinstance(reason, ConfigError)
    assert "pip install" in str(reason)


def test_other_errors_are_unchanged() -> None:
    for text in ("a bug: foundation.errors.Nothing: like it", "out of resource: shared memory, Required: 131072"):
        error = ValueError(text)
        assert explained(error) is error


@pytest.mark.process
def test_curves_of_an_interrupted_run_have_one_row_for_each_step(uninterrupted: Path) -> None:
    (curves,) = uninterrupted.glob("runs/*/metrics.csv")
    with curves.open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(6))
