"""Faces in Pascal VOC's XML, masked, masked incorrectly, or bare: FMLD, and sets in its form.

FMLD (Batagelj et al., 2021): ``FMLD_annotations/{train,test}/*.xml`` (or ``train`` and ``test`` in the root), and the
images of MAFA and WIDER FACE anywhere below the root, found by their names. AIZOO's set: ``train`` and ``val`` with
images and XML next to each other. Kaggle's face mask detection: ``images`` and ``annotations`` without splits, all for
the test. An image next to its XML, or in the folder ``images`` next to that of the XML, is found by the XML's own name,
since many a ``<filename>`` is wrong.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from datamodules.layouts.annotated import AnnotatedLayout, Broken
from datamodules.layouts.layout import ALL, SPLIT_FOLDERS, SPLITS, names_in
from datamodules.layouts.sample import Annotation, Box, Sample
from foundation.errors import BrokenFileError
from foundation.paths import ordinary

KINDS = {
    "masked_face": "masked",
    "incorrectly_masked_face": "incorrect",
    "unmasked_face": "bare",  # FMLD
    "with_mask": "masked",
    "mask_weared_incorrect": "incorrect",
    "without_mask": "bare",  # Kaggle
    "face_mask": "masked",
    "face": "bare",  # AIZOO
}
INVALID = ("invalid_face",)
"""Objects that the data set's authors leave out."""
POSES = {"front": "frontal", "turned sideways": "turned", "turned_sideways": "turned"}
WITHOUT_SPLIT = ("annotations", "Annotations")
IMAGE_FOLDERS = ("images", "JPEGImages")
LARGEST = 65_535
"""Largest coordinate of a box, in pixels: that of the largest JPEG."""


class FMLD(AnnotatedLayout):
    """Reads annotations in VOC's XML; faces marked difficult or invalid are left out, as in FMLD's authors' test."""

    name = "fmld"
    title = "FMLD"
    published = (
        "FMLD_annotations/train/*.xml, FMLD_annotations/test/*.xml,\n"
        "and the images of MAFA and WIDER FACE, anywhere below;\n"
        "or train|val|test / *.xml next to their images; or annotations/*.xml and images/*\nDo one of:"
    )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:  # noqa: ARG002 (they come with the boxes)
        """The faces of a split, by their files' names; several may share an image. See :meth:`Layout.samples`."""
        files = [file for part in (SPLITS if split == ALL else (split,)) for file in self._files(part)]
        if not files:
            named = self.root / "FMLD_annotations" / ("test" if split == ALL else split)
            raise self.missing(named if named.parent.is_dir() else self.root)
        return self._intact((one for file in files for one in self._faces(file)), split)

    def _files(self, split: str) -> list[Path]:
        folders = [
            place / name / below
            for name in SPLIT_FOLDERS.get(split, (split,))
            for place in (self.root / "FMLD_annotations", self.root)
            for below in ("", *WITHOUT_SPLIT)
        ]
        files = [file for folder in folders for file in _xml_in(folder)]
        if not files and split == "test":  # no split at all
            files = [file for below in WITHOUT_SPLIT for file in _xml_in(self.root / below)]
        return files

    @functools.cached_property
    def _images(self) -> tuple[dict[str, Path], dict[Path, Path]]:
        """The images by their names, and by their paths without extension."""
        images = self._images_below()
        return {path.name: path for path in images}, {path.with_suffix(""): path for path in images}

    def _image(self, file: Path, name: str) -> Path | None:
        """The image of an XML file: next to it by the file's name, or anywhere by the name that it gives."""
        by_name, by_place = self._images
        for folder in (file.parent, *(file.parent.parent / folder for folder in IMAGE_FOLDERS)):
            image = by_place.get(folder / file.stem)
            if image is not None:
                return image
        return by_name.get(name)

    def _faces(self, file: Path) -> Iterator[Sample | Broken]:
        try:
            with ordinary(file).open("rb") as content:
                tree = ElementTree.parse(content).getroot()  # noqa: S314 (expat since 2.6 limits entity expansion)
        except Exception as error:
            yield Broken("unreadable file", f"{file} is not Pascal VOC's XML ({error}). Take it as published.")
            return
        name = Path((tree.findtext("filename") or "").strip().replace("\\", "/")).name
        image = self._image(file, name)
        if image is None:
            yield Broken("missing image", f"{file} annotates the image {name}, which is missing below {self.root}.")
            return
        for number, face in enumerate(tree.iter("object")):
            written = (face.findtext("name") or "").strip()
            kind = written.lower()  # copies spell With_Mask
            if kind in INVALID or (face.findtext("difficult") or "").strip() == "1":
                continue
            if kind not in KINDS:
                expected = f"Expected: one of {', '.join((*KINDS, *INVALID))}."
                yield Broken("unknown name", f"{file} has an object of the unknown name {written!r}. {expected}")
                continue
            box = _box(face)
            if box is None:
                yield Broken("empty box", f"{file} has an empty or invalid box for object {number + 1}, {kind}.")
                continue
            if _is_outside(box, tree, image):
                yield Broken("box outside", f"{file} has a box outside of {image} for object {number + 1}, {kind}.")
                continue
            pose = (face.findtext("pose") or "").strip()
            groups = [f"kind/{KINDS[kind]}"] + ([f"pose/{POSES[pose]}"] if pose in POSES else [])
            yield Sample(f"{file.stem}_{number}", image, annotation=Annotation(file, box), groups=tuple(groups))


def _xml_in(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder) if name.lower().endswith(".xml")]


def _is_outside(box: Box, tree: ElementTree.Element, image: Path) -> bool:
    """Whether no pixel of a box is in its image, as which the network would see padding alone.

    The sizes that annotations give may be wrong; the image's own, which takes longer, is read if they say so.
    """
    given = (tree.findtext(f"size/{side}", "").strip() for side in ("width", "height"))
    width, height = (int(side) if side.isascii() and side.isdecimal() else 0 for side in given)
    if not _misses(box, width, height):
        return False
    try:
        from datamodules.decoding import opened  # Pillow: planning other data sets does without

        with opened(image, f"Cannot read the image {image}") as file:
            return _misses(box, *file.size)
    except BrokenFileError:  # named where it is read
        return False


def _misses(box: Box, width: int, height: int) -> bool:
    left, top, right, low = box
    return right <= 0 or low <= 0 or left >= width or top >= height


def _box(face: ElementTree.Element) -> Box | None:
    """Left, top, right and bottom of a face; None if that is no box of an image."""
    try:
        left, top, right, low = (
            float(face.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        return None
    edges = (left, top, right, low)
    if not all(math.isfinite(edge) and abs(edge) <= LARGEST for edge in edges) or right <= left or low <= top:
        return None
    return edges
