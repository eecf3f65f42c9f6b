"""The worst faces of an audit on one contact sheet: images with label overlay and findings."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
from PIL import Image, ImageDraw
from PIL.ImageFont import load_default

from curation.audit.findings import KINDS, Finding, Findings
from curation.audit.sides import SCATTERED, place, side_names
from datamodules.labels import LabelSet
from datamodules.layouts import Layout, Sample
from datamodules.merging import merge
from datamodules.reading import read_ids, read_image, read_label
from foundation.errors import BrokenFileError

MOST = 60
COLUMNS = 6
SIDE, TEXT, GAP, HEAD = 240, 64, 8, 56  # pixels: an image, the lines below it, between tiles, the sheet's head
LINES, LETTERS = 4, 40  # of text below an image
PAPER, INK, GREY = (255, 255, 255), (20, 20, 20), (200, 200, 200)
COVER = 0.45
"""Opacity of the label overlay."""


def contact_sheet(
    findings: Findings, samples: Sequence[Sample], layout: Layout, labels: LabelSet, order: str
) -> Image.Image | None:
    """Faces with findings, of each kind in turn, at most :data:`MOST`; None if no face has any.

    L and R mark left and right eye, brow and ear according to the labels.
    """
    faces = _faces(findings, samples)
    if not faces:
        return None
    chosen = _in_turn(faces)
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    width = max(3, columns) * (SIDE + GAP) + GAP  # the head needs three
    sheet = Image.new("RGB", (width, HEAD + rows * (SIDE + TEXT + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    side = "the person's own" if layout.labels.own_sides else "the viewer's"
    draw.text((GAP, 6), f"{layout.title}: {len(chosen)} of {len(faces)} faces with findings", INK, load_default(18))
    draw.text((GAP, 32), f"L, R: left and right by the labels ({side}, as published)", INK, load_default(13))
    for index, (sample, found) in enumerate(chosen):
        left = GAP + index % columns * (SIDE + GAP)
        top = HEAD + index // columns * (SIDE + TEXT + GAP)
        sheet.paste(_tile(sample, labels, order), (left, top))
        draw.multiline_text((left, top + SIDE + 2), _caption(sample, found), INK, load_default(11), spacing=2)
    return sheet


def _faces(findings: Findings, samples: Sequence[Sample]) -> dict[Sample, list[Finding]]:
    """The faces with findings, each with all of its findings."""
    by_id = {sample.id: sample for sample in samples}
    faces: dict[Sample, list[Finding]] = {}
    for finding in findings:
        sample = finding.sample or by_id.get(finding.id)
        if sample is not None:
            faces.setdefault(sample, []).append(finding)
    return faces


def _in_turn(faces: dict[Sample, list[Finding]]) -> list[tuple[Sample, list[Finding]]]:
    """Faces to show, sorted by their first finding; if there are too many, evenly over the kinds."""
    kinds: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    for sample, found in faces.items():
        kinds[found[0].kind].append(sample)
    turns = [sample for turn in zip_longest(*kinds.values()) for sample in turn if sample is not None]
    shown = set(turns[:MOST])
    return [(sample, faces[sample]) for group in kinds.values() for sample in group if sample in shown]


def _caption(sample: Sample, found: Iterable[Finding]) -> str:
    """Id and findings in a few short lines."""
    kinds: dict[str, list[str]] = {}
    for finding in found:
        kinds.setdefault(finding.kind, []).append(finding.text)
    words = []
    for kind, texts in kinds.items():
        # Sides and duplicates cannot be seen in the image alone.
        detail = texts[0].rpartition(": ")[2] if kind == "unclear" else texts[0] if kind == "duplicate" else ""
        words.append(KINDS[kind] + (f" ({detail.rstrip('.')})" if detail else ""))
    lines = [sample.id if len(sample.id) <= LETTERS else f"{sample.id[: LETTERS - 4]} ..."]
    for word in words:
        lines += textwrap.wrap(word, LETTERS)
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][: LETTERS - 4] + " ..."])


def _tile(sample: Sample, labels: LabelSet, order: str) -> Image.Image:
    """A face (SIDE, SIDE) with label overlay; grey without an image."""
    tile = Image.new("RGB", (SIDE, SIDE), GREY)
    try:
        image = Image.fromarray(read_image(sample.image, SIDE).pixels)
    except BrokenFileError:
        ImageDraw.Draw(tile).text((SIDE // 2, SIDE // 2), "no image", INK, load_default(14), anchor="mm")
        return tile
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    label = _label(sample, labels, order)
    if label is not None:
        colours = Image.fromarray(labels.colorize(label)).resize(size, Image.Resampling.NEAREST)
        shown = Image.fromarray((label > 0).astype(np.uint8) * round(255 * COVER)).resize(size)
        image = Image.composite(colours, image, shown)
        _write_sides(image, label, labels)
    tile.paste(image)
    return tile


def _label(sample: Sample, labels: LabelSet, order: str) -> np.ndarray | None:
    """The label map (H, W) of a face, known ids or not; None if it is missing or unreadable."""
    with contextlib.suppress(BrokenFileError):
        if sample.parts is not None:
            return merge(sample, order, labels)
        if sample.label is not None and not (labels.binary and labels.mask is None):
            return read_label(sample.label, labels) if labels.binary else read_ids(sample.label, labels)
    return None


def _write_sides(image: Image.Image, label: np.ndarray, labels: LabelSet) -> None:
    draw = ImageDraw.Draw(image)
    scale = np.array(image.size) / label.shape[::-1]
    for sides in side_names(labels).values():
        for letter, name in zip("RL" if labels.own_sides else "LR", sides, strict=True):
            where = place(label == labels.classes.index(name))
            if where is not None and where.spread <= SCATTERED:
                x, y = (where.centre + 0.5) * scale
                draw.text((x, y), letter, PAPER, load_default(14), anchor="mm", stroke_width=2, stroke_fill=INK)
