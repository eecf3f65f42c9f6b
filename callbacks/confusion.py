"""The confusion matrix of the test, as a table and as an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from foundation.files import atomic_write, to_csv, write_text_atomically
from lightning_modules.mask_scores import MaskScores
from lightning_modules.metrics import SegmentationScores

SHOWN = 0.005
"""Smaller shares are left blank in the image, where they would be printed as 0."""


class Confusion(Callback):
    """Writes ``confusion.csv`` (pixels, one row per true class) and its image in ``panels/test`` after a test."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores, folder = getattr(pl_module, "scores", None), Path(trainer.default_root_dir)
        if not isinstance(scores, SegmentationScores | MaskScores):  # an external stage may have other scores
            return
        if not trainer.is_global_zero or scores.counted is None:
            return
        matrix = scores.counted.numpy()
        write_confusion(folder / "confusion.csv", scores.classes, matrix)
        with atomic_write(folder / "panels" / "test" / "confusion.png") as file:
            confusion_figure(scores.classes, matrix).savefig(file, format="png")


def write_confusion(path: Path, classes: Sequence[str], matrix: np.ndarray) -> None:
    """Pixels (C, C) by true class (rows) and predicted class (columns) as CSV with the classes' names."""
    rows = ([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
    write_text_atomically(path, to_csv([["ground_truth", *classes], *rows]))


def confusion_figure(classes: Sequence[str], matrix: np.ndarray) -> Figure:
    """The matrix (C, C) in per cent of each true class's pixels; a class that does not occur is an empty row."""
    ground_truth = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(ground_truth, 1)
    size = len(classes)
    figure = Figure(figsize=(3 + 0.45 * size, 2 + 0.45 * size), dpi=100, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.where(ground_truth > 0, shares, np.nan), cmap="Blues", vmin=0, vmax=1)
    names = [name.replace("_", " ") for name in classes]
    axes.set_xticks(range(size), names, rotation=90)
    axes.set_yticks(range(size), [f"{name}  {_rounded(n)}" for name, n in zip(names, ground_truth[:, 0], strict=True)])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true class and its pixels")
    axes.set_title("Share (%) of each true class's pixels predicted as each class")
    for row, column in zip(*np.nonzero(shares >= SHOWN), strict=True):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7, format=lambda share, _: f"{100 * share:.0f} %")
    return figure


def _rounded(pixels: int) -> str:
    """A number of pixels with a unit: 1234567 -> 1.2M."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if pixels >= unit:
            return f"{pixels / unit:.1f}{name}"
    return str(pixels)
