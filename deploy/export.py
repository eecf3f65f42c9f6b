"""What ``export.py`` does: a trained parser or segmenter into one file that other runtimes take, checked on faces."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
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
from deploy.predictor import classes_of
from deploy.settings import ExportSettings, check_export
from engine.plugins import require_trusted
from engine.stage import Run
from foundation.errors import ConfigError, RunError
from foundation.files import atomic_path, require_folder, to_json, write_text_atomically
from lightning_modules.exported import METADATA, load_exported, metadata_of
from lightning_modules.metrics import SegmentationScores
from models.deployed import Deployed
from stages.evaluation import Evaluation, EvaluationSettings, EvaluationTrainer, Trained, find, plan_evaluation
from stages.scoring import scored_faces, scored_module
from stages.segmentation import DETECTORS

OPSET = 20
EQUAL = {"fp32": 0.9999, "fp16": 0.998, "int8": 0.0}
"""Share of pixels that must be given the same class as by PyTorch."""
LOSS = {"fp32": 0.0005, "fp16": 0.002, "int8": 0.005}
"""By how much the mean IoU of the faces may fall."""
IN_FLOAT = ("query", "key", "value")
"""Parts of names of convolutions that int8 leaves alone: a softmax over their products magnifies what rounding does."""


@dataclass(frozen=True)
class Agreement:
    """How an exported network compares with the trained one.

    Args:
        faces: number of faces that both saw.
        difference: largest difference of two logits.
        equal: share of pixels that both give the same class, 0..1.
        trained_miou: mean IoU of the trained one, 0..1, at the input's size.
        miou: that of the exported one.
    """

    faces: int
    difference: float
    equal: float
    trained_miou: float
    miou: float


def export(config: DictConfig) -> Path:
    """Write what the configuration asks for; the file.

    Raises:
        ConfigError: if a setting cannot be, the checkpoint is of another stage, or its network detects.
        DataError: if data or the checkpoint is missing or broken.
        RunError: if the exported network does not answer as the trained one does; nothing is written then.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)  # noqa: S101 (for the type checker: a composed configuration is a mapping)
    settings = check_export({str(name): value for name, value in plain.items()})
    console = Console(highlight=False, soft_wrap=True)
    trained = find(settings.checkpoint, Path(settings.output_dir))
    evaluation = _evaluation(settings, trained)
    if trained.best.suffix != ".ckpt":
        raise ConfigError(f"checkpoint={trained.best} is exported already.\nExpected: a run, or a best.ckpt.")
    content = load(trained.best)
    if content["settings"].get("segment.network") in DETECTORS:
        raise ConfigError(
            f"{trained.name} is a {content['settings']['segment.network']}: what it computes depends on how many masks "
            f"it finds, and no file holds that.\nExpected: a network that decides pixel by pixel, any but "
            f"{' and '.join(DETECTORS)}."
        )
    network = scored_module(content, "literature", path=trained.best, trust=settings.trust).model.eval()
    size, precision = evaluation.settings.image_size, settings.precision
    content = content | {"settings": {**content["settings"], "datamodule.image_size": size}}
    about = metadata_of(content, {"precision": precision, "opset": OPSET}, classes_of(trained).classes)

    suffix = "onnx" if settings.format == "onnx" else "torchscript"
    out = Path(settings.out or Path(settings.output_dir) / "exports" / f"{trained.name}-{precision}.{suffix}")
    if out.suffix != f".{suffix}":
        raise ConfigError(
            f"out={out} cannot be of format={settings['format']}.\nExpected: a name that ends in .{suffix}."
        )
    if out.is_dir():
        raise ConfigError(f"out={out} is a folder.\nExpected: the name of a file.")
    require_folder(out.parent, "out")
    with atomic_path(out, draft_name=f"network.{suffix}") as draft:  # TorchScript stores the name
        console.print(f"Exporting {trained.name} as {suffix}, {precision}")
        graph = Deployed(network, size, MEAN, STD, half=precision == "fp16").eval()
        if suffix == "onnx":
            write_onnx(graph, draft)
            if precision == "int8":
                quantize(draft, _images(evaluation, "train", settings.calibration, console))
            _describe(draft, about)
        else:
            write_torchscript(graph, draft, about)
        agreement = compare(network, load_exported(draft)["network"], evaluation, settings.faces, console)
        _require_equal(agreement, precision)
    rows = latencies(trained.best, out, settings.rounds, console, settings.trust) if settings.rounds else []
    _report(out, about, agreement, rows, console)
    return out


def _evaluation(settings: ExportSettings, trained: Trained) -> Run:
    """The faces that are compared: those of an evaluation of the checkpoint on its own data set, or the one named."""
    layout = trained.settings.get("datamodule.layout") if settings.dataset is None else None
    if layout is not None:  # of the user's own
        require_trusted(layout, settings.trust, trained.name)
        if settings.root is None:
            raise ConfigError(f"{trained.name} was trained on {trained.dataset}.\nroot must be its folder.")
    dataset = None if layout is not None else settings.dataset or trained.dataset
    if layout is None and trained.stage != "segment" and trained.dataset in LAYOUTS and dataset != trained.dataset:
        raise ConfigError(
            f"dataset={dataset}: {trained.name} was trained on the classes of {trained.dataset}.\n"
            f"Expected: faces with those labels, to see whether its export still answers alike."
        )
    asked: dict[str, Any] = {
        name: settings[name] for name in ("checkpoint", "root", "split", "image_size", "workers", "trust", "output_dir")
    }
    fixed: dict[str, Any] = {
        "score_at": "input",
        "background": "in",
        "batch_size": 8,
        "dataset": dataset,
        "layout": layout,
    }
    run = plan_evaluation(
        EvaluationSettings(**asked, **fixed, trainer=EvaluationTrainer(accelerator="cpu", precision="32-true"))
    )
    assert isinstance(run.stage, Evaluation)  # noqa: S101 (for the type checker)
    if run.stage.mapped is not None:
        raise ConfigError(
            f"root={run.layout.root} has other classes than {trained.name}.\n"
            f"It must hold faces with the classes that the network was trained on."
        )
    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell their own story at a level that is meant for news."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", None)]  # None: the root
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@_quiet()
def write_onnx(graph: Deployed, path: Path) -> None:
    """Write a graph as ONNX, with any number of images of any height and width."""
    example = torch.zeros(2, graph.size, graph.size, 3, dtype=torch.uint8)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's talk of its own insides
        torch.onnx.export(
            graph,
            (example,),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: batch, 1: height, 2: width},),
            external_data=False,
            verbose=False,
        )


def write_torchscript(graph: Deployed, path: Path, about: Mapping[str, Any]) -> None:
    """Write a graph as TorchScript, traced; it takes any number of images of any height and width."""
    example = torch.zeros(2, graph.size, graph.size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is called deprecated, and still is what many boards take
        traced = torch.jit.trace(graph, (example,))
        torch.jit.save(traced, str(path), _extra_files={f"{METADATA}.json": json.dumps(about).encode()})


@_quiet()
def quantize(path: Path, images: Iterator[np.ndarray]) -> None:
    """Convolutions in int8 (weights by channel, maps uint8), their ranges seen on images (N, S, S, 3) uint8.

    Normalisation, attention and all that is no convolution stay in float: rounding them costs more than it saves.
    """
    from onnx import load_model
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class CalibrationImages(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"image": batch} for batch in images), None)

    merged = path.with_suffix(".merged.onnx")
    quant_pre_process(str(path), str(merged), skip_symbolic_shape=True)  # batch normalisation into convolutions
    convolutions = [node for node in load_model(merged).graph.node if node.op_type == "Conv"]
    kept = [node.name for node in convolutions if any(part in node.input[1] for part in IN_FLOAT)]
    quantize_static(
        str(merged),
        str(path),
        CalibrationImages(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=kept,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _describe(path: Path, about: Mapping[str, Any]) -> None:
    import onnx

    model = onnx.load_model(path)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    model.producer_name = METADATA
    onnx.save_model(model, path)


def _images(evaluation: Run, split: str, count: int, console: Console) -> Iterator[np.ndarray]:
    """Images (1, S, S, 3) uint8 of a split, as the network sees them."""
    for batch in track(list(_batches(evaluation, split, count)), "calibrating", console=console, transient=True):
        for image in _as_images(batch["image"]):
            yield image[None]


def _batches(evaluation: Run, split: str, count: int) -> Iterator[dict[str, Any]]:
    """Batches with the first faces of a split, at the network's size."""
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
    """Both networks on the same labelled faces.

    Raises:
        ConfigError: if there is no face.
    """
    classes = evaluation.layout.labels.classes
    scores = [SegmentationScores(classes, background="in") for _ in range(2)]
    seen, equal, pixels, difference = 0, 0, 0, 0.0
    for batch in track(
        list(_batches(evaluation, evaluation.settings.split, faces)), "comparing", console=console, transient=True
    ):
        logits = [network(batch["image"]).float() for network in (trained, exported)]
        decided = [(one[:, 0] > 0).long() if one.shape[1] == 1 else one.argmax(dim=1) for one in logits]
        for score, ids in zip(scores, decided, strict=True):
            score.update(ids, batch["label"].long())
        known = batch["label"] != IGNORE
        seen += len(batch["image"])
        equal += int((decided[0] == decided[1])[known].sum())
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
            f"The exported network does not answer as the trained one does: {100 * found.equal:.3f} % of the pixels "
            f"are given the same class, and mean IoU falls by {100 * loss:.2f} points, on {found.faces} faces.\n"
            f"Expected of {precision}: {100 * EQUAL[precision]:g} % and at most {100 * LOSS[precision]:g} points.\n"
            f"Nothing was written. Try a higher precision" + (", or more calibration=." if precision == "int8" else ".")
        )


def _report(
    out: Path, about: Mapping[str, Any], found: Agreement, rows: list[dict[str, Any]], console: Console
) -> None:
    size = out.stat().st_size / 2**20
    stated = {"file": out.name, "megabytes": round(size, 2), "agreement": vars(found), "latency": rows}
    write_text_atomically(out.with_suffix(out.suffix + ".json"), to_json({**about, **stated}))
    console.print(
        f"{escape(str(out))}: {size:.1f} MiB. On {found.faces} faces {100 * found.equal:.3f} % of the pixels are as "
        f"PyTorch has them; mean IoU {100 * found.miou:.2f} against {100 * found.trained_miou:.2f}; largest difference "
        f"of logits {found.difference:.2g}."
    )
    if not rows:
        return
    table = Table(box=SIMPLE, pad_edge=False, caption="Milliseconds of a whole batch; MiB that the network takes.")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="left" if column == "network" else "right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
