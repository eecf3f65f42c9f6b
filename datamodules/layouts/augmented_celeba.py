"""The augmented CelebA that ``prepare.py task=masked_faces`` builds: ``images/``, ``masks/`` and ``manifest.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from typing import Any

from datamodules.labels import OCCLUSION
from datamodules.layouts.layout import ALL, ErrorHandler, Layout, names_in
from datamodules.layouts.sample import RelativeBox, Sample
from datamodules.pose import pose_groups
from foundation.errors import DataError
from foundation.notices import first_of

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
        rows = [row for row in self._rows() if split in (ALL, row["split"])]
        if not rows:
            raise DataError(
                f"{self.root / MANIFEST} has no face of the split {split}.\nExpected: one at least; build a larger set."
            )
        kept = set(names_in(self.root / PHOTOGRAPHS))
        return [self._sample(row, kept) for row in rows]

    def _sample(self, row: Mapping[str, Any], kept: Container[str]) -> Sample:
        image = self.root / row["image"]
        return Sample(
            row["id"],
            image,
            self.root / row["mask"],
            photograph=self.root / PHOTOGRAPHS / image.name if image.name in kept else None,
            source=row["source"],
            face=face_box(row),
            groups=groups(row),
        )

    def landmarks(self) -> dict[str, list[Points]]:
        """The 68 landmarks of each face of each sample, in pixels, by the sample's id."""
        return {row["id"]: [face["landmarks"] for face in row["faces"]] for row in self._rows()}

    def parameters(self) -> dict[str, Any]:
        """The parameters that the set was built with, see ``MaskedFacesConfig.parameters``.

        Raises:
            DataError: if ``dataset.json`` is damaged.
        """
        file = self.root / "dataset.json"
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{file} cannot be read ({error}).\nBuild the set again.") from error

    def survey(self, on_error: ErrorHandler) -> dict[str, list[Sample]]:
        """Every face by its split; files of the manifest that are absent, and others that it does not name."""
        samples = {split: self.samples(split) for split in sorted({row["split"] for row in self._rows()})}
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

    def _rows(self) -> Iterator[dict[str, Any]]:
        manifest = self.root / MANIFEST
        try:
            lines = manifest.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            raise self.missing(self.root) from None
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                yield {key: row[key] for key in ("id", "image", "mask", "split", "source", "size", "faces")}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{manifest}, line {number} is damaged ({error}).\nBuild the set again.") from error


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
