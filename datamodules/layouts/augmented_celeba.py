"""The augmented CelebA that ``prepare.py task=masked_faces`` builds: ``images/``, ``masks/`` and ``manifest.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping
from typing import Any

from datamodules.labels import OCCLUSION
from datamodules.layouts.layout import ALL, SPLITS, ErrorHandler, Layout, names_in
from datamodules.layouts.sample import RelativeBox, Sample
from datamodules.pose import pose_groups
from foundation.errors import DataError
from foundation.names import is_name, shown
from foundation.notices import first_of
from foundation.paths import DataRoot, ordinary

MANIFEST, PHOTOGRAPHS = "manifest.jsonl", "photographs"
Points = list[list[float]]
GROUPED_BY = ("type", "texture", "tilt", "style")


class AugmentedCelebA(Layout):
    """Reads a built set of masked faces, each with its groups from manifest and landmarks."""

    name = "augmented_celeba"
    kind = "occlusion"
    labels = OCCLUSION
    title = "AugmentedCelebA"
    knows_faces = True
    mask = None
    origin = "augmented"  # masks are rendered, faces may be real
    published = (
        "manifest.jsonl, images/, masks/, as they are built by\n"
        "  python prepare.py task=masked_faces source=/path/to/CelebA out=data/AugmentedCelebA\n"
        "Do one of:\n"
        "  - build it, from CelebA, any folder of photographs, or synthetic faces (--help of prepare.py)"
    )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:  # noqa: ARG002 (masks are always there)
        """The faces of a split, in the manifest's order, see :meth:`Layout.samples`."""
        manifest = self.root / MANIFEST
        rows = [(number, row) for number, row in self._rows() if split in (ALL, row["split"])]
        if not rows:
            raise DataError(
                f"{manifest} has no face of the split {split}.\nExpected: one at least; build a larger set."
            )
        kept = set(names_in(self.root / PHOTOGRAPHS))
        files = DataRoot(self.root)
        return [self._sample(row, kept, files, f"{manifest}, line {number}") for number, row in rows]

    def _sample(self, row: Mapping[str, Any], kept: Container[str], files: DataRoot, where: str) -> Sample:
        image = files.file(row["image"], where)
        return Sample(
            row["id"],
            image,
            files.file(row["mask"], where),
            photograph=files.file(f"{PHOTOGRAPHS}/{image.name}", where) if image.name in kept else None,
            source=row["source"],
            face=face_box(row),
            groups=groups(row),
        )

    def landmarks(self) -> dict[str, list[Points]]:
        """The 68 landmarks of each face of each sample, in pixels, by the sample's id."""
        return {row["id"]: [face["landmarks"] for face in row["faces"]] for _, row in self._rows()}

    def parameters(self) -> dict[str, Any]:
        """The parameters that the set was built with, see ``MaskedFacesConfig.parameters``.

        Raises:
            DataError: if ``dataset.json`` is damaged.
        """
        file = self.root / "dataset.json"
        try:
            return dict(json.loads(ordinary(file).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{file} cannot be read ({error}).\nBuild the set again.") from error

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """Every face by its split; files of the manifest that are absent, and others that it does not name."""
        samples = {split: self.samples(split) for split in sorted({row["split"] for _, row in self._rows()})}
        every = [sample for some in samples.values() for sample in some]
        files = {"image": {sample.image: sample.id for sample in every}}
        files["label"] = {sample.label: sample.id for sample in every if sample.label is not None}
        for (kind, named), folder in zip(files.items(), ("images", "masks"), strict=True):
            for path in sorted(path for path in named if not path.is_file()):
                on_error(f"missing_{kind}", [named[path]], DataError(f"{path} is absent.\nBuild the set again."))
            if others := [name for name in names_in(self.root / folder) if self.root / folder / name not in named]:
                text = f"{len(others)} files in {self.root / folder} are not of {MANIFEST}: {first_of(others)}."
                on_error("foreign_file", others, DataError(text))
        return samples

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The lines of the manifest, by their numbers."""
        manifest = self.root / MANIFEST
        try:
            lines = ordinary(manifest).read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            raise self.missing(self.root) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{manifest} cannot be read ({error}).\nBuild the set again.") from error
        ids: set[str] = set()
        for number, line in enumerate(lines, start=1):
            try:
                row = _checked(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else error
                raise DataError(f"{manifest}, line {number} is damaged ({reason}).\nBuild the set again.") from error
            if row["id"] in ids:
                raise DataError(f"{manifest}, line {number}: the id {row['id']} is there twice.\nBuild the set again.")
            ids.add(row["id"])
            yield number, row


def _checked(line: Mapping[str, Any]) -> dict[str, Any]:
    """One line of a manifest, with values of the expected types: ids and groups become names of files and columns.

    Raises:
        KeyError, TypeError, ValueError: if a value is missing or is another.
    """
    row = {key: line[key] for key in ("id", "image", "mask", "split", "source", "size", "faces")}
    names = [("id", row["id"]), *((key, face[key]) for face in row["faces"] for key in GROUPED_BY if face.get(key))]
    for key, name in names:
        if not is_name(name):
            raise ValueError(
                f"{key}: {shown(repr(name))[:120]} is no name: a short text without / and control characters"
            )
    if row["split"] not in SPLITS:
        raise ValueError(f"split: {shown(repr(row['split']))[:120]} is not one of {', '.join(SPLITS)}")
    if not isinstance(row["source"], str):
        raise TypeError("source is no text")
    if len(row["size"]) != 2 or not all(type(side) is int and side > 0 for side in row["size"]):
        raise ValueError("size is not a width and a height")
    if not row["faces"] or not all(_are_landmarks(face["landmarks"]) for face in row["faces"]):
        raise ValueError("landmarks are not 68 points for each face")
    return row


def _are_landmarks(points: Points) -> bool:
    return len(points) == 68 and all(
        len(point) == 2 and math.isfinite(point[0]) and math.isfinite(point[1]) for point in points
    )


def face_box(row: Mapping[str, Any]) -> RelativeBox:
    """The box of a sample's largest face's landmarks, as fractions of the image's width and height."""
    (width, height), landmarks = row["size"], row["faces"][0]["landmarks"]
    across, down = ([(point[axis] + 0.5) / side for point in landmarks] for axis, side in enumerate((width, height)))
    return min(across), min(down), max(across), max(down)


def groups(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups that a sample is scored in: mask type, texture, tilt, wearing style and pose of its largest face."""
    face = row["faces"][0]
    mask_groups = tuple(f"{name}/{face[name]}" for name in GROUPED_BY if face.get(name))
    return (*mask_groups, *pose_groups(face["landmarks"]))
