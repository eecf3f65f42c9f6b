"""Photographs to render masks on: CelebA as published (Liu et al., ICCV 2015), LaPa, CelebAMask-HQ, or any folder.

CelebA:
``img_align_celeba/`` (178x218) or ``img_celeba/`` (in the wild), also one deeper as Kaggle packs it, or in ``Img/`` as
its authors do; next to them, or in their ``Eval/`` and ``Anno/``, ``list_eval_partition``, ``identity_CelebA``,
``list_bbox_celeba`` (which fits the wild images only) as ``.txt``, separated by blanks, or ``.csv``; and
``landmarks_68/`` of synthetic faces. A partial copy of the data set is valid.
LaPa, CelebAMask-HQ and a folder with ``classes.yaml`` give images and splits, LaPa also landmarks. Any other folder
gives all images, at any depth, except sets of masked faces that were built in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.declared_classes import FILE
from datamodules.image_files import is_image
from datamodules.layouts.celebamask_hq import IMAGES as CELEBA_HQ_IMAGES
from datamodules.layouts.celebamask_hq import CelebAMaskHQ
from datamodules.layouts.folder import Folder
from datamodules.layouts.lapa import IMAGES as LAPA_IMAGES
from datamodules.layouts.lapa import LaPa
from datamodules.layouts.layout import (
    ALL,
    SPLITS,
    Layout,
    files_below,
    folder_with,
    left_out,
    names_in,
    recorded_origin,
    rows_of_list,
    sorted_images,
)
from datamodules.layouts.sample import Box
from foundation.errors import DataError
from foundation.names import to_bytes
from foundation.notices import notice

IMAGE_FOLDERS = ("img_align_celeba", "img_celeba")


@dataclass(frozen=True)
class Photograph:
    """An image to render masks on.

    Args:
        id: its path below the source's folder, parted by ``/``.
        image: its file.
        split: ``train``, ``val`` or ``test``; None if no list names it.
        identity: the person; None if no list names it.
        box: left, top, right, bottom of the face, in pixels; None if no list has it.
        landmarks: a text file of 68 or 106 landmarks; None if there is none.
    """

    id: str
    image: Path
    split: str | None = None
    identity: str | None = None
    box: Box | None = None
    landmarks: Path | None = None


def photographs(root: Path, key: str = "source") -> list[Photograph]:
    """The images of a folder, in CelebA's or any other layout, sorted by id; images are not opened.

    Args:
        root: the folder.
        key: the setting that names it, for messages.

    Raises:
        DataError: if there is no image, or a list of CelebA has an invalid row.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{key}={root} is not a folder.\nExpected: CelebA's folder, or any folder of photographs.")
    found = list(_found(root))
    if not found:
        raise DataError(
            f"{key}={root} holds no images.\nExpected: JPEG, PNG or other images, at any depth; or CelebA as published "
            f"({' or '.join(IMAGE_FOLDERS)}, list_eval_partition.txt)."
        )
    return found


def _found(root: Path) -> Iterator[Photograph]:
    if (folder := _image_folder(root)) is not None:
        return _celeba(root, folder)
    if (root / FILE).is_file():
        return _of_layout(Folder(root))
    if folder_with(root, LAPA_IMAGES) is not None:
        return _of_layout(LaPa(root))
    if folder_with(root, (CELEBA_HQ_IMAGES,)) is not None:
        return _of_layout(CelebAMaskHQ(root))
    return _any(root)


def _of_layout(layout: Layout) -> Iterator[Photograph]:
    """The images of a labelled data set, with their splits if all three exist."""
    try:
        splits = {sample.image: split for split in SPLITS for sample in layout.samples(split, labelled=False)}
    except DataError:
        splits = {}
    for sample in layout.samples(ALL, labelled=False):
        places = (sample.image.parent.parent / name / f"{sample.id}.txt" for name in ("landmarks_68", "landmarks"))
        landmarks = next((place for place in places if place.is_file()), None)
        name = sample.image.relative_to(layout.root).as_posix()
        yield Photograph(name, sample.image, splits.get(sample.image), landmarks=landmarks)


def is_aligned(root: Path) -> bool:
    """Whether a folder holds CelebA's aligned images, each of which is one face."""
    folder = _image_folder(Path(root))
    return folder is not None and IMAGE_FOLDERS[0] in folder.relative_to(root).parts


def _image_folder(root: Path) -> Path | None:
    for name in IMAGE_FOLDERS:
        for folder in (root / name / name, root / name, root / "Img" / name):
            if any(is_image(folder / file) for file in names_in(folder)):
                return folder
    return None


def _celeba(root: Path, folder: Path) -> Iterator[Photograph]:
    codes = {row[0]: row[1] for row in _rows(root, "list_eval_partition", 2)}
    for name, code in codes.items():
        if code not in ("0", "1", "2"):
            raise DataError(
                f"{root / 'list_eval_partition'} puts {name} into split {code}.\n"
                f"Expected: 0, 1 or 2 (train, val, test); take CelebA's list."
            )
    identities = {row[0]: row[1] for row in _rows(root, "identity_CelebA", 2)}
    wild = IMAGE_FOLDERS[0] not in folder.relative_to(root).parts
    boxes = {row[0]: row[1:] for row in _rows(root, "list_bbox_celeba", 5)} if wild else {}
    images, others = sorted_images(folder, names_in(folder))
    if others:
        notice(f"{left_out(folder, others)}.")
    for name in images:
        image = folder / name
        landmarks = root / "landmarks_68" / f"{image.stem}.txt"
        yield Photograph(
            image.relative_to(root).as_posix(),
            image,
            SPLITS[int(codes[name])] if name in codes else None,
            identities.get(name),
            _corners(root, name, boxes[name]) if name in boxes else None,
            landmarks if landmarks.is_file() else None,
        )


def _any(root: Path) -> Iterator[Photograph]:
    masked = (root / "images").is_dir() and (root / "masks").is_dir()  # of images with masks, the images
    folder = root / "images" if masked else root
    # A set of masked faces that was built in this folder is left out.
    names = files_below(folder, lambda below: recorded_origin(below) == "augmented")
    images, others = sorted_images(folder, names)
    if others:
        notice(f"{left_out(folder, others)}.")
    for name in images:
        image = folder / name
        yield Photograph(image.relative_to(root).as_posix(), image)


def digest(images: Sequence[Photograph]) -> str:
    """Digest of the images, their files' sizes and times, and their rows in the lists."""
    lines = []
    for image in images:
        try:
            status = image.image.stat()
            size_and_time = status.st_size, status.st_mtime_ns
        except OSError:  # a broken link: counted as unreadable
            size_and_time = 0, 0
        lines.append(repr((image.id, image.split, image.identity, image.box, *size_and_time)))
    return hashlib.sha256(to_bytes("\n".join(lines))).hexdigest()


def _rows(root: Path, name: str, columns: int) -> Iterator[list[str]]:
    """The rows of one of CelebA's lists, ``.txt`` or ``.csv``, without its header (a count, names of columns)."""
    places = (root / folder / f"{name}{suffix}" for folder in ("", "Eval", "Anno") for suffix in (".txt", ".csv"))
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return iter(())
    return rows_of_list(file, columns, lambda line, first: line <= 2 and not (Path(first).suffix and is_image(first)))


def _corners(root: Path, name: str, row: list[str]) -> Box:
    try:
        x, y, width, height = (float(value) for value in row)
    except ValueError as error:
        raise DataError(f"{root / 'list_bbox_celeba'}: {name} has a box {row}.\nExpected: four numbers.") from error
    return x, y, x + width, y + height
