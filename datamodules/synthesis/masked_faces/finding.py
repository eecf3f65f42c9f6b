"""The first pass: photographs are looked through in their order until enough faces are found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.landmarks import FaceFinder, read_landmarks
from datamodules.layouts.photographs import Photograph, is_aligned
from datamodules.reading import read_photograph
from datamodules.synthesis.building import Build, write_whole
from datamodules.synthesis.masked_faces.wanted import MaskedFaces
from engine.errors import BrokenFileError, DataError

CHUNK = 32  # photographs that are looked through as one job


def find(
    build: Build, wanted: MaskedFaces, split: str, order: list[Photograph], count: int, workers: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Photographs of a split with faces, as many as there are samples if there are so many; and all looked through."""
    aligned = is_aligned(wanted.source)
    fallbacks = wanted.fallbacks or ("padded", "upsampled", "image" if aligned else "box")  # what suits the source
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    rows: list[dict[str, Any]] = []
    done = 0
    while done < len(chunks) and (lacking := count - sum(bool(row["faces"]) for row in rows)) > 0:
        next_done = min(len(chunks), done + max(1, round(1.05 * lacking / CHUNK)))
        jobs = [
            _Find(
                build.partial / "found" / f"{split}_{place:06d}.json",
                tuple(chunks[place]),
                fallbacks,
                aligned,
                wanted.landmark_model,
            )
            for place in range(done, next_done)
        ]
        for found in build.each(_find_faces, jobs, workers, f"finding faces ({split})", chunk=1):
            rows += found
        done = next_done
    with_faces = [row for row in rows if row["faces"]]
    if count and not with_faces:
        raise DataError(
            f"No face was found in the {len(rows)} photographs of {wanted.source} for the split {split}.\n"
            f"Expected: photographs of faces, 80 px wide or more. Do one of:\n"
            f"  - if each picture is one aligned face: fallbacks=[padded,upsampled,image]\n"
            f"  - if they wear masks already, this detector fails on most of them"
        )
    return with_faces[:count], rows


@dataclass(frozen=True)
class _Find:
    """Photographs to look for faces in; what is found is kept in a file."""

    file: Path
    pictures: tuple[Photograph, ...]
    fallbacks: tuple[str, ...]
    aligned: bool
    model: str | None


def _find_faces(job: _Find) -> list[dict[str, Any]]:
    if not job.file.is_file():
        finder = FaceFinder(job.model, job.fallbacks, job.aligned)
        rows = [_faces_of(picture, finder) for picture in job.pictures]
        write_whole(job.file, json.dumps(rows).encode())
    return json.loads(job.file.read_text())


def _faces_of(picture: Photograph, finder: FaceFinder) -> dict[str, Any]:
    about: dict[str, Any] = {"source": picture.id, "image": str(picture.image), "faces": []}
    try:
        image = read_photograph(picture.image, grey=True)
        if picture.landmarks is not None:
            found = [(read_landmarks(picture.landmarks), "layout")]
        else:
            found = [(face.landmarks, face.found) for face in finder(image, picture.box)]
    except BrokenFileError as fault:
        return about | {"error": str(fault).splitlines()[0]}
    about["size"] = [image.shape[1], image.shape[0]]
    about["faces"] = [{"landmarks": points.tolist(), "found": how} for points, how in found]
    return about
