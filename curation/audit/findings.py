"""The kinds of findings that an audit tells apart, and those that it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from datamodules.layouts import Sample
from foundation.errors import DataError

KINDS: dict[str, str] = {
    "missing_folder": "folder of the layout that is absent or empty",
    "missing_list": "list that is absent: no face has a split",
    "broken_row": "row of a list that cannot be understood",
    "foreign_file": "file that is none of the layout",
    "same_name": "second file for one face",
    "no_mapping": "no row in the mapping",
    "no_split": "no split in the partition",
    "missing_label": "image without label",
    "missing_image": "label without image",
    "unreadable_image": "image that cannot be read",
    "unreadable_label": "label map or part mask that cannot be read",
    "unknown_ids": "class ids out of range",
    "odd_values": "part mask of other values than 0 and 255",
    "parts_differ": "part masks of different sizes",
    "wrong_size": "label that does not fit its image's size",
    "nothing_labelled": "label without a face: all background",
    "empty_part": "part mask without a pixel",
    "strewn": "small parts scattered over the image, as where ids were interpolated",
    "duplicate": "same pixels as another image",
    "mirrored": "left and right exchanged",
    "unclear": "left and right in doubt",
}
"""Each kind in words, what keeps a face from being used first. The ids of ``missing_folder``, ``missing_list``,
``broken_row`` and ``foreign_file`` are names of files, all others are of faces."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        kind: one of :data:`KINDS`.
        id: the face, or the file where it is no face's.
        text: what was found, with the file's name.
        sample: the face on disk, where it was looked at.
    """

    kind: str
    id: str
    text: str
    sample: Sample | None = None


@dataclass
class Findings:
    """Every finding by its kind, in the order in which they were found."""

    of_kind: dict[str, list[Finding]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def __iter__(self) -> Iterator[Finding]:
        return (finding for findings in self.of_kind.values() for finding in findings)

    def add(self, finding: Finding) -> None:
        self.of_kind[finding.kind].append(finding)

    def on_error(self, kind: str, ids: Sequence[str], finding: DataError) -> None:
        """Keep what a layout's reader met (:data:`datamodules.layouts.layout.ErrorHandler`)."""
        for id in ids:  # noqa: A001 (as samples have it)
            self.add(Finding(kind, id, str(finding).splitlines()[0]))

    def ids(self, kind: str) -> list[str]:
        """The faces that have a kind of finding, each once; numbers in their order, names in that of the splits."""
        ids = dict.fromkeys(finding.id for finding in self.of_kind[kind])
        return sorted(ids, key=lambda name: int(name) if name.isdecimal() else 0)

    def texts(self, kind: str) -> dict[str, str]:
        """What was found with each face that has a kind of finding."""
        texts: dict[str, list[str]] = {}
        for finding in self.of_kind[kind]:
            texts.setdefault(finding.id, []).append(finding.text)
        return {id: "; ".join(dict.fromkeys(parts)) for id, parts in texts.items()}  # noqa: A001
