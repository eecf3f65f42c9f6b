"""Files of annotations: landmarks, MAFA's tables, FMLD's XML, manifests of masked faces, classes, templates."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from benchmarks.fuzzing import images, texts
from benchmarks.fuzzing.form import CANARY, OUTSIDE, Form
from benchmarks.fuzzing.values import NUMBERS, TEXTS
from datamodules.annotated import AnnotatedFaces
from datamodules.declared_classes import read_classes
from datamodules.labels import OCCLUSION
from datamodules.landmarks import crop_box, read_landmarks
from datamodules.layouts import FMLD, MAFA, AugmentedCelebA, Folder, LaPa, Layout
from datamodules.layouts.photographs import photographs
from datamodules.pose import pose_groups
from datamodules.reading import read_image, read_mask
from datamodules.transforms import FaceTransform
from synthesis.masks.shapes import Face
from synthesis.masks.templates import laid_on, opaque_pixels, read_templates

PHOTO = images.originals("JPEG", ["RGB"])[0]
LANDMARKS = np.stack([30 + 10 * np.cos(np.arange(106)), 30 + 10 * np.sin(np.arange(106))], -1).round(2)
TRAIN_FACE = [4, 3, 9, 9, 5, 5, 8, 5, 1, 3, 8, 5, 2, 3, 1, 1, 4, -1, -1, -1, -1]
TEST_FACE = [4, 3, 9, 9, 1, 1, 3, 8, 5, 1, 2, 1, 1, 3, -1, -1, -1, -1]


def ignored(kind: str, ids: Sequence[str], error: Exception) -> None:
    """A handler of errors that continues, as the audit's."""


def read_annotated(layout: Layout) -> None:
    """Samples of a data set, the audit's list of them, and the crop of each face."""
    samples = layout.samples("all")
    layout.survey(ignored)
    faces = AnnotatedFaces(samples, FaceTransform(32, None, OCCLUSION, seed=0))
    for index in range(min(3, len(faces))):
        faces[0, index, index]


def _mafa(split: str) -> Form:
    file = f"Label{split.title()}All.mat"
    folder = f"{split}-images/images"

    def surroundings(root: Path) -> None:
        (root / folder).mkdir(parents=True)
        (root / folder / "0.jpg").write_bytes(PHOTO)

    return Form(
        f"mafa_{split}",
        file,
        lambda: [mafa_table(split, compressed) for compressed in (False, True)],
        {"annotations": lambda root: read_annotated(MAFA(root))},
        lambda rng, _: mafa_table(split, rng.random() < 0.5, rng),
        surroundings,
    )


def mafa_table(split: str, compressed: bool, rng: random.Random | None = None) -> bytes:
    """A table as MATLAB writes it; with a generator, numbers, types and shapes are changed."""
    names = ("orgImgName", "imgName", "label") if split == "train" else ("name", "label")
    numbers: Any = np.array([TRAIN_FACE if split == "train" else TEST_FACE] * 2, np.int16)
    name: Any = "0.jpg"
    key = "label_train" if split == "train" else "LabelTest"
    if rng is not None:
        numbers, name, key = _changed_face(rng, numbers, name, key)
    content: Any = np.zeros((1, 2), [(each, object) for each in names])
    for place in range(2):
        content[0, place] = (*(["0.jpg"] if split == "train" else []), name, numbers)
    if rng is not None and rng.random() < 0.15:
        content = rng.choice((np.zeros(3), "text", content.T, content[:, :0], {"name": name, "label": numbers}))
    file = io.BytesIO()
    savemat(file, {key: content}, do_compression=compressed)
    return file.getvalue()


def _changed_face(rng: random.Random, numbers: np.ndarray, name: str, key: str) -> tuple[Any, Any, str]:
    kind = rng.randrange(8)
    if kind < 4:
        changed = numbers.astype(rng.choice((np.float64, np.float64, np.complex128, np.int64)))
        for _ in range(rng.choice((1, 1, 2, 5))):
            value = rng.choice(NUMBERS[:6] + (NUMBERS if changed.dtype != np.int64 else (2**40, -5)))
            changed[rng.randrange(2), rng.randrange(numbers.shape[1])] = float(value) if value > 2**62 else value
        return changed, name, key
    if kind == 4:
        return rng.choice((numbers[0], numbers[None], numbers[:, :5], numbers[:0], 3, "text", [], {"a": 1})), name, key
    if kind == 5:
        cells = numbers.astype(object)
        cells[0, rng.randrange(numbers.shape[1])] = rng.choice(("text", np.zeros((2, 2)), {"a": 1}))
        return cells, name, key
    if kind == 6:
        odd = rng.choice((*TEXTS, f"../../../{OUTSIDE}/{CANARY}.png", 5, np.zeros(3), [], ["a", "b"]))
        return numbers, odd.replace("\ud800", "") if isinstance(odd, str) else odd, key
    return numbers, name, rng.choice(("other", "label", key))


XML = b"""<annotation><folder>f</folder><filename>0.jpg</filename><size><width>24</width><height>32</height></size>
<object><name>masked_face</name><pose>front</pose><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin>
<xmax>20</xmax><ymax>28</ymax></bndbox></object><object><name>unmasked_face</name><pose>turned sideways</pose>
<bndbox><xmin>1.5</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"""


def _photo_around(root: Path) -> None:
    (root / "0.jpg").write_bytes(PHOTO)


def manifest_line(number: int) -> dict[str, Any]:
    face = {"landmarks": LANDMARKS[:68].tolist(), "found": "detector", "type": "surgical", "style": "covering"}
    face |= {"texture": "white", "tilt": "front"}
    return {
        "id": f"{number:06d}",
        "image": "images/0.jpg",
        "mask": "masks/0.png",
        "split": ("train", "val", "test")[number % 3],
        "source": "0.jpg",
        "size": [24, 32],
        "crop": None,
        "faces": [face],
    }


def _masked_faces_around(root: Path) -> None:
    for name, content in (("images/0.jpg", PHOTO), ("masks/0.png", images.originals("PNG", ["L"])[0])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def _read_masked_faces(root: Path) -> None:
    for sample in AugmentedCelebA(root).samples("train"):
        read_image(sample.image)
        read_mask(sample.label or sample.image)


def _read_own_classes(root: Path) -> None:
    layout = Folder(root)
    layout.samples("all", labelled=False)
    layout.survey(ignored)
    str((layout.declared, layout.labels.flip_table, layout.labels.digest_of_reading))
    layout.labels.colorize(np.zeros((2, 2), np.uint8))


CLASSES = (
    b"name: mine\nclasses:\n  - {name: background, id: 0, color: [0, 0, 0]}\n  - {name: left_eye, id: 1, "
    b'color: "#cc0000"}\n  - {name: right_eye, id: 2, color: [9, 9, 9]}\n  - {name: rest, id: 255, color: [1, 1, 1]}\n'
    b"pairs: [[left_eye, right_eye]]\nleft: subject\nmaps_to:\n  lapa: {background: background, left_eye: left_eye, "
    b"right_eye: right_eye}\nsplit_seed: 3\n",
    b"classes:\n  - {name: background, id: 0}\n  - {name: face, id: 1}\n",
)
POINTS = b"""mask_a = 2, 4
mask_b = 12, 4
mask_c = 22, 4
mask_d = 2, 20
mask_e = 12, 30
mask_f = 22, 20
"""
CLOTH, LEFT = b"[cloth]\ntemplate = templates/cloth.png\n", b"[cloth_left]\ntemplate: masks/templates/cloth.png\n"
TEMPLATES = CLOTH + POINTS + LEFT + POINTS + b"[empty]\ntemplate =\n"


def _templates_around(root: Path) -> None:
    (root / "templates").mkdir()
    (root / "templates" / "cloth.png").write_bytes(images.originals("PNG", ["RGBA"])[0])


def _read_all_templates(root: Path) -> None:
    read_templates.cache_clear()
    opaque_pixels.cache_clear()
    for tilts in read_templates(root).values():
        for template in tilts.values():
            laid_on(template, Face.of(LANDMARKS[:68]), (64, 64))


def _landmarks(count: int) -> bytes:
    rows = "\n".join(f"{x:g} {y:g}" for x, y in LANDMARKS[:count])
    return f"{count}\n{rows}\n".encode()


def _use_landmarks(root: Path) -> None:
    points = read_landmarks(root / "0.txt")
    pose_groups(points.tolist())
    crop_box(points)


def _own_around(root: Path) -> None:
    for name in ("images/a.jpg", "images/b.jpg", "images/c.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(PHOTO)


def _layout_readers() -> dict[str, Callable[[Path], object]]:
    return {
        "samples": _read_masked_faces,
        "landmarks": lambda root: AugmentedCelebA(root).landmarks(),
        "survey": lambda root: AugmentedCelebA(root).survey(ignored),
    }


FORMS = (
    Form(
        "landmarks",
        "0.txt",
        lambda: [_landmarks(68), _landmarks(106)],
        {"landmarks": _use_landmarks},
        texts.table(" "),
    ),
    _mafa("train"),
    _mafa("test"),
    Form(
        "fmld.xml",
        "FMLD_annotations/test/0.xml",
        lambda: [XML],
        {"annotations": lambda root: read_annotated(FMLD(root))},
        texts.xml_file,
        _photo_around,
    ),
    Form(
        "manifest.jsonl",
        "manifest.jsonl",
        lambda: ["\n".join(json.dumps(manifest_line(number)) for number in range(3)).encode()],
        _layout_readers(),
        texts.json_lines,
        _masked_faces_around,
    ),
    Form(
        "dataset.json",
        "faces/dataset.json",
        lambda: [b'{"origin": "augmented", "count": 3, "source": "CelebA", "version": 3}', b'{"origin": "drawn"}'],
        {
            "parameters": lambda root: AugmentedCelebA(root / "faces").parameters(),
            "origin": lambda root: LaPa(root / "faces").origin,
            "photographs": photographs,
        },
        texts.json_file,
        _photo_around,
    ),
    Form(
        "classes.yaml",
        "classes.yaml",
        lambda: CLASSES,
        {
            "classes": lambda root: read_classes(root / "classes.yaml"),
            "folder": _read_own_classes,
        },
        texts.yaml_file,
        _own_around,
    ),
    Form(
        "masks.cfg",
        "masks.cfg",
        lambda: [TEMPLATES],
        {"templates": _read_all_templates},
        texts.ini_file,
        _templates_around,
    ),
)
