"""Kill predict.py and export.py at random moments, repeat the command, and compare all files with those of an
uninterrupted one, byte for byte (of an export's report all but the latencies).

    python -m benchmarks.interrupted_predictions [--checkpoint RUN --root DATA] [--times 20] [--seed 0]
                                                 [--commands folder video export]

The moments are spread over the time from the command's first file to its end: one random moment in each of equally long
intervals. Without a checkpoint, a small parser is trained on synthetic faces first.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from synthesis.faces import render_random_face
from synthesis.synthetic_faces import write_synthetic_faces

ROOT = Path(__file__).parent.parent
TRAINING = (
    *("experiment=mtl_lapa_10pct", "scale=demo", "trainer=cpu", "logger=none", "datamodule.image_size=32"),
    *("datamodule.workers=1", "pretrain.epochs=1", "pretrain.steps_per_epoch=10"),
    *("finetune.epochs=1", "finetune.steps_per_epoch=10"),
)
COMMANDS = ("folder", "video", "export")
FILES = 48


def make_inputs(work: Path) -> None:
    """A folder of images and a video of synthetic faces."""
    (work / "photos").mkdir()
    writer = cv2.VideoWriter(str(work / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 320))
    for place in range(FILES):
        face = render_random_face(np.random.default_rng((5, place)), 320).image
        Image.fromarray(face).save(work / "photos" / f"{place:03d}.jpg")
        writer.write(np.ascontiguousarray(face[..., ::-1]))
    writer.release()


def train_parser(work: Path) -> tuple[Path, Path]:
    """A small parser's run folder, and its data set."""
    write_synthetic_faces(work / "LaPa", layout="lapa", count=60, size=64, seed=0, workers=1)
    words = [str(ROOT / "train.py"), *TRAINING, f"datamodule.root={work / 'LaPa'}", f"output_dir={work / 'outputs'}"]
    if launch(words, work / "train.log").wait():
        sys.exit((work / "train.log").read_text())
    (run,) = (work / "outputs" / "runs").glob("finetune-*")
    return run, work / "LaPa"


def command(kind: str, work: Path, checkpoint: Path, root: Path, out: Path) -> list[str]:
    """The words of a command that writes into ``out``."""
    common = [f"checkpoint={checkpoint}", "trainer.accelerator=cpu"]
    if kind == "export":
        place = [f"out={out / 'network.onnx'}", f"root={root}", f"output_dir={out.parent / 'outputs'}"]
        return [str(ROOT / "export.py"), *common, *place, "rounds=2", "workers=0", "faces=4"]
    given = work / ("photos" if kind == "folder" else "clip.mp4")
    return [str(ROOT / "predict.py"), *common, f"input={given}", f"out={out}"]


def launch(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, *words], stdout=file, stderr=file, cwd=ROOT)  # noqa: S603


def contents(out: Path) -> dict[str, bytes]:
    """Every file below a folder, dotfiles too; of an export's report all but what is measured each time."""
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for name in found:
        if name.endswith(".onnx.json"):
            found[name] = json.dumps(json.loads(found[name]) | {"latency": None}).encode()
    return found


def timed(words: list[str], out: Path, log: Path) -> tuple[float, float]:
    """Seconds to the first file of an uninterrupted command, and to its end."""
    began, first = time.perf_counter(), None
    process = launch(words, log)
    while process.poll() is None:
        time.sleep(0.02)
        if first is None and out.is_dir() and any(out.iterdir()):
            first = time.perf_counter() - began
    if process.returncode or first is None:
        sys.exit(log.read_text())
    return first, time.perf_counter() - began


def interrupted(words: list[str], moment: float, out: Path, log: Path) -> bool:
    """Kill the command at a moment; False if it ended before."""
    process = launch(words, log)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    shutil.rmtree(out)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a parser's run folder")
    parser.add_argument("--root", type=Path, help="the data set that it was trained on")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    choice = parser.parse_args()
    rng, failed = random.Random(choice.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_inputs(work)
        checkpoint, root = (choice.checkpoint, choice.root) if choice.checkpoint else train_parser(work)
        for kind in choice.commands:
            out, log = work / kind / "out", work / f"{kind}.log"
            words = command(kind, work, checkpoint.resolve(), root.resolve(), out)
            first, last = timed(words, out, log)
            expected, same = contents(out), 0
            print(f"{kind}: {last:.1f} s, {first:.1f} s before its first file, {len(expected)} files", flush=True)
            for index in range(choice.times):
                shutil.rmtree(out)
                place = (index + rng.random()) / choice.times
                while not interrupted(words, moment := first + place * (last - first), out, log):
                    last = 0.9 * last  # it was faster this time
                left = len(contents(out)) if out.is_dir() else 0
                code = launch(words, log).wait()
                found = contents(out)
                wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
                same += not code and not wrong
                state = "identical" if not code and not wrong else f"exit code {code}, {len(wrong)} differ: {wrong[:5]}"
                print(f"{index + 1:3} killed after {moment:5.1f} s with {left} files; then {state}", flush=True)
            print(f"{kind}: {same} of {choice.times} identical", flush=True)
            failed += choice.times - same
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
