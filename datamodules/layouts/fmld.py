"""FMLD (Batagelj et al., 2021): faces of MAFA and WIDER FACE in Pascal VOC's XML, masked, masked incorrectly, or bare.

``FMLD_annotations/train/*.xml`` and ``FMLD_annotations/test/*.xml`` (or ``train`` and ``test`` in the root), and the
images of MAFA and WIDER FACE anywhere below the root, found by their names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from datamodules.layouts.annotated import AnnotatedLayout
from datamodules.layouts.layout import ALL, names_in
from datamodules.layouts.sample import Annotation, Box, Sample
from foundation.errors import DataError

KINDS = {"masked_face": "masked", "incorrectly_masked_face": "incorrect", "unmasked_face": "bare"}
POSES = {"front": "frontal", "turned sideways": "turned", "turned_sideways": "turned"}


class FMLD(AnnotatedLayout):
    """Reads FMLD; faces marked difficult or invalid are left out, as in its authors' test."""

    name = "fmld"
    title = "FMLD"
    published = (
        "FMLD_annotations/train/*.xml, FMLD_annotations/test/*.xml,\n"
        "and the images of MAFA and WIDER FACE, anywhere below\nDo one of:"
    )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:  # noqa: ARG002 (they come with the boxes)
        """The faces of a split, by their files' names; several may share an image. See :meth:`Layout.samples`."""
        files = [
            folder / name
            for part in (("train", "test") if split == ALL else (split,))
            for folder in (self.root / "FMLD_annotations" / part, self.root / part)
            for name in names_in(folder)
            if name.endswith(".xml")
        ]
        if not files:
            raise self.missing(self.root / "FMLD_annotations" / ("test" if split == ALL else split))
        return [sample for file in files for sample in self._faces(file)]

    @functools.cached_property
    def _images(self) -> dict[str, Path]:
        return {path.name: path for path in self._images_below()}

    def _faces(self, file: Path) -> Iterator[Sample]:
        try:
            tree = ElementTree.parse(file).getroot()  # noqa: S314 (expat since 2.6 limits entity expansion)
            name = Path(_text(tree, "filename").replace("\\", "/")).name
            found = [
                (number, kind, _text(face, "pose", ""), _box(face))
                for number, face in enumerate(tree.iter("object"))
                if (kind := _text(face, "name")) in KINDS and _text(face, "difficult", "0") != "1"
            ]
        except (ElementTree.ParseError, ValueError) as error:
            raise DataError(f"{file} is not Pascal VOC's XML ({error}).\nTake it as published.") from error
        if name not in self._images:
            raise DataError(
                f"{file} annotates the image {name}, which is missing below {self.root}.\n"
                f"Expected: the images of MAFA and WIDER FACE there."
            )
        for number, kind, pose, box in found:
            groups = [f"kind/{KINDS[kind]}"] + ([f"pose/{POSES[pose]}"] if pose in POSES else [])
            yield Sample(
                f"{file.stem}_{number}", self._images[name], annotation=Annotation(file, box), groups=tuple(groups)
            )


def _text(element: ElementTree.Element, path: str, otherwise: str | None = None) -> str:
    text = element.findtext(path, otherwise)
    if text is None:
        raise ValueError(f"<{element.tag}> has no <{path}>")
    return text.strip()


def _box(face: ElementTree.Element) -> Box:
    left, top, right, low = (float(_text(face, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    if right <= left or low <= top:
        raise ValueError(f"the box {left:g} {top:g} {right:g} {low:g} is empty")
    return left, top, right, low
