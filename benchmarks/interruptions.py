"""Interrupt a complete training command at random times, repeat the command, and compare with an uninterrupted one:
weights bit for bit, metrics.csv byte for byte.

    python -m benchmarks.interruptions [--signal KILL|TERM|INT] [--times 20] [--seed 0] [KEY=VALUE ...]

The times are spread over both stages: one random time in each of equally long intervals. KILL ends a process at
once; after TERM and INT (Ctrl-C) it must exit with code 130, with its run in state interrupted. Further arguments are
settings of the command, such as trainer.devices=2.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from benchmarks import parser
from synthesis.synthetic_faces import write_synthetic_faces

ROOT = Path(__file__).parent.parent
COMMAND = (
    "experiment=mtl_lapa_10pct",
    "scale=demo",
    "trainer=cpu",
    "logger=none",
    "datamodule.image_size=32",
    "datamodule.workers=1",
    "pretrain.epochs=4",
    "pretrain.steps_per_epoch=10",
    "finetune.epochs=4",
    "finetune.steps_per_epoch=10",
)
STAGES = ("pretrain", "finetune")


def start(words: list[str], output: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, str(ROOT / "train.py"), *words, f"output_dir={output}"], stdout=file, stderr=file, cwd=ROOT
        )


def run_folders(output: Path) -> dict[str, Path]:
    """Stage -> its run folder, as far as there are any."""
    return {path.name.partition("-")[0]: path for path in (output / "runs").glob("*-*")}


def statuses(output: Path) -> dict[str, dict[str, Any]]:
    return {
        stage: json.loads((path / "status.json").read_text())
        for stage, path in run_folders(output).items()
        if (path / "status.json").is_file()
    }


def errors(output: Path, uninterrupted: Path) -> list[str]:
    """Differences from the uninterrupted command."""
    found = []
    for stage in STAGES:
        one, other = run_folders(uninterrupted)[stage], run_folders(output)[stage]
        if one.name != other.name:
            found.append(f"{stage}: another id")
        states = [
            torch.load(path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for path in (one, other)
        ]
        if any(not torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1]):
            found.append(f"{stage}: other weights")
        if (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
            found.append(f"{stage}: other metrics.csv")
        with (other / "metrics.csv").open(newline="") as file:
            steps = [int(row["step"]) for row in csv.DictReader(file)]
        if steps != list(range(len(steps))):
            found.append(f"{stage}: metrics.csv lacks steps")
        if statuses(output)[stage]["state"] != "done":
            found.append(f"{stage}: not done")
        if statuses(uninterrupted)[stage]["metrics"] != statuses(output)[stage]["metrics"]:
            found.append(f"{stage}: other scores")
        found += [f"left behind: {path}" for path in other.rglob(".*.tmp")]
        found += [f"left behind: {path}" for path in other.rglob("last.ckpt")]
    for lock in (output / "locks").iterdir():
        with FileLock(lock).acquire(timeout=0):
            pass
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    arguments.add_argument("--times", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0, help="seed of the random times")
    arguments.add_argument("words", nargs="*", metavar="KEY=VALUE", help="further settings of the command")
    choice = arguments.parse_args()
    rng = random.Random(choice.seed)
    number = getattr(signal, f"SIG{choice.signal}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_synthetic_faces(work / "LaPa", layout="lapa", count=60, size=64, seed=0, workers=os.cpu_count() or 1)
        words = [*COMMAND, f"datamodule.root={work / 'LaPa'}", *choice.words]
        begun = time.perf_counter()
        first = None
        process = start(words, work / "uninterrupted", work / "uninterrupted.log")
        while process.poll() is None:
            time.sleep(0.02)
            if first is None and statuses(work / "uninterrupted"):
                first = time.perf_counter() - begun
        last = time.perf_counter() - begun
        if process.returncode or first is None:
            sys.exit((work / "uninterrupted.log").read_text())
        print(f"uninterrupted: {last:.1f} s, the first {first:.1f} s before any training", flush=True)
        for index in range(choice.times):
            output, log = work / f"run{index}", work / f"run{index}.log"
            place = (index + rng.random()) / choice.times
            while True:
                moment = first + place * (last - first)
                process = start(words, output, log)
                begun = time.perf_counter()
                try:
                    code = process.wait(timeout=moment)
                except subprocess.TimeoutExpired:
                    process.send_signal(number)
                    code = process.wait(timeout=120)
                    break
                last = time.perf_counter() - begun  # it was faster this time: repeat with an earlier time
                shutil.rmtree(output)
            seen = statuses(output)
            stage, status = sorted(seen.items(), key=lambda item: STAGES.index(item[0]))[-1] if seen else ("", {})
            where = f"{stage} {status.get('state', 'before any stage')}, {status.get('epoch', 0)} epochs"
            wrong = []
            if choice.signal != "KILL" and status.get("state") != "done":  # or the signal came at its end
                wrong += [] if code == 130 else [f"exit code {code}"]
                wrong += [] if not seen or status["state"] == "interrupted" else [f"state {status['state']}"]
            again = start(words, output, log).wait(timeout=600)
            wrong += [f"the same command again: exit code {again}"] if again else errors(output, work / "uninterrupted")
            failed += bool(wrong)
            print(f"{index + 1:3} {choice.signal} after {moment:5.1f} s: {where}; then ", end="")
            print(
                "the same as uninterrupted" if not wrong else f"WRONG: {'; '.join(wrong)}\n{log.read_text()}",
                flush=True,
            )
    print(f"{choice.times - failed} of {choice.times} the same as uninterrupted")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
