"""Predict masks of an image, a video, a folder, a glob pattern or a camera, and write them to files."""

from __future__ import annotations

import functools
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.progress import track

from datamodules.finding.names import SMALLEST, SMALLEST_IN_VIDEOS
from datamodules.labels import OCCLUSION, LabelSet
from deploy.images import Photo, enlarged
from deploy.images import read as read_image
from deploy.inputs import OUTPUT_FOLDERS, Inputs, inputs_of
from deploy.predictor import Masks, Predictor, load
from deploy.settings import PredictionSettings, check_prediction
from deploy.video import PredictedClip, open_clip, predict_clip
from engine.environment import device_of
from foundation.errors import BrokenFileError, ConfigError, DataError, RunError
from foundation.files import atomic_write, remove_drafts, require_folder, write_text_atomically
from foundation.locks import sole_writer
from foundation.names import file_name
from foundation.paths import ordinary
from stages.command import plain_config

LINES = "predictions.jsonl"
LOCK = ".predict.lock"
IMAGES_AT_ONCE = 16
"""Number of images that are read and predicted together."""
PIXELS_HELD = 32_000_000
"""Number of pixels of images that stay in memory until they are written; further ones are read again."""
OVERLAID_AT_ONCE = 1_000_000
"""Number of pixels that are coloured together."""
OPACITY = 0.5
"""Opacity of an overlay's colours."""
OCCLUDED_COLOUR = (255, 64, 64)


def predict(config: DictConfig) -> None:
    """Write the masks of all images and videos that the configuration names.

    Raises:
        ConfigError: if a setting is invalid, or another process writes to the folder.
        DataError: if there is no image, or the checkpoint cannot be read.
        RunError: if none of the images could be read, or a video could not be written.
    """
    settings = check_prediction(plain_config(config))
    given = str(settings.input)
    camera = int(given) if given.isdecimal() and not Path(given).exists() else None  # 2024 may be a folder
    out = Path(settings.out)
    inputs = Inputs({}, {}) if camera is not None else inputs_of(given, out)
    clips: dict[str, Path | int] = {**inputs.videos}
    if camera is not None:
        clips[f"camera_{camera}"] = camera
    require_folder(out, "out")
    predictor = load(
        str(settings.checkpoint),
        settings.output_dir,
        settings.image_size,
        settings.faces,
        settings.batch_size,
        device_of(settings.trainer.accelerator),
        settings.landmark_model,
        settings.trust,
        finder=settings.finder,
        finder_model=settings.finder_model,
        smallest_face=SMALLEST if settings.smallest_face is None else settings.smallest_face,
    )
    console = Console(highlight=False, stderr=True, soft_wrap=True, markup=False)
    with sole_writer(out / LOCK, "out", out):
        report = _predict_all(predictor, inputs.images, clips, out, settings, console)
    for line in [*report, inputs.describe_left_out()]:
        if line:
            console.print(line)


def _predict_all(
    predictor: Predictor,
    images: Mapping[str, Path],
    clips: Mapping[str, Path | int],
    out: Path,
    settings: PredictionSettings,
    console: Console,
) -> list[str]:
    """Predict everything and update predictions.jsonl; returns the lines of the final report.

    Raises:
        RunError: see :func:`predict`; what was predicted is recorded all the same.
    """
    earlier = _lines_of(out / LINES)
    require_folder(out / "labels", "out")
    write_lines(out / LINES, earlier)  # marks the folder as one of predict.py
    remove_drafts(out, LINES)
    for folder in OUTPUT_FOLDERS:  # of a killed predict.py
        remove_drafts(out / folder, recursive=True)
    started = time.perf_counter()
    lines: list[dict[str, Any]] = []
    failed: list[str] = []
    incomplete: list[str] = []
    unwritten: list[str] = []
    try:
        write = functools.partial(_write, out=out, settings=settings)
        for line in predict_images(predictor, images, write, console, failed):
            lines.append(line)
        for name, source in clips.items():
            try:
                clip = _predict_clip(predictor, name, source, out, settings, console)
            except BrokenFileError as error:
                failed.append(str(error).splitlines()[0])
                continue
            lines += clip.lines
            incomplete += [clip.missing] if clip.missing else []
            unwritten += [clip.unwritten] if clip.unwritten else []
    finally:  # record finished images also after an interruption
        again = {line["label"] for line in lines}, {line["image"] for line in lines}
        kept = [line for line in earlier if line["label"] not in again[0] and line["image"] not in again[1]]
        if lines:
            write_lines(out / LINES, kept + lines)
    if len(failed) == len(images) + len(clips):
        raise RunError(f"None of the {len(failed)} images or videos could be read, the first: {failed[0]}")
    seconds = time.perf_counter() - started
    report = [
        f"{out}: masks of {len(lines)} {'frames' if clips else 'images'}, {len(lines) / seconds:.1f} per second; "
        f"{_without_face(lines, settings.faces)}.",
        *(f"Not read: {what}" for what in failed),
        *(f"Read in part: {what}" for what in incomplete),
    ]
    if unwritten:
        raise RunError("\n".join([*unwritten, "The label maps are written.", *report]))
    return report


def _without_face(lines: Sequence[Mapping[str, Any]], faces: str) -> str:
    """The share of images in which no face was found, as a part of a sentence."""
    if faces == "whole":
        return "each image taken for a face"
    missed = sum(all(face["found"] == "whole" for face in line["faces"]) for line in lines)
    share = f" ({100 * missed / len(lines):.0f} %)" if lines else ""
    taken = ", the complete image taken for one" if missed and faces == "auto" else ""
    return f"no face found in {missed}{share}{taken}"


def _lines_of(file: Path) -> list[dict[str, Any]]:
    """Entries of earlier predictions in the folder.

    Raises:
        ConfigError: if the folder contains label maps that predict.py did not write.
        DataError: if the file is not a list of predictions.
    """
    there = file.exists() or file.is_symlink()
    if not there and any((file.parent / "labels").glob("*")):
        raise ConfigError(
            f"out={file.parent} contains labels/ that predict.py did not write.\n"
            f"It must be a folder of predict.py, or a new one."
        )
    try:
        text = ordinary(file).read_text(encoding="utf-8") if there else ""
        lines = [json.loads(line) for line in text.splitlines()]
        if any(not isinstance(line[key], str) for line in lines for key in ("image", "label")):
            raise ValueError("image and label must be texts")
        return [line for line in lines if line["image"] and line["label"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{file} is not a list of predictions ({error}).\nout= must be a folder of predict.py, or a new one. "
            "Nothing was written."
        ) from error


def _predict_clip(
    predictor: Predictor, name: str, source: Path | int, out: Path, settings: PredictionSettings, console: Console
) -> PredictedClip:
    """Write the files of each frame of a video or camera."""
    if settings.smallest_face is None:
        predictor = predictor.searching(SMALLEST_IN_VIDEOS)

    def keep(number: int, frame: np.ndarray, masks: Masks) -> dict[str, Any]:
        read = ReadImage(f"{name}/{number:06d}", Path(), None, frame.shape[:2], 1)
        line = _write(read, masks, out, settings.model_copy(update={"overlays": False}))
        return {"image": str(source), "frame": number, **{key: line[key] for key in ("label", "faces")}}

    target = out / "overlays" / f"{name}.mp4" if settings.overlays else None
    every = range(len(predictor.labels))
    shown = lambda frame, masks: overlay(frame, masks, every)  # noqa: E731 (a fixed legend for all frames)
    return predict_clip(predictor, open_clip(source), name, shown, keep, target, console)


def predict_images(
    predictor: Predictor,
    images: Mapping[str, Path],
    write: Callable[[ReadImage, Masks], dict[str, Any]],
    console: Console,
    failed: list[str],
) -> Iterator[dict[str, Any]]:
    """Write the files of each image, yield what ``write`` returns; append unreadable images to ``failed``."""
    names = list(images)
    if not names:
        return
    for start in track(range(0, len(names), IMAGES_AT_ONCE), "predicting masks", console=console):
        group = {name: images[name] for name in names[start : start + IMAGES_AT_ONCE]}
        read: deque[ReadImage] = deque()
        for masks in predictor.stream(_pixels_of(group, read, failed)):
            image = read.popleft()
            try:
                yield write(image, masks)
            except BrokenFileError as error:
                failed.append(str(error).splitlines()[0])


@dataclass
class ReadImage:
    """An image whose masks are being predicted; ``photo`` is dropped if it is large, and read again for its overlay."""

    name: str
    path: Path
    photo: Photo | None
    size: tuple[int, int]
    factor: int


def _pixels_of(images: Mapping[str, Path], read: deque[ReadImage], failed: list[str]) -> Iterator[np.ndarray]:
    """The pixels of the readable images, which are appended to ``read``; the others to ``failed``."""
    for name, path in images.items():
        try:
            photo = read_image(path)
        except BrokenFileError as error:
            failed.append(str(error).splitlines()[0])
            continue
        held = sum(one.photo.pixels.size for one in read if one.photo is not None)
        kept = photo if held + photo.pixels.size <= 3 * PIXELS_HELD else None
        read.append(ReadImage(name, path, kept, photo.size, photo.factor))
        pixels = photo.pixels
        del photo
        yield pixels


def _write(image: ReadImage, masks: Masks, out: Path, settings: PredictionSettings) -> dict[str, Any]:
    """Write the files of an image; returns its entry of predictions.jsonl."""
    enlarge = lambda label: enlarged(label, image.size, image.factor)  # noqa: E731
    for place, pixels in _label_maps(image.name, masks, settings):
        write_image(out / place, enlarge(pixels), format="PNG")
    if settings.overlays:
        photo = image.photo or read_image(image.path)
        shown = overlay(photo.pixels, masks)
        write_image(out / f"overlays/{image.name}.jpg", shown, format="JPEG", quality=92)
    found = [face.enlarged(image.factor) for face in masks.faces]
    faces = [{"box": face.box, "found": face.found, "classes": face.shares} for face in found]
    return {"image": str(image.path), "label": f"labels/{image.name}.png", "faces": faces}


def _label_maps(name: str, masks: Masks, settings: PredictionSettings) -> Iterator[tuple[str, np.ndarray]]:
    """Path and pixels of each label map and mask of an image."""
    binary = masks.labels is OCCLUSION
    yield f"labels/{name}.png", masks.label * np.uint8(255 if binary else 1)
    if settings.parts and not binary:
        for class_id in _classes_in(masks.label):
            if class_id:
                part = (masks.label == class_id) * np.uint8(255)
                yield f"parts/{name}_{file_name(masks.labels.classes[class_id])}.png", part


def _classes_in(label: np.ndarray) -> list[int]:
    """The ids in a label map (H, W) uint8, sorted; NumPy's ``unique`` would sort all its pixels."""
    counts = cv2.calcHist([label], [0], None, [256], [0, 256])
    return np.flatnonzero(counts).tolist()


def overlay(image: np.ndarray, masks: Masks, named: Sequence[int] | None = None) -> np.ndarray:
    """An image (H, W, 3) with its masks blended over it; below, a legend of the predicted classes, or of ``named``."""
    labels = masks.labels
    strip = legend(labels, named or _classes_in(masks.label), image.shape[1])
    shown = np.empty((len(image) + len(strip), *image.shape[1:]), np.uint8)
    shown[len(image) :] = strip
    rows = max(1, OVERLAID_AT_ONCE // image.shape[1])
    for start in range(0, len(image), rows):  # the colours of a large image would take several times its memory
        pixels, ids = image[start : start + rows], masks.label[start : start + rows]
        colours = np.array([(0, 0, 0), OCCLUDED_COLOUR], np.uint8)[ids] if labels is OCCLUSION else labels.colorize(ids)
        mixed = cv2.addWeighted(pixels, 1 - OPACITY, colours, OPACITY, 0)
        shown[start : start + len(pixels)] = np.where(ids[..., None] > 0, mixed, pixels)
    return shown


def legend(labels: LabelSet, present: Sequence[int], width: int) -> np.ndarray:
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


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write a list of predictions, an entry a line."""
    write_text_atomically(path, "".join(json.dumps(line) + "\n" for line in lines))


def write_image(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> None:
    """Write an image, uint8, in the ``format`` of the options of Pillow's ``save``."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    with atomic_write(path) as file:
        image.save(file, **options)
