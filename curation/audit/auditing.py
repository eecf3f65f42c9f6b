"""Audits a data set: lists its files, reads all of them and writes the findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import get_console

from curation.audit.faces import Inspection
from curation.audit.findings import Finding, Findings
from curation.audit.screen import tables
from curation.audit.sheet import contact_sheet
from curation.audit.tally import Tally
from datamodules.cache import in_threads
from datamodules.labels import LabelSet
from datamodules.layouts import Layout, Sample
from datamodules.mask_rules import MaskReading
from datamodules.mask_survey import MaskSurvey, described, files_of
from datamodules.masks import AmbiguousMaskError, decide
from foundation.errors import DataError, RunError
from foundation.files import atomic_write, require_folder, require_outside, to_json, write_text_atomically

REPORT, SHEET = "audit.json", "worst.png"


def write_audit(layout: Layout, out: Path, order: str) -> Tally:
    """Prints the findings of a data set, and writes them with an image of the worst faces.

    Args:
        layout: the data set's reader; its folder is only read.
        out: the folder for ``audit.json`` and ``worst.png``, outside the data set.
        order: a name of :data:`datamodules.labels.PAINTING_ORDERS`, for labels as part masks.

    Raises:
        ConfigError: if ``out`` lies in the data set's folder.
        DataError: if there is no image at all.
        RunError: if ``out`` cannot be written to.
    """
    require_outside(out, layout.root)
    if not layout.root.is_dir():
        raise _no_faces(layout)
    require_folder(out, "out")
    tally, samples = audit(layout, order)
    console = get_console()
    for table in tables(tally, f"{layout.title} in {layout.root}"):
        console.print(table)
    about = {"dataset": layout.name, "root": str(layout.root), "origin": layout.origin}
    merging = {"merging": order} if any(sample.parts for sample in samples) else {}
    sheet = contact_sheet(tally.findings, samples, layout, tally.labels, order)
    try:
        write_text_atomically(out / REPORT, to_json(about | merging | tally.as_plain()))
        if sheet is None:
            (out / SHEET).unlink(missing_ok=True)  # of an earlier audit
        else:
            with atomic_write(out / SHEET) as file:
                sheet.save(file, format="PNG")
    except OSError as error:
        raise RunError(
            f"Cannot write to {out}: {error.strerror or error}.\nExpected: a writable folder, as out=..."
        ) from error
    written = [str(out / REPORT)] + ([] if sheet is None else [str(out / SHEET)])
    console.print(f"Written: {', '.join(written)}", soft_wrap=True, highlight=False, markup=False)
    return tally


def _no_faces(layout: Layout) -> DataError:
    state = "holds none" if layout.root.is_dir() else "does not exist"
    return DataError(
        f"No {layout.title} faces: {layout.root} {state}.\nExpected under it:  {layout.published}\n"
        f"  - give its path: root=/path/to/{layout.title}"
    )


def audit(layout: Layout, order: str) -> tuple[Tally, list[Sample]]:
    """All findings of a data set, and its faces.

    Raises:
        DataError: if there is no image at all.
    """
    findings = Findings()
    faces = [(split, sample) for split, samples in layout.survey(findings.on_error).items() for sample in samples]
    if not faces:
        raise _no_faces(layout)
    labels, masks = _read_labels(layout, findings) if layout.labels.binary else (layout.labels, {})
    inspect = Inspection(labels, order)
    tally = Tally(labels, findings, masks=masks)
    samples = [sample for _, sample in faces]
    # Threads: decoding releases Python's lock; processes are no faster and take seconds to start.
    for index, face in enumerate(in_threads(lambda index: inspect(samples[index]), len(samples), "reading every file")):
        tally.add(face, faces[index][0])
    tally.close()
    return tally, samples


def _read_labels(layout: Layout, findings: Findings) -> tuple[LabelSet, dict[str, Any]]:
    """The classes of a set of masks with how these are read, if that is clear; and the values found, for the report."""
    name, where = layout.root.name, f"The masks of {layout.root}"
    files = files_of(layout)
    about = described(files)
    try:
        survey = MaskSurvey(where, files, MaskReading() if layout.mask is None else decide(files, layout.mask, where))
    except AmbiguousMaskError as error:
        findings.add(Finding("unclear_masks", name, str(error).splitlines()[0]))
        return layout.labels, about
    if (text := survey.describe_nothing()) is not None:
        findings.add(Finding("no_occlusion", name, text))
    return replace(layout.labels, mask=survey.reading), {**about, "read_as": survey.reading.describe()}
