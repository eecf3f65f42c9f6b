"""Damages to one face of a data set, each with the findings that the audit must report."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.labels import LAPA
from datamodules.layouts.celebamask_hq import MAPPING, MASKS
from datamodules.reading import read_label
from tests.celebamask_faces import PARTITION

Found = dict[str, list[str]]


def mirror(*files: Path) -> None:
    """Flip images, whatever they hold."""
    for path in files:
        with Image.open(path) as file:
            flipped = file.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        flipped.save(path)


# LaPa: each damage is done to one face of the split val, whose image and label map it is given.


def truncate_image(image: Path, label: Path) -> Found:  # noqa: ARG001
    image.write_bytes(image.read_bytes()[:-200])
    return {"unreadable_image": [image.stem]}


def truncate_label(image: Path, label: Path) -> Found:
    label.write_bytes(label.read_bytes()[:-30])
    return {"unreadable_label": [image.stem]}


def cut_the_end_of_a_label(image: Path, label: Path) -> Found:
    """All pixels are there, but not the last chunk: no decoder minds."""
    label.write_bytes(label.read_bytes()[:-12])
    return {"unreadable_label": [image.stem]}


def colour_label(image: Path, label: Path) -> Found:
    Image.fromarray(LAPA.colorize(read_label(label, LAPA))).save(label)
    return {"unreadable_label": [image.stem]}


def unknown_id(image: Path, label: Path) -> Found:
    ids = read_label(label, LAPA).copy()
    ids[0, 0] = 11
    Image.fromarray(ids).save(label)
    return {"unknown_ids": [image.stem]}


def scatter_parts(image: Path, label: Path) -> Found:
    """As where ids were interpolated: along a border of classes 0 and 10 lie eyes and brows."""
    ids = read_label(label, LAPA).copy()
    ids[[0, -1]] = np.resize([2, 3, 4, 5], 64)
    ids[:, [0, -1]] = np.resize([2, 3, 4, 5], (64, 1))
    Image.fromarray(ids).save(label)
    return {"strewn": [image.stem]}


def ignored_pixels(image: Path, label: Path) -> Found:  # noqa: ARG001
    """Which are no finding."""
    ids = read_label(label, LAPA).copy()
    ids[0] = 255
    Image.fromarray(ids).save(label)
    return {}


def crop_label(image: Path, label: Path) -> Found:
    Image.fromarray(read_label(label, LAPA)[:-1]).save(label)
    return {"wrong_size": [image.stem]}


def clear_label(image: Path, label: Path) -> Found:
    Image.fromarray(np.zeros_like(read_label(label, LAPA))).save(label)
    return {"nothing_labelled": [image.stem]}


def remove_label(image: Path, label: Path) -> Found:
    label.unlink()
    return {"missing_label": [image.stem]}


def remove_image(image: Path, label: Path) -> Found:  # noqa: ARG001
    image.unlink()
    return {"missing_image": [image.stem]}


def remove_split(image: Path, label: Path) -> Found:  # noqa: ARG001
    shutil.rmtree(image.parents[1])
    return {"missing_folder": ["val/images", "val/labels"]}


def second_image(image: Path, label: Path) -> Found:  # noqa: ARG001
    shutil.copy(image, image.with_suffix(".png"))
    return {"same_name": [image.stem]}


def copy_into_another_split(image: Path, label: Path) -> Found:
    test = image.parents[2] / "test"
    shutil.copy(image, test / "images" / "copy.jpg")
    shutil.copy(label, test / "labels" / "copy.png")
    return {"duplicate": [image.stem, "copy"]}


def mirror_face(image: Path, label: Path) -> Found:
    mirror(image, label)
    return {"mirrored": [image.stem]}


def mirror_face_and_ids(image: Path, label: Path) -> Found:
    """As a flip should be."""
    mirror(image, label)
    Image.fromarray(LAPA.flip_table[read_label(label, LAPA)]).save(label)
    return {}


def exchange_brows(image: Path, label: Path) -> Found:
    table = np.arange(256, dtype=np.uint8)
    table[[2, 3]] = 3, 2
    Image.fromarray(table[read_label(label, LAPA)]).save(label)
    return {"unclear": [image.stem]}


def turn_upside_down(image: Path, label: Path) -> Found:
    """An image on its head is odd, but its sides are right."""
    for path in (image, label):
        with Image.open(path) as file:
            turned = file.transpose(Image.Transpose.ROTATE_180)
        turned.save(path)
    return {}


LAPA_DAMAGES = [
    truncate_image,
    truncate_label,
    cut_the_end_of_a_label,
    colour_label,
    unknown_id,
    scatter_parts,
    ignored_pixels,
    crop_label,
    clear_label,
    remove_label,
    remove_image,
    remove_split,
    second_image,
    copy_into_another_split,
    mirror_face,
    mirror_face_and_ids,
    exchange_brows,
    turn_upside_down,
]


# CelebAMask-HQ: each damage is done to one face.


def mask(root: Path, face: int, part: str) -> Path:
    return root / MASKS / "0" / f"{face:05d}_{part}.png"


def values(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file.convert("L")).copy()


def truncate_mask(root: Path) -> Found:
    mask(root, 7, "nose").write_bytes(mask(root, 7, "nose").read_bytes()[:-40])
    return {"unreadable_label": ["7"]}


def empty_mask(root: Path) -> Found:
    Image.fromarray(0 * values(mask(root, 7, "nose"))).save(mask(root, 7, "nose"))
    return {"empty_part": ["7"]}


def empty_masks(root: Path) -> Found:
    for path in (root / MASKS / "0").glob("00007_*"):
        Image.fromarray(0 * values(path)).save(path)
    return {"nothing_labelled": ["7"], "empty_part": ["7"]}


def no_masks(root: Path) -> Found:
    for path in (root / MASKS / "0").glob("00007_*"):
        path.unlink()
    return {"missing_label": ["7"]}


def mask_of_another_size(root: Path) -> Found:
    Image.fromarray(values(mask(root, 7, "nose"))[::2, ::2]).save(mask(root, 7, "nose"))
    return {"parts_differ": ["7"]}


def masks_of_half_size(root: Path) -> Found:
    """As published: masks of 512 px for images of 1024."""
    for path in (root / MASKS / "0").glob("00007_*"):
        Image.fromarray(values(path)[::2, ::2]).save(path)
    return {}


def image_of_another_ratio(root: Path) -> Found:
    path = root / "CelebA-HQ-img" / "7.jpg"
    with Image.open(path) as file:
        cut = file.crop((0, 0, file.width, file.height - 9))
    cut.save(path)
    return {"wrong_size": ["7"]}


def grey_mask(root: Path) -> Found:
    found = values(mask(root, 7, "nose"))
    found[np.nonzero(found)[0][0]] //= 2
    Image.fromarray(found).save(mask(root, 7, "nose"))
    return {"odd_values": ["7"]}


def no_image(root: Path) -> Found:
    (root / "CelebA-HQ-img" / "7.jpg").unlink()
    return {"missing_image": ["7"]}


def same_pixels_in_another_file(root: Path) -> Found:
    """Two files of other bytes, for one is written without loss."""
    with Image.open(root / "CelebA-HQ-img" / "7.jpg") as file:
        file.save(root / "CelebA-HQ-img" / "9.png")
    (root / "CelebA-HQ-img" / "9.jpg").unlink()
    return {"duplicate": ["7", "9"]}


def foreign_files(root: Path) -> Found:
    shutil.copy(mask(root, 7, "nose"), mask(root, 7, "hand"))
    shutil.copy(root / "CelebA-HQ-img" / "7.jpg", root / "CelebA-HQ-img" / "sheet.jpg")
    return {"foreign_file": ["sheet.jpg", "00007_hand.png"]}


def no_mapping_row(root: Path) -> Found:
    lines = (root / MAPPING).read_text().splitlines()
    (root / MAPPING).write_text("\n".join(line for line in lines if line.split()[0] != "7"))
    return {"no_mapping": ["7"]}


def half_a_mapping_row(root: Path) -> Found:
    lines = (root / MAPPING).read_text().splitlines()
    (root / MAPPING).write_text("\n".join("7 12" if line.split()[0] == "7" else line for line in lines))
    return {"broken_row": [f"{MAPPING}:9"], "no_mapping": ["7"]}


def no_partition_row(root: Path) -> Found:
    name = (root / MAPPING).read_text().splitlines()[8].split()[2]
    lines = (root / PARTITION).read_text().splitlines()
    (root / PARTITION).write_text("\n".join(line for line in lines if not line.startswith(name)))
    return {"no_split": ["7"]}


def no_lists(root: Path) -> Found:
    (root / MAPPING).unlink()
    (root / PARTITION).unlink()
    return {"missing_list": [MAPPING, PARTITION]}


def all_at_once(root: Path) -> Found:
    """Nothing is kept from being found by another finding."""
    done = [no_mapping_row(root), foreign_files(root), grey_mask(root)]
    (root / "CelebA-HQ-img" / "7.jpg").write_bytes(b"no image")
    return {"unreadable_image": ["7"], **done[0], **done[1], **done[2]}
