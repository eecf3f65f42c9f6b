"""Export a trained parser or segmenter to ONNX or TorchScript and compare it with PyTorch on labelled faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from callbacks.checkpoints import load
from datamodules.labels import IGNORE
from datamodules.layouts import LAYOUTS
from datamodules.transforms import MEAN, STD
from deploy.latency import latencies
from deploy.onnx_files import OPSET, describe, quantize, write_onnx
from deploy.predictor import classes_of
from deploy.settings import ExportSettings, check_export
from deploy.torchscript_files import as_network, trace, write_torchscript
from engine.plugins import require_trusted
from engine.stage import Run
from foundation.errors import ConfigError, RunError
from foundation.files import atomic_path, remove_drafts, require_folder, to_json, write_text_atomically
from foundation.locks import sole_writer
from lightning_modules.exported import load_exported, metadata_of
from lightning_modules.metrics import SegmentationScores
from models.deployed import Deployed
from stages.command import plain_config
from stages.evaluation import ROOTS, Evaluation, EvaluationSettings, EvaluationTrainer, plan_evaluation
from stages.groups import MaskSettings
from stages.scoring import scored_faces, scored_module
from stages.segmentation import DETECTORS
from stages.trained import Trained, find

EQUAL = {"fp32": 0.9999, "fp16": 0.998, "int8": 0.0}
"""Minimum share of pixels with the same class as in PyTorch."""
LOSS = {"fp32": 0.0005, "fp16": 0.002, "int8": 0.005}
"""Maximum decrease of mean IoU."""


@dataclass(frozen=True)
class Agreement:
    """Comparison of an exported network with the trained one.

    Args:
        faces: number of compared faces.
        difference: largest absolute difference of logits.
        equal: share of pixels with the same class, 0..1.
        trained_miou: mean IoU of the trained network, 0..1, at the input's size.
        miou: mean IoU of the exported network.
    """

    faces: int
    difference: float
    equal: float
    trained_miou: float
    miou: float


def export(config: DictConfig) -> Path:
    """Export the network that the configuration names; returns the file.

    Raises:
        ConfigError: if a setting is invalid, the checkpoint is of another stage, or its network is a detector.
        DataError: if data or the checkpoint is missing or broken.
        RunError: if the exported network differs too much from the trained one; nothing is written then.
    """
    settings = check_export(plain_config(config))
    console = Console(highlight=False, soft_wrap=True)
    trained = find(settings.checkpoint, Path(settings.output_dir))
    evaluation = _evaluation(settings, trained)
    if trained.best.suffix != ".ckpt":
        raise ConfigError(f"checkpoint={trained.best} is an exported file.\nIt must be a run or a best.ckpt.")
    suffix = "onnx" if settings.format == "onnx" else "torchscript"
    out = Path(settings.out or Path(settings.output_dir) / "exports" / f"{trained.name}-{settings.precision}.{suffix}")
    if out.suffix != f".{suffix}":
        raise ConfigError(
            f"out={out} does not go with format={settings['format']}.\nIt must be a name that ends in .{suffix}."
        )
    if out.is_dir():
        raise ConfigError(f"out={out} is a folder.\nIt must be the name of a file.")
    require_folder(out.parent, "out")
    content = {"settings": {}, **load(trained.best)}
    if content["settings"].get("segment.network") in DETECTORS:
        raise ConfigError(
            f"{trained.name} is a {content['settings']['segment.network']}: its graph depends on the number of "
            f"detected masks, which no format can express.\nIt must be any network but {' and '.join(DETECTORS)}."
        )
    network = scored_module(content, "literature", path=trained.best, trust=settings.trust).model.eval()
    size, precision = evaluation.settings.image_size, settings.precision
    content = content | {"settings": {**content["settings"], "datamodule.image_size": size}}
    about = metadata_of(content, {"precision": precision, "opset": OPSET}, classes_of(trained).classes)

    graph = Deployed(network, size, MEAN, STD, half=precision == "fp16").eval()
    with sole_writer(out.with_name(f".{out.name}.lock"), "out", out):
        remove_drafts(out.parent, out.name)  # of a killed export
        console.print(f"Exporting {trained.name} as {suffix}, {precision}")
        agreement = _write(graph, network, out, about, evaluation, settings, console)
        traced_at = None if suffix == "onnx" else (size, precision == "fp16")
        rounds = settings.rounds
        rows = latencies(trained.best, out, rounds, console, settings.trust, traced_at) if rounds else []
        _report(out, about, agreement, rows, console)
    return out


def _write(
    graph: Deployed,
    trained: nn.Module,
    out: Path,
    about: Mapping[str, Any],
    evaluation: Run,
    settings: ExportSettings,
    console: Console,
) -> Agreement:
    """Write the file, unless its network differs from the trained one.

    Raises:
        RunError: if it differs too much.
    """
    with atomic_path(out, draft_name=f"network{out.suffix}") as draft:  # TorchScript stores the name
        if settings.format == "torchscript":  # compared before it is written: such files are not loaded
            traced = trace(graph)
            exported: nn.Module = as_network(traced, graph.size, out.name)
        else:
            write_onnx(graph, draft)
            if settings.precision == "int8":
                quantize(draft, _images(evaluation, "train", settings.calibration, console))
            describe(draft, about)
            exported = load_exported(draft)["network"]
        agreement = compare(trained, exported, evaluation, settings.faces, console)
        _require_equal(agreement, settings.precision)
        if settings.format == "torchscript":
            write_torchscript(traced, draft, about)
    return agreement


def _evaluation(settings: ExportSettings, trained: Trained) -> Run:
    """The evaluation whose faces are compared: on the checkpoint's own data set, or on ``dataset``."""
    layout = trained.settings.get("datamodule.layout") if settings.dataset is None else None
    if layout is not None:  # the user's own layout
        require_trusted(layout, settings.trust, trained.name)
        if settings.root is None:
            raise ConfigError(f"{trained.name} was trained on {trained.dataset}.\nroot must be its folder.")
    dataset = None if layout is not None else settings.dataset or trained.dataset
    if dataset is not None and dataset not in ROOTS:
        raise ConfigError(
            f"{trained.best} was trained on {dataset}, which is no data set of this project.\n"
            f"dataset must be one of {', '.join(ROOTS)}, with root=<its folder>."
        )
    if layout is None and trained.stage != "segment" and trained.dataset in LAYOUTS and dataset != trained.dataset:
        raise ConfigError(
            f"dataset={dataset}: {trained.name} was trained on the classes of {trained.dataset}.\n"
            f"It must be a data set with these labels, to compare the exported network with the trained one."
        )
    given: dict[str, Any] = {
        name: settings[name] for name in ("checkpoint", "root", "split", "image_size", "workers", "trust", "output_dir")
    }
    fixed: dict[str, Any] = {
        "score_at": "input",
        "background": "in",
        "batch_size": 8,
        "dataset": dataset,
        "layout": layout,
        "mask": _recorded_mask(trained) if settings.dataset is None else MaskSettings(),
    }
    run = plan_evaluation(
        EvaluationSettings(**given, **fixed, trainer=EvaluationTrainer(accelerator="cpu", precision="32-true"))
    )
    assert isinstance(run.stage, Evaluation)  # noqa: S101 (for the type checker)
    if run.stage.mapped is not None:
        raise ConfigError(
            f"root={run.layout.root} has other classes than {trained.name}.\n"
            f"It must contain faces with the classes of the network."
        )
    return run


def _recorded_mask(trained: Trained) -> MaskSettings:
    """What was declared about the masks that a segmenter was trained on."""
    recorded = {name: trained.settings.get(f"datamodule.mask.{name}") for name in MaskSettings.model_fields}
    return MaskSettings(**{name: value for name, value in recorded.items() if value is not None})


def _images(evaluation: Run, split: str, count: int, console: Console) -> Iterator[np.ndarray]:
    """Input images (1, S, S, 3) uint8 of a split."""
    for batch in track(list(_batches(evaluation, split, count)), "calibrating", console=console, transient=True):
        for image in _as_images(batch["image"]):
            yield image[None]


def _batches(evaluation: Run, split: str, count: int) -> Iterator[dict[str, Any]]:
    """Batches with the first ``count`` faces of a split, at the network's size."""
    datamodule = scored_faces(replace(evaluation, settings=evaluation.settings.model_copy(update={"split": split})))
    datamodule.setup("test")
    for batch in datamodule.test_dataloader():
        kept = min(count, len(batch["image"]))
        yield {name: values[:kept] for name, values in batch.items()}
        count -= kept
        if not count:
            return


def _as_images(image: Tensor) -> np.ndarray:
    mean, deviation = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (image * deviation + mean).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


@torch.inference_mode()
def compare(trained: nn.Module, exported: nn.Module, evaluation: Run, faces: int, console: Console) -> Agreement:
    """Run both networks on the same labelled faces.

    Raises:
        ConfigError: if the split is empty.
    """
    classes = evaluation.layout.labels.classes
    scores = [SegmentationScores(classes, background="in") for _ in range(2)]
    seen, equal, pixels, difference = 0, 0, 0, 0.0
    for batch in track(
        list(_batches(evaluation, evaluation.settings.split, faces)), "comparing", console=console, transient=True
    ):
        logits = [network(batch["image"]).float() for network in (trained, exported)]
        predicted = [(one[:, 0] > 0).long() if one.shape[1] == 1 else one.argmax(dim=1) for one in logits]
        for score, ids in zip(scores, predicted, strict=True):
            score.update(ids, batch["label"].long())
        known = batch["label"] != IGNORE
        seen += len(batch["image"])
        equal += int((predicted[0] == predicted[1])[known].sum())
        pixels += int(known.sum())
        difference = max(difference, float((logits[0] - logits[1]).abs().max()))
    if not pixels:
        raise ConfigError(f"root={evaluation.layout.root}: split={evaluation.settings['split']} has no face.")
    before, after = (float(score.compute()["miou"]) for score in scores)
    return Agreement(seen, difference, equal / pixels, before, after)


def _require_equal(found: Agreement, precision: str) -> None:
    loss = found.trained_miou - found.miou
    if found.equal < EQUAL[precision] or loss > LOSS[precision]:
        raise RunError(
            f"The predictions of the exported network differ: {100 * found.equal:.3f} % of the pixels have the same "
            f"class, and mean IoU falls by {100 * loss:.2f} points, on {found.faces} faces.\n"
            f"For {precision} it must be {100 * EQUAL[precision]:g} % and at most {100 * LOSS[precision]:g} points.\n"
            f"Nothing was written. Try a higher precision" + (", or more calibration=." if precision == "int8" else ".")
        )


def _report(
    out: Path, about: Mapping[str, Any], found: Agreement, rows: list[dict[str, Any]], console: Console
) -> None:
    size = out.stat().st_size / 2**20
    report = {"file": out.name, "megabytes": round(size, 2), "agreement": vars(found), "latency": rows}
    write_text_atomically(out.with_suffix(out.suffix + ".json"), to_json({**about, **report}))
    console.print(
        f"{escape(str(out))}: {size:.1f} MiB. On {found.faces} faces {100 * found.equal:.3f} % of the pixels have "
        f"the same class as in PyTorch; mean IoU {100 * found.miou:.2f}, PyTorch {100 * found.trained_miou:.2f}; "
        f"largest difference of logits {found.difference:.2g}."
    )
    if not rows:
        return
    table = Table(box=SIMPLE, pad_edge=False, caption="Milliseconds per batch; MiB of the loaded network.")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="left" if column == "network" else "right")
    for row in rows:
        shown = ["" if value is None else value for value in row.values()]
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in shown))
    console.print(table)
