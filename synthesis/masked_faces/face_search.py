"""The first pass: searches photographs in order until there are enough faces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.finding.finder import box_finder
from datamodules.landmarks import Box, FaceFinder, read_landmarks
from datamodules.layouts.photographs import Photograph, is_aligned
from datamodules.reading import read_photograph
from foundation.errors import BrokenFileError, DataError
from synthesis.dataset_build import Build, write_file
from synthesis.masked_faces.config import MaskedFacesConfig

CHUNK = 32  # photographs per job


def find_faces(
    build: Build, config: MaskedFacesConfig, split: str, order: list[Photograph], count: int, workers: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """At most `count` photographs of a split with faces; and all photographs that were searched."""
    aligned = is_aligned(config.source)
    fallbacks = config.fallbacks
    if fallbacks is None:  # by the source
        fallbacks = ("padded", "upsampled", "image" if aligned else "box")
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    rows: list[dict[str, Any]] = []
    done = 0
    while done < len(chunks) and (lacking := count - sum(bool(row["faces"]) for row in rows)) > 0:
        next_done = min(len(chunks), done + max(1, round(1.05 * lacking / CHUNK)))
        files = [build.partial / "found" / f"{split}_{place:06d}.json" for place in range(done, next_done)]
        jobs = list(zip(files, chunks[done:next_done], strict=True))
        search = partial(_find_faces_of_job, config, fallbacks, aligned)
        for found in build.each(search, jobs, workers, f"finding faces ({split})", chunk=1):
            rows += found
        done = next_done
    with_faces = [row for row in rows if row["faces"]]
    if count and not with_faces:
        raise DataError(
            f"No face was found in the {len(rows)} photographs of {config.source} for the split {split}.\n"
            f"Expected: photographs of faces, 80 px wide or more. Do one of:\n"
            f"  - if each photo is one aligned face: fallbacks=[padded,upsampled,image]\n"
            f"  - finder=libfacedetection, which finds masked faces and tight crops too"
        )
    return with_faces[:count], rows


def _find_faces_of_job(
    config: MaskedFacesConfig, fallbacks: tuple[str, ...], aligned: bool, job: tuple[Path, list[Photograph]]
) -> list[dict[str, Any]]:
    """Searches photographs for faces, unless the file of the result, the first part of the job, is there."""
    file, photos = job
    if not file.is_file():
        network = None
        if config.finder != "dlib":
            network = (config.finder, box_finder(config.finder, config.finder_model).hog_boxes)
        finder = FaceFinder(config.landmark_model, fallbacks, aligned, network)
        at_once = CHUNK if aligned else 1  # aligned photos are small
        parts = [photos[start : start + at_once] for start in range(0, len(photos), at_once)]
        rows = [row for part in parts for row in _faces_of(part, finder)]
        write_file(file, json.dumps(rows).encode())
    return json.loads(file.read_text())


def _faces_of(photos: Sequence[Photograph], finder: FaceFinder) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    searched: list[tuple[dict[str, Any], np.ndarray, Box | None]] = []
    for photo in photos:
        row: dict[str, Any] = {"source": photo.id, "image": str(photo.image), "faces": []}
        rows.append(row)
        try:
            image = read_photograph(photo.image, grey=finder.network is None)
            landmarks = None if photo.landmarks is None else read_landmarks(photo.landmarks)
        except BrokenFileError as error:
            row["error"] = str(error).splitlines()[0]
            continue
        row["size"] = [image.shape[1], image.shape[0]]
        if landmarks is None:
            searched.append((row, image, photo.box))
        else:
            row["faces"] = [{"landmarks": landmarks.tolist(), "found": "layout"}]
    found = finder.of_all([image for _, image, _ in searched], [box for _, _, box in searched])
    for (row, _, _), faces in zip(searched, found, strict=True):
        row["faces"] = [{"landmarks": face.landmarks.tolist(), "found": face.found} for face in faces]
    return rows
