"""Images, masks, label maps and part masks, with what reads them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.fuzzing import images
from benchmarks.fuzzing.form import Form, WrongResultError
from curation.audit.faces import Inspection
from datamodules.labels import CELEBAMASK_HQ, LAPA, OCCLUSION
from datamodules.layouts.sample import Parts, Sample
from datamodules.merging import merge
from datamodules.reading import (
    ImageFiles,
    LabelFiles,
    read_image,
    read_mask,
    read_part,
    read_photograph,
    require_complete,
)
from synthesis.masks.shapes import Face
from synthesis.masks.templates import Template, laid_on, opaque_pixels

SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif"}
LEAST = 8
COLOURED = dataclasses.replace(LAPA, name="mine", coloured=True, ignored=True, ignored_colour=(1, 2, 3))


def _agree(files: ImageFiles | LabelFiles) -> None:
    """The header's sizes are those of the pixels: a cache is laid out by them."""
    pixels = files.pixels(0)
    frame = files.frame(0)
    if frame.shape != pixels.shape[:2] or pixels.dtype != np.uint8:
        raise WrongResultError(f"shape {frame.shape} by the header, {pixels.shape} {pixels.dtype} decoded")


def _image_form(form: str) -> Form:
    name = f"image.{SUFFIXES[form]}"
    return Form(
        f"image_{SUFFIXES[form]}",
        name,
        lambda: images.originals(form),
        {
            "image": lambda folder: read_image(folder / name),
            "image, shrunk": lambda folder: _agree(ImageFiles((folder / name,), LEAST)),
            "image, full size": lambda folder: _agree(ImageFiles((folder / name,))),
            "image as stored": lambda folder: read_image(folder / name, LEAST, upright=False),
            "photograph": lambda folder: read_photograph(folder / name),
            "grey photograph": lambda folder: read_photograph(folder / name, grey=True),
            "complete": lambda folder: require_complete(folder / name),
            "audit": lambda folder: Inspection(LAPA, "official")(Sample("image", folder / name)),
        },
        images.maker(form),
    )


def _of_any(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    """A PNG by its structure in most cases, else another form: files' names do not decide what they hold."""
    return images.maker(rng.choice(("PNG", "PNG", "PNG", *images.FORMATS)))(rng, originals)


def _png(*modes: str) -> list[bytes]:
    return images.originals("PNG", modes)


def _with_image(folder: Path) -> None:
    (folder / "image.png").write_bytes(images.originals("PNG", ["RGB"])[0])


def _parts(folder: Path) -> Sample:
    return Sample("0", folder / "image.png", parts=Parts(folder, "00000", ("skin", "hair")))


def _with_hair(folder: Path) -> None:
    _with_image(folder)
    (folder / "00000_hair.png").write_bytes(images.originals("PNG", ["RGB"])[0])


def _template(folder: Path) -> None:
    opaque_pixels.cache_clear()
    points = np.array([[4, 4], [12, 4], [20, 4], [4, 20], [12, 22], [20, 20]], np.float32)
    landmarks = np.stack([10 * np.cos(np.arange(68)) + 30, 10 * np.sin(np.arange(68)) + 30], -1)
    laid_on(Template(folder / "template.png", points), Face.of(landmarks), (64, 64))


FORMS = (
    *map(_image_form, images.FORMATS),
    Form(
        "mask",
        "mask.png",
        lambda: _png("L", "1", "P", "RGB", "RGBA", "I;16"),
        {
            "mask": lambda folder: read_mask(folder / "mask.png"),
            "label of two classes": lambda folder: _agree(LabelFiles((folder / "mask.png",), OCCLUSION)),
        },
        _of_any,
    ),
    Form(
        "label_map",
        "label.png",
        lambda: _png("L", "P", "L", "RGB", "RGBA"),
        {
            "ids": lambda folder: _agree(LabelFiles((folder / "label.png",), LAPA)),
            "colours": lambda folder: _agree(LabelFiles((folder / "label.png",), COLOURED)),
            "audit": lambda folder: Inspection(LAPA, "official")(
                Sample("0", folder / "image.png", folder / "label.png")
            ),
        },
        _of_any,
        _with_image,
    ),
    Form(
        "part_mask",
        "00000_skin.png",
        lambda: _png("RGB", "L", "P", "1"),
        {
            "part": lambda folder: read_part(folder / "00000_skin.png"),
            "merging": lambda folder: merge(_parts(folder), "official", CELEBAMASK_HQ),
            "audit": lambda folder: Inspection(CELEBAMASK_HQ, "official")(_parts(folder)),
        },
        _of_any,
        _with_hair,
    ),
    Form("mask_template", "template.png", lambda: _png("RGBA", "P"), {"template": _template}, _of_any),
)
