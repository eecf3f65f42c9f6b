"""The kinds of findings of an audit, and the findings of one audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from datamodules.layouts import Sample
from foundation.errors import DataError
from foundation.names import shown

KINDS: dict[str, str] = {
    "missing_folder": "folder of the layout that is absent or empty",
    "missing_list": "list that is absent: no face has a split",
    "broken_row": "invalid row of a list",
    "foreign_file": "file that does not belong to the layout",
    "same_name": "second file for one face",
    "no_mapping": "no row in the mapping",
    "no_split": "no split in the partition",
    "missing_label": "image without label",
    "missing_image": "label without image",
    "unreadable_image": "unreadable image",
    "unreadable_label": "unreadable label map or part mask",
    "unclear_masks": "masks whose values do not say what is occluded: see mask.occluded",
    "no_occlusion": "no mask marks an occluded pixel, or every mask all of its image",
    "unknown_ids": "class ids out of range",
    "odd_values": "part mask with values other than 0 and 255",
    "parts_differ": "part masks of different sizes",
    "wrong_size": "label of another size than its image",
    "nothing_labelled": "label without a face: all background",
    "empty_part": "part mask without a pixel",
    "strewn": "small parts scattered over the image, as where ids were interpolated",
    "duplicate": "same pixels as another image",
    "mirrored": "left and right exchanged",
    "unclear": "left and right in doubt",
}
"""Description of each kind, the most severe first. The ids of ``missing_folder``, ``missing_list``, ``broken_row`` and
``foreign_file`` are file names, all others are of faces."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        kind: one of :data:`KINDS`.
        id: the face's id, or the file's name if it belongs to no face.
        text: description, with the file's name.
        sample: the face on disk, if its files were read.
    """

    kind: str
    id: str
    text: str
    sample: Sample | None = None


@dataclass
class Findings:
    """All findings by kind, in the order in which they were found."""

    of_kind: dict[str, list[Finding]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def __iter__(self) -> Iterator[Finding]:
        return (finding for findings in self.of_kind.values() for finding in findings)

    def add(self, finding: Finding) -> None:
        self.of_kind[finding.kind].append(finding)

    def on_error(self, kind: str, ids: Sequence[str], finding: DataError) -> None:
        """Collect a reader's error, see :data:`datamodules.layouts.layout.ErrorHandler`."""
        for id in ids:  # noqa: A001 (as samples have it)
            self.add(Finding(kind, id, str(finding).splitlines()[0]))

    def ids(self, kind: str) -> list[str]:
        """The ids with a kind of finding, each once; numbers sorted, names in the order of the splits."""
        ids = dict.fromkeys(shown(finding.id) for finding in self.of_kind[kind])
        return sorted(ids, key=lambda name: int(name) if name.isdecimal() else 0)

    def texts(self, kind: str) -> dict[str, str]:
        """Texts of a kind of finding by id."""
        texts: dict[str, list[str]] = {}
        for finding in self.of_kind[kind]:
            texts.setdefault(shown(finding.id), []).append(shown(finding.text))
        return {id: "; ".join(dict.fromkeys(parts)) for id, parts in texts.items()}  # noqa: A001
