"""Cost of SVM heads: fitting a million pixels, and predicting them.

    python -m benchmarks.svm_heads                  # 1,000,000 pixels, 16 features, 11 classes
    python -m benchmarks.svm_heads --pixels 50000 --estimator nystroem

Each row has its own process, which measures its peak memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import balanced_accuracy_score

from callbacks.throughput import peak_memory_mb
from models.svm import BinaryDecisionTreeSVC, ReducedHyperplaneSVC

HEADS = {
    "svm_rh": ReducedHyperplaneSVC,
    "svm_bdt": BinaryDecisionTreeSVC,
}
REPEATS = 5


def pixels(count: int, features: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (count, F) float32 of overlapping classes, and class ids (count,) with the imbalance of a face."""
    rng = np.random.default_rng(seed)
    frequency = 0.5 ** np.arange(classes) + 0.01
    label = rng.choice(classes, count, p=frequency / frequency.sum())
    centres = 1.5 * np.random.default_rng(0).normal(size=(classes, features))
    return (centres[label] + rng.normal(size=(count, features))).astype(np.float32), label


def measure(name: str, estimator: str, count: int, features: int, classes: int) -> dict[str, Any]:
    """Seconds to fit, megapixels per second to predict, peak memory and balanced accuracy of one head."""
    X, y = pixels(count, features, classes, seed=1)  # noqa: N806
    before = peak_memory_mb(torch.device("cpu"))
    head = HEADS[name](estimator, random_state=0)
    started = time.perf_counter()
    head.fit(X, y)
    fitted = time.perf_counter() - started
    peak = peak_memory_mb(torch.device("cpu"))
    test, ground_truth = pixels(count, features, classes, seed=2)
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        predicted = head.predict(test)
        times.append(time.perf_counter() - started)
    return {
        "head": name,
        "binary SVMs": len(head.estimators_),
        "fit, s": round(fitted, 1),
        "peak, MiB": round(peak),
        "of it fitting": round(peak - before),
        "predict, Mpx/s": round(count / 1e6 / float(np.median(times)), 1),
        "tests a pixel": round(float(head.count_tests(test[:100000]).mean()), 2),
        "balanced accuracy": round(float(balanced_accuracy_score(ground_truth, predicted)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--estimator", default="linear", choices=("linear", "rbf", "nystroem"))
    asked = parser.parse_args()
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in HEADS:
            sizes = (asked.pixels, asked.features, asked.classes)
            rows.append(pool.apply(measure, (name, asked.estimator, *sizes)))
            print(json.dumps(rows[-1]), flush=True)
    table = Table(title=f"{asked.estimator}, {asked.pixels:,} pixels x {asked.features} x {asked.classes}")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
