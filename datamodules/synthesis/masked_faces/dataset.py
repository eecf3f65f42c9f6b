"""Writes masked faces as a data set.

Three passes, each by all cores and continued where it stopped: faces are looked for, in photographs in an order drawn
by lot, until there are enough; masks are drawn; the manifest is written. Sample k depends on the photographs, the
settings and (seed, k) alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from datamodules.landmarks import landmark_model
from datamodules.layouts.photographs import digest, photographs
from datamodules.synthesis.building import Build, require_whole_number, write_whole
from datamodules.synthesis.masked_faces.finding import find
from datamodules.synthesis.masked_faces.samples import Drawing, Sample, draw
from datamodules.synthesis.masked_faces.splits import orders
from datamodules.synthesis.masked_faces.summary import SUMMARY, summary_of, table
from datamodules.synthesis.masked_faces.wanted import MaskedFaces
from foundation.files import require_outside

MANIFEST = "manifest.jsonl"


def write_masked_faces(out: Path, wanted: MaskedFaces, workers: int) -> None:
    """Build the set: ``images/``, ``masks/`` (0 and 255), ``manifest.jsonl``, ``summary.json``, ``dataset.json``.

    A manifest's line says of a sample its id, files, split, source, size, crop and, for each face, landmarks, how they
    were found, and what it wears. Photographs that cannot be read and those without a face are listed in the summary.

    Args:
        out: folder of the set; must not exist, or hold this very set.
        wanted: what is to be built.
        workers: number of processes; it does not change the result.

    Raises:
        ConfigError: if there is no landmark model.
        DataError: if the source holds no photographs, or no face, or not the splits that are asked for; or if `out`
            holds something else.
    """
    require_whole_number("workers", workers, 1)
    require_outside(out, wanted.source)
    build = Build(out, wanted.parameters(), what="masked faces")
    with build.claimed() as lacking:
        if lacking:
            _write(build, wanted, workers)
        else:
            build.say(f"{wanted.count} masked faces are there already")


def _write(build: Build, wanted: MaskedFaces, workers: int) -> None:
    landmark_model(wanted.landmark_model)
    pictures = photographs(wanted.source)
    splits = orders(wanted, pictures)
    names = ("images", "masks", "found", *(("photographs",) if wanted.photographs else ()))
    build.open([build.partial / name for name in names], digest(pictures))
    seen = {split: find(build, wanted, split, order, count, workers) for split, (order, count) in splits.items()}
    samples: list[Sample] = []
    for split, (_, count) in splits.items():
        usable = seen[split][0]  # each is used again once all others of its split have been
        samples += [Sample(len(samples) + place, split, usable[place % len(usable)]) for place in range(count)]
    jobs = [Drawing(build.partial, wanted, sample) for sample in samples]
    jobs = [job for job in jobs if not job.sample.mask_file(build.partial).is_file()]
    for _ in build.each(draw, jobs, workers, "drawing masks"):
        pass
    lines = [sample.line(wanted) for sample in samples]
    write_whole(build.partial / MANIFEST, "".join(json.dumps(line) + "\n" for line in lines).encode())
    summary = summary_of(wanted, pictures, [row for _, rows in seen.values() for row in rows], lines)
    write_whole(build.partial / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    shutil.rmtree(build.partial / "found")
    build.finish()
    build.console.print(table(build.out, summary))
