"""Train a command's runs, then predict a label map for every image of its data set (``predict_to``).

The label maps come as soon as their network is trained, before the runs that only score it. They lie in a folder of the
network's own, so that a later network overwrites no label map that somebody has corrected.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console

from datamodules.layouts import SPLITS, Layout, Sample
from datamodules.layouts.layout import ALL, split_folder
from deploy.announcement import announce, report_scores
from engine.processes import is_leader
from engine.stage import Run
from engine.training import execute
from foundation.errors import ConfigError, RunError
from foundation.files import remove_drafts, require_folder, require_outside, to_csv, write_text_atomically
from foundation.locks import sole_writer
from stages.command import planned
from stages.finetuning import PARSERS

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from datamodules.labels import LabelSet
    from deploy.prediction import ReadImage
    from deploy.predictor import Masks

TABLE, SHEET, LINES, LOCK = "uncertainty.csv", "label_next.jpg", "predictions.jsonl", ".predict.lock"
NEXT = 10
"""Images that are named as the next to label."""


def train_and_label(config: DictConfig) -> list[dict[str, Any]]:
    """Train a command's runs, see :func:`stages.command.train`, and label every image of its data set.

    Raises:
        ConfigError: for invalid settings.
        DataError: if data is missing or broken.
        RunError: if no image can be read.
    """
    composed, settings, runs = planned(config)
    target, console = Path(settings.predict_to), Console(highlight=False, soft_wrap=True, markup=False)
    (*_, run) = [run for run in runs if not _is_fold(run)]
    if run.stage.name not in PARSERS:
        raise ConfigError(
            f"predict_to={target} does not go with stage {run.stage.name}, which trains no parser.\n"
            f"It must be null there; predict.py predicts masks of any run."
        )
    try:
        require_outside(target, run.layout.root)
    except ConfigError as error:
        raise ConfigError(str(error).replace("out=", "predict_to=")) from error
    if settings.dry_run or not is_leader():
        return execute(runs, composed, settings.force, settings.dry_run)
    require_folder(target, "predict_to")
    folds = [other for other in runs if _is_fold(other)]
    announce(run, folds, settings.force, console)

    def label(done: Run) -> None:
        if done is run:
            label_images(run, target / run.folder.name, console)

    results = execute(runs, composed, settings.force, then=label)
    report_scores(run, folds, target / run.folder.name, console)
    return results


def _is_fold(run: Run) -> bool:
    return getattr(run.own, "fold", None) is not None and run.stage.name in PARSERS


def label_images(run: Run, out: Path, console: Console) -> None:
    """Write a label map and an overlay for each image of a run's data set, the table of their uncertainty, and the
    sheet of the ones to label next; what an interrupted command has written is not predicted again.

    ``labels/`` is for images without a label map, ``labelled/`` for the others. Names are those of the folder's own
    label maps.

    Raises:
        ConfigError: if another process writes to the folder.
        RunError: if no image can be read.
    """
    require_folder(out / "labels", "predict_to")
    images, labelled = images_of(run.layout)
    attempt = run.folder.attempts
    with sole_writer(out / LOCK, "predict_to", out):
        lines = {line["name"]: line for line in _lines(out / LINES) if line["attempt"] == attempt}
        lines = {name: line for name, line in lines.items() if name in images}
        missing = {name: path for name, path in images.items() if name not in lines}
        if missing or not (out / TABLE).is_file():
            remove_drafts(out, recursive=True)
            failed = _predict(run, missing, labelled, out, lines, console)
            if not lines:
                raise RunError(f"None of the {len(images)} images could be read, the first: {failed[0]}")
            for what in failed:
                console.print(f"Not read: {what}")
            _write_table(run, lines, out)
    chosen = sorted((line for line in lines.values() if not line["labelled"]), key=_most_uncertain)[:NEXT]
    count = sum(not line["labelled"] for line in lines.values())
    console.print(f"Label maps of {count} images without one, to be corrected and moved to yours: {out / 'labels'}")
    if chosen:
        console.print(f"Label these next ({SHEET}; {TABLE} lists all): {', '.join(line['name'] for line in chosen)}")


def images_of(layout: Layout) -> tuple[dict[str, Path], set[str]]:
    """All images of a data set by the names of their label maps, and the names of those that have one."""
    by_split = any(split_folder(layout.root, split).is_dir() for split in SPLITS)  # ids are unique in a split

    def name(split: str, sample: Sample) -> str:
        return f"{split}/{sample.id}" if by_split else sample.id

    if not by_split:
        every = {sample.id: sample.image for sample in layout.samples(ALL, labelled=False)}
    else:
        there = [split for split in SPLITS if split_folder(layout.root, split).is_dir()]
        every = {name(split, one): one.image for split in there for one in layout.samples(split, labelled=False)}
    labelled = {name(split, one) for split in layout.labelled_splits for one in layout.samples(split)}
    return dict(sorted(every.items())), labelled


def _lines(file: Path) -> list[dict[str, Any]]:
    """The images that are done; [] if the list is absent or not as :func:`_predict` writes it."""
    try:
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return found if all({"name", "attempt", "labelled", "uncertainty"} <= line.keys() for line in found) else []
    except (OSError, ValueError, AttributeError):
        return []


def _predict(
    run: Run,
    images: Mapping[str, Path],
    labelled: set[str],
    out: Path,
    lines: dict[str, dict[str, Any]],
    console: Console,
) -> list[str]:
    """Predict images and add a line of each to ``lines``; returns what could not be read."""
    from deploy.prediction import predict_images, write_lines
    from deploy.predictor import load
    from engine.environment import device_of

    device = device_of(run.settings.trainer.accelerator)
    predictor = load(str(run.folder.path), faces="whole", device=device, trust=_own_package(run), uncertainty=True)
    write = functools.partial(_write, out=out, labelled=labelled, coloured=_in_colours(run.layout))
    failed: list[str] = []
    try:
        for line in predict_images(predictor, images, write, console, failed):
            lines[line["name"]] = line | {"attempt": run.folder.attempts}
    finally:  # also after an interruption
        write_lines(out / LINES, list(lines.values()))
    return failed


def _own_package(run: Run) -> str | None:
    """The package of the user's own network, which this command has just trained."""
    network = run.settings.model.network
    return None if network is None else str(network["_target_"]).partition(".")[0]


def _in_colours(layout: Layout) -> bool:
    """Whether the data set's label maps are RGB images, by the first of them."""
    from PIL import Image

    from datamodules.coloured_labels import COLOURED

    first = next((sample.label for split in layout.labelled_splits for sample in layout.samples(split)), None)
    if first is None or not layout.labels.coloured:
        return False
    with Image.open(first) as image:
        return image.mode in COLOURED


def _write(image: ReadImage, masks: Masks, out: Path, labelled: set[str], coloured: bool) -> dict[str, Any]:
    """Write label map and overlay of an image; returns its line."""
    from deploy.images import enlarged
    from deploy.images import read as read_image
    from deploy.prediction import overlay, write_image

    ids = enlarged(masks.label, image.size, image.factor)
    folder = "labelled" if image.name in labelled else "labels"
    pixels = masks.labels.colorize(ids) if coloured else indexed(ids, masks.labels)
    write_image(out / folder / f"{image.name}.png", pixels, format="PNG")
    photo = image.photo or read_image(image.path)
    write_image(out / "overlays" / f"{image.name}.jpg", overlay(photo.pixels, masks), format="JPEG", quality=92)
    return {
        "name": image.name,
        "image": str(image.path),
        "labelled": image.name in labelled,
        "uncertainty": round(masks.uncertainty or 0.0, 6),
    }


def indexed(ids: np.ndarray, labels: LabelSet) -> Image.Image:
    """A label map (H, W) uint8 as an indexed image: its indices are the ids, its palette has the classes' colours."""
    from PIL import Image

    image = Image.fromarray(ids)
    image.putpalette([value for colour in labels.palette for value in colour])
    return image


def _most_uncertain(line: Mapping[str, Any]) -> tuple[float, str]:
    return -line["uncertainty"], line["name"]


def _write_table(run: Run, lines: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    ordered = sorted(lines.values(), key=_most_uncertain)
    _write_sheet([line for line in ordered if not line["labelled"]][:NEXT], run.layout, out)
    rows = [
        [place, line["name"], f"{line['uncertainty']:.4f}", "yes" if line["labelled"] else "no", line["image"]]
        for place, line in enumerate(ordered, start=1)
    ]
    write_text_atomically(out / TABLE, to_csv([["rank", "name", "uncertainty", "labelled", "image"], *rows]))


def _write_sheet(lines: Sequence[Mapping[str, Any]], layout: Layout, out: Path) -> None:
    from datamodules.reading import read_label
    from deploy.next_labels import contact_sheet
    from deploy.prediction import write_image

    faces = [
        (
            line["name"],
            Path(line["image"]),
            read_label(out / "labels" / f"{line['name']}.png", layout.labels),
            f"uncertainty {line['uncertainty']:.3f}",
        )
        for line in lines
    ]
    if faces:
        sheet = contact_sheet(faces, layout.labels, f"{layout.data_name or layout.title}: label these next")
        write_image(out / SHEET, sheet, format="JPEG", quality=92)
