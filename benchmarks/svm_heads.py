"""Cost of SVM heads: fitting a million pixels, and predicting them.

    python -m benchmarks.svm_heads                  # 1,000,000 pixels, 16 features, 11 classes
    python -m benchmarks.svm_heads --pixels 50000 --estimator nystroem

Each row has its own process, which measures its peak memory.
"""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import numpy as np
import torch
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score

from benchmarks import parser, seconds, table
from callbacks.throughput import peak_memory_mb
from models.svm import BinaryDecisionTreeSVC, ReducedHyperplaneSVC

HEADS = {"svm_rh": ReducedHyperplaneSVC, "svm_bdt": BinaryDecisionTreeSVC}
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
    fitted = seconds(lambda: head.fit(X, y))
    peak = peak_memory_mb(torch.device("cpu"))
    test, ground_truth = pixels(count, features, classes, seed=2)
    times = [seconds(lambda: head.predict(test)) for _ in range(REPEATS)]
    return {
        "head": name,
        "binary SVMs": len(head.estimators_),
        "fit, s": round(fitted, 1),
        "peak, MiB": round(peak),
        "of it fitting": round(peak - before),
        "predict, Mpx/s": round(count / 1e6 / float(np.median(times)), 1),
        "tests a pixel": round(float(head.count_tests(test[:100000]).mean()), 2),
        "balanced accuracy": round(float(balanced_accuracy_score(ground_truth, head.predict(test))), 4),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pixels", type=int, default=1_000_000)
    arguments.add_argument("--features", type=int, default=16)
    arguments.add_argument("--classes", type=int, default=11)
    arguments.add_argument("--estimator", default="linear", choices=("linear", "rbf", "nystroem"))
    asked = arguments.parse_args()
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in HEADS:
            sizes = (asked.pixels, asked.features, asked.classes)
            rows.append(pool.apply(measure, (name, asked.estimator, *sizes)))
            print(json.dumps(rows[-1]), flush=True)
    costs = table(*rows[0], title=f"{asked.estimator}, {asked.pixels:,} pixels x {asked.features} x {asked.classes}")
    for row in rows:
        costs.add_row(*map(str, row.values()))
    Console().print(costs)


if __name__ == "__main__":
    main()
