"""Writes masked faces as a data set.

Three passes on all cores, each of them resumable: find faces in photographs in random order until there are enough;
render masks; write the manifest. Sample k depends only on the photographs, the configuration and (seed, k).
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from datamodules.finding.finder import box_finder
from datamodules.landmarks import landmark_model
from datamodules.layouts.photographs import digest, photographs
from foundation.files import require_outside
from synthesis.dataset_build import Build, require_integer, write_file
from synthesis.masked_faces.config import MaskedFacesConfig
from synthesis.masked_faces.face_search import find_faces
from synthesis.masked_faces.samples import MaskedFaceSample, render_sample
from synthesis.masked_faces.splits import split_photographs
from synthesis.masked_faces.summary import SUMMARY, summary_of, table

MANIFEST = "manifest.jsonl"


def write_masked_faces(out: Path, config: MaskedFacesConfig, workers: int) -> None:
    """Build the set: ``images/``, ``masks/`` (0 and 255), ``manifest.jsonl``, ``summary.json``, ``dataset.json``.

    A line of the manifest holds a sample's id, files, split, source, size, crop and, for each face, landmarks, how they
    were found, and its face mask. The summary lists unreadable photographs and those without a face.

    Args:
        out: folder of the set; must not exist, or hold this very set.
        config: the configuration.
        workers: number of processes; it does not change the result.

    Raises:
        ConfigError: if there is no landmark model, or the finder cannot be used.
        DataError: if the source has no photographs, no face or not the requested splits; or if `out` holds something
            else.
    """
    require_integer("workers", workers, 1)
    require_outside(out, config.source)
    build = Build(out, config.parameters(), what="masked faces")
    with build.claimed() as needed:
        if needed:
            _write(build, config, workers)


def _write(build: Build, config: MaskedFacesConfig, workers: int) -> None:
    landmark_model(config.landmark_model)
    if config.finder != "dlib":
        box_finder(config.finder, config.finder_model)  # reports what is missing
    photos = photographs(config.source)
    splits = split_photographs(config, photos)
    build.open(digest(photos))
    seen = {split: find_faces(build, config, split, order, count, workers) for split, (order, count) in splits.items()}
    samples: list[MaskedFaceSample] = []
    for split, (_, count) in splits.items():
        usable = seen[split][0]  # reused in turn
        rows = (usable[place % len(usable)] for place in range(count))
        samples += [MaskedFaceSample(config, index, split, row) for index, row in enumerate(rows, len(samples))]
    missing = [sample for sample in samples if not sample.mask_file(build.partial).is_file()]
    for _ in build.each(partial(render_sample, build.partial), missing, workers, "rendering masks"):
        pass
    lines = [sample.line() for sample in samples]
    write_file(build.partial / MANIFEST, "".join(json.dumps(line) + "\n" for line in lines).encode())
    summary = summary_of(config, photos, [row for _, rows in seen.values() for row in rows], lines)
    write_file(build.partial / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    shutil.rmtree(build.partial / "found")
    build.finish()
    build.console.print(table(build.out, summary))
