"""Fit heads to features: sample pixels of labelled faces, fit a head, score it on all pixels of the images."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from callbacks.checkpoints import load, require_fit, save
from callbacks.class_tree import class_tree_figure
from callbacks.confusion import Confusion
from callbacks.quiet import Quiet
from callbacks.throughput import peak_memory_mb
from datamodules.faces import FaceDataModule
from datamodules.pixels import sample_pixels
from engine.environment import device_of
from engine.fitting import checkpoint_description
from engine.plugins import build
from engine.stage import Run
from engine.trainers import scoring_trainer
from foundation.errors import RunError
from foundation.files import atomic_write
from lightning_modules.classification import PixelClassification
from models.head_fitting import FittedHead, Fitting, fit_head
from models.parser import Trunk
from models.pixel_heads import PixelFeatures
from stages.finetuning import PARSERS

TIMED_PASSES = 5
"""Number of timed forward passes of the head; their median is its speed."""
Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features (n, F), class ids (n,) and weights (n,)."""


def fit_and_score(run: Run, config: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
    """Fit a head, save it as the run's ``best.ckpt`` and test it; returns the result part of the status.

    Raises:
        RunError: if features are NaN or infinite, or no labelled face has a labelled pixel.
    """
    started = time.perf_counter()
    pl.seed_everything(run.own.seed, workers=True, verbose=False)
    assert run.upstream is not None  # noqa: S101 (for the type checker)
    trained = load(run.upstream.best)["state_dict"]
    data = cast(FaceDataModule, run.stage.data(run))
    device = device_of(run.settings.trainer.accelerator)
    report: dict[str, Any] = {}
    head = None
    if run.own.head != "conv" or run.upstream.stage not in PARSERS:  # that conv head needs no fitting
        pixels = _pixels(run, data, trained, device)
        began = time.perf_counter()
        names = ("head", "kernel", "C", "gamma", "landmarks", "order", "seed")
        fitting = Fitting(**{name: run.own[name] for name in names})
        head = fit_head(fitting, *pixels, classes=len(run.layout.labels))
        report = {
            "sampled_pixels": len(pixels[0]),
            "machines": head.svms,
            "absent": [name for index, name in enumerate(run.layout.labels.classes) if index not in head.present],
            "fit_seconds": round(time.perf_counter() - began, 3),
        }
        _draw_tree(run, head, pixels)
    module = _with_weights(run, head, trained)
    entries = {name: config["callbacks"].get(name) for name in ("panels", "progress_bar")}
    shown = [build(entry, f"callbacks.{name}") for name, entry in entries.items() if entry]
    trainer = scoring_trainer(
        run.settings.trainer.accelerator, "32-true", run.folder.path, [Quiet(), *shown, Confusion()], loggers
    )
    (scores,) = trainer.validate(module, data, verbose=False)
    metrics = {name: float(value) for name, value in scores.items()}
    content = {
        "state_dict": {name: value.cpu() for name, value in module.state_dict().items()},
        "hyper_parameters": dict(module.hparams),
        "metrics": metrics,
    }
    save(content | checkpoint_description(run, module), run.folder.best)
    tested = time.perf_counter()
    (scores,) = trainer.test(module, data, verbose=False)
    rate = len(data.labelled("test")) / (time.perf_counter() - tested)
    if head is not None and module.scores.counted is not None:
        predicted = module.scores.counted.numpy().sum(axis=0)[list(head.present)]
        # Binary SVMs evaluated per pixel of the test set, on average.
        report["tests_per_pixel"] = round(float(np.average(head.depths, weights=predicted)), 3)
    return {
        "metrics": metrics | {name: float(value) for name, value in scores.items()},
        "parameters": sum(value.numel() for value in module.model.state_dict().values() if value.is_floating_point()),
        **report,
        "megapixels_per_second": round(_speed(module, data, device), 2),
        "seconds": round(time.perf_counter() - started, 2),
        "images_per_second": round(rate, 2),
        "peak_memory_mb": round(peak_memory_mb(torch.device(device)), 1),
    }


def _with_weights(run: Run, head: FittedHead | None, trained: dict[str, Any]) -> PixelClassification:
    """The module with the trunk of the upstream run, and the fitted head or that run's."""
    assert run.upstream is not None  # noqa: S101 (for the type checker)
    module = build_module(run, head)
    parts = _part(trained, "model.trunk.", "features.trunk.")
    parts |= _part(trained, "model.head.", "head.") if head is None else _part(head.module.state_dict(), "", "head.")
    require_fit(parts, module.model, run.upstream.best)
    module.model.load_state_dict(parts)
    return module


def build_module(run: Run, head: FittedHead | None) -> PixelClassification:
    """The network of trunk and head; None: with the conv head of the fine-tuned parser."""
    return PixelClassification(
        run.layout.labels.classes,
        run.settings.model.encoder,
        run.settings.model.features,
        "map" if head is None else run.own.features,
        None if head is None else head.arguments,
        run.settings.finetune.background,
    )


@torch.inference_mode()
def _pixels(run: Run, data: FaceDataModule, trained: dict[str, torch.Tensor], device: str) -> Pixels:
    """Features, classes and weights of the pixels that a head is fitted to; pixels are sampled per face."""
    trunk = Trunk(run.settings.model.encoder, run.settings.model.features)
    part = _part(trained, "model.trunk.", "")
    assert run.upstream is not None  # noqa: S101 (for the type checker)
    require_fit(part, trunk, run.upstream.best)
    trunk.load_state_dict(part)
    extractor = PixelFeatures(trunk, run.own.features).to(device).eval()
    faces = len(data.labelled("train"))
    most = max(1, min(run.own.pixels, run.own.max_pixels // (faces * len(run.layout.labels))))
    features, classes, weights, place = [], [], [], 0
    for batch in data.in_order("train"):
        for single, label in zip(extractor(batch["image"].to(device)), batch["label"].numpy(), strict=True):
            chosen, stands_for = sample_pixels(label, most, np.random.default_rng([run.own.seed, place]))
            features.append(single.flatten(1)[:, torch.from_numpy(chosen).to(device)].T.cpu().numpy())
            classes.append(label.ravel()[chosen])
            weights.append(stands_for**run.own.prior)
            place += 1
    X, y, weight = map(np.concatenate, (features, classes, weights))  # noqa: N806
    if len(y) > run.own.max_pixels:  # even one pixel per class and face is too many
        share = max(1, run.own.max_pixels // len(np.unique(y)))
        chosen, stands_for = sample_pixels(y, share, np.random.default_rng(run.own.seed))
        X, y, weight = X[chosen], y[chosen], weight[chosen] * stands_for**run.own.prior  # noqa: N806
    if not len(y):
        raise RunError(
            f"None of the {faces} labelled faces of {run.folder.name} has a pixel of any class.\n"
            f"Label maps must not consist of ignored pixels only; see prepare.py task=audit."
        )
    if not np.isfinite(X).all():
        name = "" if run.upstream is None else run.upstream.name
        raise RunError(
            f"The features of {name} are NaN or infinite: no head can be fitted to them.\n"
            f"Its training diverged: see its metrics.csv, and train it again with a lower learning rate."
        )
    return X, y, weight / weight.mean()


def _part(state: dict[str, torch.Tensor], prefix: str, target: str) -> dict[str, torch.Tensor]:
    """The tensors whose names start with ``prefix``, renamed to start with ``target``."""
    return {target + name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _draw_tree(run: Run, head: FittedHead, pixels: Pixels) -> None:
    if head.tree is None:
        return
    labels = run.layout.labels
    names = [labels.classes[index] for index in head.present]
    colours = [labels.palette[index] for index in head.present]
    title = f"{run.own.head.upper().replace('_', '-')} on {labels.name}: balanced accuracy of each SVM"
    figure = class_tree_figure(head.tree, names, colours, _accuracies(head, *pixels), title)
    with atomic_write(run.folder.panels / "tree.png") as file:
        figure.savefig(file, format="png")


@torch.inference_mode()
def _accuracies(head: FittedHead, X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> list[float]:  # noqa: N803
    """Balanced accuracy of each binary SVM of a tree on its training pixels."""
    assert head.tree is not None  # noqa: S101 (for the type checker)
    if not head.svms:
        return []
    scores = head.module.scores(torch.from_numpy(X.T)[None, :, None])[0, :, 0].numpy()  # [M, n]
    accuracies = []
    for score, sides in zip(scores, head.tree.groups, strict=True):
        left, right = (np.isin(y, [head.present[index] for index in side]) for side in sides)
        recalls = (
            np.average(score[left] <= 0, weights=weight[left]),
            np.average(score[right] > 0, weights=weight[right]),
        )
        accuracies.append(float(np.mean(recalls)))
    return accuracies


@torch.inference_mode()
def _speed(module: PixelClassification, data: FaceDataModule, device: str) -> float:
    """Megapixels per second of the head, without feature extraction."""
    module = module.to(device).eval()
    image = next(iter(data.test_dataloader()))["image"].to(device)
    features = module.model.features(image)
    seconds = []
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(TIMED_PASSES + 1):
        synchronize()
        began = time.perf_counter()
        module.model.head(features)
        synchronize()
        seconds.append(time.perf_counter() - began)
    return image[:, 0].numel() / 1e6 / float(np.median(seconds[1:]))
