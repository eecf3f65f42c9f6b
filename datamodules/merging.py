"""Merges part masks into label maps, once per face, and keeps them.

Parts overlap, so the order of painting decides the class of a pixel: see :data:`datamodules.labels.PAINTING_ORDERS`.
Each face becomes one PNG of class ids, named by the digest of its part masks. A file that exists is therefore valid: an
interrupted merge continues where it stopped, all label fractions and experiments share the files, and a changed mask
gives a new file. Sources are only read, and the folder may be deleted while nothing trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from datamodules.cache import in_threads
from datamodules.labels import PAINTING_ORDERS, LabelSet
from datamodules.layouts import Sample
from datamodules.reading import read_part
from foundation.digests import DigestCache
from foundation.errors import BrokenFileError, RunError
from foundation.files import atomic_write, remove_drafts
from foundation.locks import held

VERSION = 1
"""Raise it when merging gives other label maps."""

DOING = "merging part masks, once for all runs"


@dataclass(frozen=True)
class Merging:
    """Merges the part masks of faces, or finds their label maps.

    Args:
        order: a name of :data:`datamodules.labels.PAINTING_ORDERS`.
        labels: the classes; parts have the same names.
        folder: folder of the label maps, never that of the data.
        digest_cache: file of the digests of the masks.
    """

    order: str
    labels: LabelSet
    folder: Path
    digest_cache: Path

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        """The same faces, each with its label map as one file.

        Raises:
            BrokenFileError: if a mask cannot be read, a face's masks differ in size, or all of them are empty.
            RunError: if the folder cannot be written to.
        """
        folder = self.folder / f"{self.order}-v{VERSION}"
        with DigestCache(self.digest_cache) as digests:
            merged = [replace(sample, label=folder / _name(sample, digests)) for sample in samples]
            if not _absent(merged):
                return merged
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with held(FileLock(folder / "build.lock"), f"fills {folder}"):
                    remove_drafts(folder)  # no other process has the lock
                    pending = _absent(merged)
                    for _ in in_threads(lambda index: self._keep(pending[index], digests), len(pending), DOING):
                        pass
            except OSError as error:
                raise RunError(
                    f"Cannot keep merged label maps in {folder}: {error.strerror or error}.\n"
                    f"Expected: a writable folder with free space; it lies under output_dir."
                ) from error
        return merged

    def _keep(self, sample: Sample, digests: DigestCache) -> None:
        assert sample.label is not None  # noqa: S101 (for the type checker)
        label = merge(sample, self.order, self.labels)
        if sample.label.name != _name(sample, digests):  # the name must match the masks that were read
            raise BrokenFileError(f"The part masks of {sample.image} changed while they were read.\nRun again.")
        with atomic_write(sample.label) as file:
            Image.fromarray(label).save(file, format="PNG")


def merge(sample: Sample, order: str, labels: LabelSet) -> np.ndarray:
    """The label map (H, W) uint8 of a face, painted from its parts, see :class:`Merging`.

    Raises:
        BrokenFileError: if a mask cannot be read, masks differ in size, or all of them are empty.
    """
    files = {} if sample.parts is None else dict(sample.parts.files)
    parts = [part for part in PAINTING_ORDERS[order] if part in files]
    label = paint(sample, ((part, read_part(files[part])) for part in parts), labels)
    if label is None or not label.any():
        raise BrokenFileError(
            f"The face {sample.image} has no parts: all its masks are empty.\n"
            f"Expected: at least skin; add its masks, or move the image out of its folder."
        )
    return label


def paint(sample: Sample, masks: Iterable[tuple[str, np.ndarray]], labels: LabelSet) -> np.ndarray | None:
    """One label map (H, W) uint8 of masks (H, W) bool, later ones over earlier ones; None if there are none.

    Raises:
        BrokenFileError: if masks differ in size.
    """
    files = {} if sample.parts is None else dict(sample.parts.files)
    label: np.ndarray | None = None
    for part, mask in masks:
        if label is None:
            label, first = np.zeros(mask.shape, dtype=np.uint8), files[part]
        if mask.shape != label.shape:
            raise BrokenFileError(
                f"The part mask {files[part]} is {mask.shape[1]}x{mask.shape[0]} pixels, {first.name} next to it "
                f"{label.shape[1]}x{label.shape[0]}.\n"
                f"Expected: one size for all parts of a face; replace one of the two or remove the face."
            )
        label[mask] = labels.classes.index(part)
    return label


def _name(sample: Sample, digests: DigestCache) -> str:
    """File name of a face's label map: the digest of its masks' names and contents."""
    return f"{digests.of_files(sample.label_files)}.png"


def _absent(samples: Sequence[Sample]) -> list[Sample]:
    """Faces whose label map does not exist yet; faces with equal masks share one, and count once."""
    by_label = {sample.label: sample for sample in samples}
    return [sample for label, sample in by_label.items() if label is not None and not label.is_file()]
