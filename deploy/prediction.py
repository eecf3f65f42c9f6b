"""Predict masks of an image, a video, a folder, a glob pattern or a camera, and write them to files."""

from __future__ import annotations

import glob
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.progress import track

from datamodules.image_files import IMAGE_SUFFIXES, is_image
from datamodules.labels import OCCLUSION, LabelSet
from datamodules.layouts.layout import left_out
from datamodules.reading import read_photograph
from deploy.predictor import Masks, Predictor, load
from deploy.settings import PredictionSettings, check_prediction
from deploy.video import SUFFIXES as VIDEO_SUFFIXES
from deploy.video import open_clip, predict_clip
from engine.environment import device_of
from foundation.errors import BrokenFileError, ConfigError, DataError, RunError
from foundation.files import atomic_write, require_folder, write_text_atomically
from foundation.notices import notice
from stages.command import plain_config

IMAGES_AT_ONCE = 16
"""Number of images that are read and predicted together."""
OPACITY = 0.5
"""Opacity of an overlay's colours."""
OCCLUDED_COLOUR = (255, 64, 64)


def predict(config: DictConfig) -> None:
    """Write the masks of all images and videos that the configuration names.

    Raises:
        ConfigError: if a setting is invalid.
        DataError: if there is no image, or the checkpoint cannot be read.
        RunError: if none of the images could be read.
    """
    settings = check_prediction(plain_config(config))
    camera = int(settings.input) if str(settings.input).isdigit() else None
    out = Path(settings.out)
    sources = {} if camera is not None else sources_of(str(settings.input), out)
    clips: dict[str, Path | int] = {
        name: path for name, path in sources.items() if path.suffix.lower() in VIDEO_SUFFIXES
    }
    images = {name: path for name, path in sources.items() if name not in clips}
    if camera is not None:
        clips[f"camera_{camera}"] = camera
    predictor = load(
        settings.checkpoint,
        settings.output_dir,
        settings.image_size,
        settings.faces,
        settings.batch_size,
        device_of(settings.trainer.accelerator),
        settings.landmark_model,
        settings.trust,
    )
    console = Console(highlight=False, stderr=True, soft_wrap=True, markup=False)
    require_folder(out, "out")
    earlier = _lines_of(out / "predictions.jsonl")
    require_folder(out / "labels", "out")
    _write_lines(out / "predictions.jsonl", earlier)  # marks the folder as one of predict.py
    started = time.perf_counter()
    lines: list[dict[str, Any]] = []
    failed: list[str] = []
    try:
        for line in predict_images(predictor, images, out, settings, console, failed):
            lines.append(line)
        for name, source in clips.items():
            try:
                lines += _predict_clip(predictor, name, source, out, settings, console)
            except BrokenFileError as error:
                failed.append(str(error).splitlines()[0])
    finally:  # record finished images also after an interruption
        again = {line["label"] for line in lines}, {line["image"] for line in lines}
        kept = [line for line in earlier if line["label"] not in again[0] and line["image"] not in again[1]]
        if lines:
            _write_lines(out / "predictions.jsonl", kept + lines)
    if len(failed) == len(images) + len(clips):
        raise RunError(f"None of the {len(failed)} images or videos could be read, the first: {failed[0]}")
    seconds = time.perf_counter() - started
    without = sum(not line["faces"] for line in lines)
    console.print(
        f"{out}: masks of {len(lines)} {'frames' if clips else 'images'}, {len(lines) / seconds:.1f} per second; "
        f"no face in {without}."
    )
    for what in failed:
        console.print(f"Not read: {what}")


def _lines_of(file: Path) -> list[dict[str, Any]]:
    """Entries of earlier predictions in the folder.

    Raises:
        ConfigError: if the folder contains label maps that predict.py did not write.
        DataError: if the file is not a list of predictions.
    """
    if not file.exists() and any((file.parent / "labels").glob("*")):
        raise ConfigError(
            f"out={file.parent} contains labels/ that predict.py did not write.\n"
            f"It must be a folder of predict.py, or a new one."
        )
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
        return [line for line in lines if line["image"] and line["label"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not a list of predictions ({error}).\nout= must be a folder of predict.py, or a new one. "
            "Nothing was written."
        ) from error


def _predict_clip(
    predictor: Predictor, name: str, source: Path | int, out: Path, settings: PredictionSettings, console: Console
) -> list[dict[str, Any]]:
    """One entry of predictions.jsonl per frame of a video or camera."""

    def keep(number: int, frame: np.ndarray, masks: Masks) -> dict[str, Any]:
        place = f"{name}/{number:06d}"
        for file, pixels, options in _files(place, frame, masks, settings.model_copy(update={"overlays": False})):
            _write_image(out / file, pixels, **options)
        faces = [{"box": face.box, "found": face.found, "classes": face.shares} for face in masks.faces]
        return {"image": str(source), "frame": number, "label": f"labels/{place}.png", "faces": faces}

    target = out / "overlays" / f"{name}.mp4" if settings.overlays else None
    every = range(len(predictor.labels))
    shown = lambda frame, masks: overlay(frame, masks, every)  # noqa: E731 (a fixed legend for all frames)
    return predict_clip(predictor, open_clip(source), name, shown, keep, target, console)


def sources_of(given: str, out: Path) -> dict[str, Path]:
    """The images and videos that ``input=...`` names, by the names of their output files.

    Files that predict.py wrote to ``out`` are left out.

    Raises:
        DataError: if there are none.
    """
    path = Path(given)
    if path.is_dir():
        found = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
        seen = [(name, file) for name, file in found if not any(part.startswith(".") for part in name.split("/"))]
        named = {name: file for name, file in seen if is_image(file) or file.suffix.lower() in VIDEO_SUFFIXES}
        if others := [name for name, _ in seen if name not in named and name != "predictions.jsonl"]:
            notice(f"{left_out(path, others)}.")
    elif path.is_file():
        named = {path.name: path}
    else:
        files = [Path(name) for name in sorted(glob.glob(given, recursive=True)) if Path(name).is_file()]  # noqa: PTH207
        # Names are relative to the common folder: nothing is written outside out.
        above = Path(os.path.commonpath([file.resolve().parent for file in files])) if files else Path()
        named = {file.resolve().relative_to(above).as_posix(): file for file in files}
    ours = [(out / kind).resolve() for kind in ("labels", "overlays", "parts")]
    named = {
        name: file for name, file in named.items() if not any(file.resolve().is_relative_to(folder) for folder in ours)
    }
    if not named:
        raise DataError(
            f"input={given} matches no image.\nIt must be an image, a video, a folder, a pattern in quotes, such as "
            f'input="photos/*.jpg", or a camera number; file types: {", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}.'
        )
    return named


def predict_images(
    predictor: Predictor,
    images: Mapping[str, Path],
    out: Path,
    settings: PredictionSettings,
    console: Console,
    failed: list[str],
) -> Iterator[dict[str, Any]]:
    """Write the files of each image, yield its entry of predictions.jsonl; append unreadable images to ``failed``."""
    names = list(images)
    if not names:
        return
    for start in track(range(0, len(names), IMAGES_AT_ONCE), "predicting masks", console=console):
        read: dict[str, np.ndarray] = {}
        for name in names[start : start + IMAGES_AT_ONCE]:
            try:
                read[name] = read_photograph(images[name])
            except BrokenFileError as error:
                failed.append(str(error).splitlines()[0])
        for (name, image), masks in zip(read.items(), predictor.predict_many(list(read.values())), strict=True):
            for place, pixels, options in _files(name, image, masks, settings):
                _write_image(out / place, pixels, **options)
            faces = [{"box": face.box, "found": face.found, "classes": face.shares} for face in masks.faces]
            yield {"image": str(images[name]), "label": f"labels/{name}.png", "faces": faces}


def _files(
    name: str, image: np.ndarray, masks: Masks, settings: PredictionSettings
) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Path, pixels and options of each output file of an image."""
    binary = masks.labels is OCCLUSION
    yield f"labels/{name}.png", masks.label * np.uint8(255 if binary else 1), {"format": "PNG"}
    if settings.overlays:
        yield f"overlays/{name}.jpg", overlay(image, masks), {"format": "JPEG", "quality": 92}
    if settings.parts and not binary:
        for class_id in np.unique(masks.label[masks.label > 0]).tolist():
            part = np.where(masks.label == class_id, 255, 0).astype(np.uint8)
            yield f"parts/{name}_{masks.labels.classes[class_id]}.png", part, {"format": "PNG"}


def overlay(image: np.ndarray, masks: Masks, named: Sequence[int] | None = None) -> np.ndarray:
    """An image (H, W, 3) with its masks blended over it; below, a legend of the predicted classes, or of ``named``."""
    labels = masks.labels
    colours = (
        np.array([(0, 0, 0), OCCLUDED_COLOUR], np.uint8)[masks.label]
        if labels is OCCLUSION
        else labels.colorize(masks.label)
    )
    mixed = cv2.addWeighted(image, 1 - OPACITY, colours, OPACITY, 0)
    shown = np.where(masks.label[..., None] > 0, mixed, image)
    return np.concatenate([shown, _legend(labels, named or np.unique(masks.label).tolist(), shown.shape[1])])


def _legend(labels: LabelSet, present: Sequence[int], width: int) -> np.ndarray:
    """A legend (h, width, 3) of the classes, over several lines if necessary, scaled with the image."""
    unit = max(1.0, width / 600)
    font, size, line = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * unit, round(18 * unit)
    box, gap = round(10 * unit), round(4 * unit)
    x, y, places = gap, round(14 * unit), []
    for class_id in present:
        if class_id == 0:
            continue
        name = labels.classes[class_id].replace("_", " ")
        wide = cv2.getTextSize(name, font, size, 1)[0][0] + box + 3 * gap
        if x > gap and x + wide > width:
            x, y = gap, y + line
        places.append((x, y, name, OCCLUDED_COLOUR if labels is OCCLUSION else labels.palette[class_id]))
        x += wide
    strip = np.full((y + gap + 2 if places else 0, width, 3), 255, np.uint8)
    for left, low, name, colour in places:
        cv2.rectangle(strip, (left, low - box), (left + box, low), colour, -1)
        cv2.putText(strip, name, (left + box + gap, low), font, size, (0, 0, 0), round(unit), cv2.LINE_AA)
    return strip


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    write_text_atomically(path, "".join(json.dumps(line) + "\n" for line in lines))


def _write_image(path: Path, pixels: np.ndarray, **options: Any) -> None:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, **options)
    with atomic_write(path) as file:
        file.write(content.getvalue())
