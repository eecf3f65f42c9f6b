"""Interrupt a complete command at random times, repeat it, and compare with an uninterrupted one: weights and scores
bit for bit, metrics.csv byte for byte.

    python -m benchmarks.interruptions [--command NAME] [--signal KILL|TERM|INT] [--times 20] [--seed 0] [KEY=VALUE ...]

The commands: ``mtl`` (pre-training and fine-tuning), ``segment`` (an occlusion segmenter), ``hybrid`` (pre-training and
SVM heads), ``semi`` (self-training with synthetic faces among the labelled) and ``evaluate`` (of a parser). The runs
are found in the output folder, so a further stage needs its command alone. The times are spread over the command: one
random time in each of equally long intervals, from the first run on. KILL ends a process at once; after TERM and INT
(Ctrl-C) it must exit with code 130, with its run in state interrupted. After the command is repeated nothing may be
left: no draft, no lock, no process. Further arguments are settings of the command, such as trainer.devices=2.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from benchmarks import parser
from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
from synthesis.masks.choices import MaskChoices
from synthesis.synthetic_faces import write_synthetic_faces

ROOT = Path(__file__).parent.parent
SMALL = ("scale=demo", "trainer=cpu", "logger=none", "datamodule.image_size=32", "datamodule.workers=1")
PARSER = (*("pretrain.epochs=4", "pretrain.steps_per_epoch=10", "finetune.epochs=4", "finetune.steps_per_epoch=10"),)
SEMI = ("semi.epochs=4", "semi.steps_per_epoch=10", "semi.batch_size=4", "semi.unlabelled_batch_size=4")
SEGMENTER = ("segment.epochs=8", "segment.steps_per_epoch=10", "segment.batch_size=4", "segment.width=8")
COMMANDS = {
    "mtl": ("train.py", "experiment=mtl_lapa_10pct", *SMALL, *PARSER, "datamodule.root={lapa}"),
    "segment": ("train.py", "experiment=occlusion_celeba", *SMALL, *SEGMENTER, "datamodule.root={masked}"),
    "hybrid": ("train.py", "experiment=svm_lapa", "label_fraction=0.1", *SMALL, *PARSER, "datamodule.root={lapa}"),
    "semi": (
        *("train.py", "experiment=semi_lapa_10pct", *SMALL, *SEMI, "datamodule.root={lapa}"),
        *("semi.synthetic.root={lapa}", "semi.synthetic.share=0.25"),
    ),
    "evaluate": (
        *("evaluate.py", "dataset=lapa", "root={lapa}", "trainer.accelerator=cpu", "workers=1"),
        *("checkpoint={trained}", "split=all"),
    ),
}
"""Entry point and settings of each command; ``{trained}`` is the checkpoint of a parser trained before."""
LEFT_BEHIND = 15.0
"""Seconds after which processes of a killed command must have ended."""


@dataclass(frozen=True)
class Command:
    """A command that is started with different output folders."""

    script: str
    words: tuple[str, ...]

    def start(self, output: Path, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, str(ROOT / self.script), *self.words, f"output_dir={output}"],
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )


def run_folders(output: Path) -> dict[str, Path]:
    """The run folders by name."""
    return {path.name: path for path in sorted((output / "runs").glob("*-*"))}


def statuses(output: Path) -> dict[str, dict[str, Any]]:
    """Statuses by the names of run folders, the newest last."""
    files = [path / "status.json" for path in run_folders(output).values() if (path / "status.json").is_file()]
    files.sort(key=lambda file: file.stat().st_mtime_ns)
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def processes_of(log: Path) -> list[int]:
    """Processes that write to a log: a command, and all that it has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(link.readlink() == log for link in (folder / "fd").iterdir()):
                found.append(int(folder.name))
    return found


def errors(output: Path, uninterrupted: Path) -> Iterator[str]:
    """Differences from the uninterrupted command, and what is left behind."""
    expected, found = run_folders(uninterrupted), run_folders(output)
    if expected.keys() != found.keys():
        yield f"other runs: {', '.join(found)}"
        return
    recorded, own = statuses(uninterrupted), statuses(output)
    for name, one in expected.items():
        other = found[name]
        if own.get(name, {}).get("state") != "done":
            yield f"{name}: not done"
            continue
        yield from (f"{name}: other {what}" for what in _different(one, other))
        if recorded[name]["metrics"] != own[name]["metrics"]:
            yield f"{name}: other scores"
        yield from (f"left behind: {path}" for path in [*other.rglob(".*.tmp"), *other.rglob("last.ckpt")])
    for lock in (output / "locks").iterdir():
        with FileLock(lock).acquire(timeout=0):
            pass


def _different(one: Path, other: Path) -> Iterator[str]:
    best = "checkpoints/best.ckpt"
    if (one / best).is_file():
        states = [torch.load(path / best, weights_only=True)["state_dict"] for path in (one, other)]
        if any(not torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1]):
            yield "weights"
    for file in sorted(path.relative_to(one) for path in one.rglob("*.csv")):
        if not (other / file).is_file() or (one / file).read_bytes() != (other / file).read_bytes():
            yield str(file)
    if (curves := other / "metrics.csv").is_file():
        with curves.open(newline="") as opened:
            steps = [int(row["step"]) for row in csv.DictReader(opened)]
        if steps != list(range(len(steps))):
            yield "steps in metrics.csv: one row each"


def _command(name: str, work: Path, words: list[str]) -> Command:
    """The command, with the data and the runs that it needs."""
    lapa, masked = work / "LaPa", work / "AugmentedCelebA"
    write_synthetic_faces(lapa, layout="lapa", count=60, size=64, seed=0, workers=os.cpu_count() or 1)
    trained = ""
    if name == "segment":
        write_masked_faces(
            masked, MaskedFacesConfig(lapa, count=60, seed=0, choices=MaskChoices()), workers=os.cpu_count() or 1
        )
    if name == "evaluate":
        command = Command("train.py", _filled("mtl", lapa, masked, ""))
        if command.start(work / "trained", work / "trained.log").wait():
            sys.exit((work / "trained.log").read_text())
        (trained,) = map(str, (work / "trained" / "runs").glob("finetune-*/checkpoints/best.ckpt"))
    return Command(COMMANDS[name][0], (*_filled(name, lapa, masked, trained), *words))


def _filled(name: str, lapa: Path, masked: Path, trained: str) -> tuple[str, ...]:
    return tuple(word.format(lapa=lapa, masked=masked, trained=trained) for word in COMMANDS[name][1:])


def _uninterrupted(command: Command, output: Path, log: Path) -> tuple[float, float]:
    """Run the command; returns the seconds until its first run has begun, and all its seconds."""
    begun, first = time.perf_counter(), None
    process = command.start(output, log)
    while process.poll() is None:
        time.sleep(0.02)
        if first is None and statuses(output):
            first = time.perf_counter() - begun
    last = time.perf_counter() - begun
    if process.returncode or first is None:
        sys.exit(log.read_text())
    return first, last


def _interrupted(command: Command, output: Path, log: Path, moment: float, number: int) -> int | None:
    """Start the command and interrupt it; returns its exit code, None if it ended before the moment."""
    process = command.start(output, log)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return process.wait(timeout=120)
    return None


def _judged(
    command: Command, output: Path, uninterrupted: Path, code: int, name: str, log: Path
) -> tuple[str, list[str]]:
    """Where the command was interrupted, and what is wrong then and after it is repeated."""
    wrong: list[str] = []
    end = time.monotonic() + LEFT_BEHIND
    while (left := processes_of(log)) and time.monotonic() < end:
        time.sleep(0.1)
    wrong += [f"{len(left)} processes left"] if left else []
    run, status = [("", {}), *statuses(output).items()][-1]
    where = f"{run.partition('-')[0]} {status.get('state', 'before any run')}, {status.get('epoch', 0)} epochs"
    if name != "KILL" and code != 130:
        wrong.append(f"exit code {code}")
    if name != "KILL" and status.get("state", "interrupted") not in ("interrupted", "done"):
        wrong.append(f"state {status['state']}")
    again = command.start(output, log).wait(timeout=600)
    wrong += [f"the same command again: exit code {again}"] if again else errors(output, uninterrupted)
    return where, wrong


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--command", choices=COMMANDS, default="mtl")
    arguments.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    arguments.add_argument("--times", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0, help="seed of the random times")
    arguments.add_argument("words", nargs="*", metavar="KEY=VALUE", help="further settings of the command")
    choice = arguments.parse_args()
    rng = random.Random(choice.seed)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        command = _command(choice.command, work, choice.words)
        first, last = _uninterrupted(command, work / "uninterrupted", work / "uninterrupted.log")
        print(f"uninterrupted: {last:.1f} s, the first {first:.1f} s before any run", flush=True)
        for index in range(choice.times):
            output, log = work / f"run{index}", work / f"run{index}.log"
            place, code = (index + rng.random()) / choice.times, None
            while code is None:
                moment = first + place * (last - first)
                begun = time.perf_counter()
                code = _interrupted(command, output, log, moment, getattr(signal, f"SIG{choice.signal}"))
                if code is None:  # it was faster this time: repeat with an earlier time
                    taken = time.perf_counter() - begun
                    first, last = first * taken / last, taken
                    shutil.rmtree(output)
            where, wrong = _judged(command, output, work / "uninterrupted", code, choice.signal, log)
            failed += bool(wrong)
            result = f"WRONG: {'; '.join(wrong)}\n{log.read_text()}" if wrong else "the same as uninterrupted"
            print(f"{index + 1:3} {choice.signal} after {moment:5.1f} s: {where}; then {result}", flush=True)
    print(f"{choice.command}: {choice.times - failed} of {choice.times} the same as uninterrupted")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
