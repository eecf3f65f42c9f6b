"""Time, memory and size of the report of many run folders: python -m benchmarks.report_growth --runs 5000.

Where Chromium is installed, its page is opened too: seconds until it takes clicks, and those of its main thread, which
do not depend on what else the machine does.

The run folders are synthesised: pairs of a baseline and an MTL run over label fractions, subsets, seeds and learning
rates, each with scores of every class, curves of 300 steps and 18 images of 96 pixels; each fiftieth is a pre-training.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.labels import CELEBAMASK_HQ
from reports.page import write_report

FRACTIONS = (0.002, 0.01, 0.1, 0.5, 1.0)
STEPS, SAMPLES, SIZE = 300, 6, 96


def write_runs(output_dir: Path, count: int) -> None:
    """Write run folders as training leaves them."""
    rng = np.random.default_rng(0)
    tiles = [_png(rng) for _ in range(8)]
    for number in range(count):
        pretraining = number % 50 == 0
        stage = "pretrain" if pretraining else "finetune"
        folder = output_dir / "runs" / f"{stage}-{number:012x}"
        kinds = ("image", "masked", "reconstruction") if pretraining else ("image", "ground_truth", "prediction")
        place = folder / "panels" / ("val" if pretraining else "test")
        place.mkdir(parents=True)
        for sample in range(SAMPLES):
            for kind, name in enumerate(kinds):
                (place / f"face_{sample:02}.{name}.png").write_bytes(tiles[(number + sample + kind) % len(tiles)])
        scored = ("val/loss", "val/psnr") if pretraining else ("val/loss", "val/miou", "val/mean_f1")
        (folder / "metrics.csv").write_text(_curves(scored, rng))
        (folder / "config.yaml").write_text("seed: 0\n" * 100)
        (folder / "status.json").write_text(json.dumps(_status(number, stage, rng), indent=2))


def _png(rng: np.random.Generator) -> bytes:
    small = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(file, format="png")
    return file.getvalue()


def _curves(scored: tuple[str, ...], rng: np.random.Generator) -> str:
    lines = [",".join(("epoch", "step", "train/loss", "train/lr", *scored))]
    for step, loss in enumerate(rng.random(STEPS)):
        cells = [f"{score:.6f}" if step % 30 == 29 else "" for score in rng.random(len(scored))]
        lines.append(",".join((str(step // 30), str(step), f"{loss:.6f}", "0.001", *cells)))
    return "\n".join(lines) + "\n"


def _status(number: int, stage: str, rng: np.random.Generator) -> dict[str, object]:
    place, mtl = divmod(number, 2)
    place, fraction = divmod(place, len(FRACTIONS))
    place, subset = divmod(place, 3)
    rate, seed = divmod(place, 10)
    scores = {f"test/iou/{name}": float(rng.random()) for name in CELEBAMASK_HQ.classes}
    scores |= {f"test/{name}": float(rng.random()) for name in ("miou", "mean_f1", "pixel_accuracy", "mean_accuracy")}
    settings = {f"finetune.setting_{index}": index for index in range(40)}
    environment = {"git_sha": "0" * 40, "versions": {"python": "3.11", "torch": "2.9"}, "device": "cpu"}
    return {
        "state": "done",
        "stage": stage,
        "id": f"{number:012x}",
        "upstream": [f"{number // 50 * 50:012x}"] if mtl and stage == "finetune" else [],
        "experiment": "synthesised",
        "method": "mtl" if mtl or stage == "pretrain" else "baseline",
        "loss": "focal_dice",
        "recipe": "short",
        "scale": "demo",
        "dataset": "celebamask_hq",
        "origin": "real",
        "data_digest": "d1",
        "label_fraction": FRACTIONS[fraction],
        "labelled": int(1000 * FRACTIONS[fraction]),
        "subset": subset,
        "seed": seed,
        "identity": {"version": 1, "settings": settings | {f"{stage}.optimizer.lr": 0.001 / (1 + rate)}},
        "metrics": {"val/loss": 0.1, "val/psnr": 24.0} if stage == "pretrain" else scores,
        "seconds": 100.0,
        "history": [{"attempt": 1, **environment}],
        **environment,
    }


def opened(page: Path, profile: Path) -> str:
    """What opening a page takes, its first view and the table of runs."""
    from tests.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        return "no Chromium to open it with"
    browser, found = Browser(profile), []
    try:
        browser.screen(1440)
        for view in ("overview", "runs"):
            browser.call("Performance.enable", timeDomain="threadTicks")
            browser.open(f"{page.as_uri()}#view={view}")
            browser.wait("document.documentElement.dataset.ready", seconds=120)
            known = {one["name"]: one["value"] for one in browser.call("Performance.getMetrics")["metrics"]}
            ready = float(browser.run("document.documentElement.dataset.ready")) / 1000
            found.append(f"{view} after {ready:.1f} s ({known['TaskDuration']:.1f} s of a CPU)")
            browser.call("Performance.disable")
        return ", ".join([*found, *browser.errors])
    finally:
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="keep the run folders here, and take them from here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        output_dir = arguments.folder or Path(temporary)
        if not (output_dir / "runs").exists():
            write_runs(output_dir, arguments.runs)
        for attempt in ("first report", "the same again"):
            start, worked = time.perf_counter(), time.process_time()
            page = write_report(output_dir)
            seconds, worked = time.perf_counter() - start, time.process_time() - worked
            pages = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file())
            size = page.stat().st_size
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            print(
                f"{arguments.runs} runs, {attempt}: {seconds:.1f} s ({worked:.1f} s of a CPU), "
                f"at most {memory:.0f} MiB of memory, index.html {size / 1e6:.1f} MB, all {pages / 1e6:.0f} MB"
            )
        with tempfile.TemporaryDirectory() as profile:
            print(f"in a browser: {opened(page, Path(profile))}")


if __name__ == "__main__":
    main()
