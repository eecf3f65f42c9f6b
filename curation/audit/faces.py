"""The audit of one face: reads all of its files in full."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from curation.audit.findings import Finding
from curation.audit.sides import SCATTERED, SKIN, landmarks_of, place, sides
from datamodules.labels import PAINTING_ORDERS, LabelSet
from datamodules.layouts import Sample
from datamodules.merging import paint
from datamodules.reading import (
    read_ids,
    read_image,
    read_label,
    read_part_values,
    require_complete,
    require_known_ids,
    require_size,
)
from foundation.errors import BrokenFileError


@dataclass
class Face:
    """Result of the audit of one face.

    Args:
        sample: the face on disk.
        size: (H, W) of its image, or None if that cannot be read.
        digest: of the image's pixels, 16 bytes; b"" if it cannot be read.
        pixels: (classes,) pixels of each class; None if there is no label map.
        findings: findings in its files.
    """

    sample: Sample
    size: tuple[int, int] | None = None
    digest: bytes = b""
    pixels: np.ndarray | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, finding: object) -> None:
        """Keep the first line of a finding, which names the file; further lines of an error are instructions."""
        self.findings.append(Finding(kind, self.sample.id, str(finding).splitlines()[0], self.sample))


@dataclass(frozen=True)
class Inspection:
    """Reads faces; errors in files become findings.

    Args:
        labels: the classes.
        order: a name of :data:`datamodules.labels.PAINTING_ORDERS`, for labels as part masks.
    """

    labels: LabelSet
    order: str

    def __call__(self, sample: Sample) -> Face:
        """Size, pixels and findings of a face."""
        face = Face(sample)
        try:
            image = read_image(sample.image)
            require_complete(sample.image)
        except BrokenFileError as error:
            face.add("unreadable_image", error)
        else:
            face.size = image.size
            pixels = np.ascontiguousarray(image.pixels)
            face.digest = hashlib.blake2b(pixels.data, digest_size=16, key=str(image.size).encode()).digest()
        label = self._painted(face) if sample.parts is not None else self._label_map(face)
        if label is None:
            return face
        # Unknown ids are a finding already and are not counted.
        face.pixels = np.bincount(label.ravel(), minlength=256)[: len(self.labels)]
        if face.size is not None:
            try:
                require_size(sample, label.shape, face.size)
            except BrokenFileError as error:
                face.add("wrong_size", error)
        return face

    def _label_map(self, face: Face) -> np.ndarray | None:
        """The label map (H, W) uint8 of a face; None if it is unlabelled or unreadable."""
        path = face.sample.label
        if path is None or (self.labels.binary and self.labels.mask is None):  # nobody knows what its values mean
            return None
        try:
            label = read_label(path, self.labels) if self.labels.binary else read_ids(path, self.labels)
            require_complete(path)
        except BrokenFileError as error:
            face.add("unreadable_label", error)
            return None
        if self.labels.binary:  # a mask without a pixel is a face without occlusion
            return label
        try:
            require_known_ids(path, label, self.labels)
        except BrokenFileError as error:
            face.add("unknown_ids", error)
        if not label.any():
            face.add("nothing_labelled", f"{path} is all background.")
        classes = self.labels.classes
        named = (landmarks_of(self.labels) | {SKIN}) & set(classes)
        self._compare_sides(face, {name: label == classes.index(name) for name in named})
        return label

    def _painted(self, face: Face) -> np.ndarray | None:
        """The label map (H, W) uint8 of a face with part masks; None if these do not fit together."""
        assert face.sample.parts is not None  # noqa: S101 (for the type checker)
        masks: dict[str, np.ndarray] = {}
        for part, path in face.sample.parts.files:
            try:
                values = read_part_values(path)
                require_complete(path)
            except BrokenFileError as error:
                face.add("unreadable_label", error)
                continue
            masks[part] = values > 0
            area = int(np.count_nonzero(values))
            if not area:
                face.add("empty_part", f"{path.name} has no pixel.")
            elif odd := area - int(np.count_nonzero(values == 255)):
                face.add("odd_values", f"{path.name} has {odd} pixels between 0 and 255.")
        if masks and not any(mask.any() for mask in masks.values()):
            face.add("nothing_labelled", f"All masks of {face.sample.image.name} are empty.")
        self._compare_sides(face, masks)
        ordered = ((part, masks[part]) for part in PAINTING_ORDERS[self.order] if part in masks)
        try:
            return paint(face.sample, ordered, self.labels)
        except BrokenFileError as error:
            face.add("parts_differ", error)
            return None

    def _compare_sides(self, face: Face, masks: dict[str, np.ndarray]) -> None:
        if len({mask.shape for mask in masks.values()}) > 1:  # positions are not comparable
            return
        compared = landmarks_of(self.labels)
        found = {name: where for name, mask in masks.items() if name in compared and (where := place(mask)) is not None}
        scattered = [name for name, where in found.items() if where.spread > SCATTERED]
        if len(scattered) > 1:  # one may be a few odd pixels of an ear under hair
            face.add("strewn", f"{', '.join(sorted(scattered))} of {face.sample.image.name} are all over the image.")
        places = {name: where.centre for name, where in found.items() if name not in scattered}
        skin = int(np.count_nonzero(masks[SKIN])) if SKIN in masks else 0
        found_sides = sides(places, skin, self.labels)
        if found_sides.verdict is not None:
            face.add(found_sides.verdict, f"left and right: {found_sides}.")
