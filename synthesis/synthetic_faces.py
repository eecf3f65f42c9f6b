"""Writes synthetic faces as a data set in a published layout: atomic, and resumable after an interruption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundation.errors import ConfigError
from synthesis.dataset_build import LARGEST, Build, require_integer
from synthesis.layout_writers import LAYOUT_WRITERS, LayoutWriter

GENERATOR_VERSION = 5
"""Raise it whenever the same seed gives other bytes, in any module of this package."""


@dataclass(frozen=True)
class _Job:
    """One face of a data set: rendered from (seed, index) alone, so neither order nor workers matter."""

    layout: LayoutWriter
    index: int
    size: int


def write_synthetic_faces(out: Path | None, *, layout: str, count: int, size: int, seed: int, workers: int) -> None:
    """Renders `count` labelled faces into `out`, in a published layout (`synthesis.layout_writers`).

    Everything is built in `<out>.partial` next to it and renamed at the end. A second call after an interruption
    renders only missing faces; a call for an existing data set does nothing. `out/dataset.json` records that the faces
    are synthetic (origin `drawn`) and their parameters.

    Args:
        out: folder of the data set; must not exist, or hold a data set of the same parameters. None is the layout's own
            folder below `data/synthetic`.
        layout: "lapa", "celebamask_hq" or "celeba".
        count: number of faces, at least 10; 80 % train, 10 % val, 10 % test.
        size: width and height in pixels, at least 32.
        seed: 0 or more; face i depends on (seed, i) only.
        workers: number of processes, at least 1; it does not change the result.

    Raises:
        ConfigError: an argument is invalid.
        DataError: `out` holds something else; it is left untouched.
    """
    _check_arguments(layout, count, size, seed, workers)
    out = out or Path("data/synthetic") / LAYOUT_WRITERS[layout].default_folder
    parameters = {"origin": "drawn", "layout": layout, "count": count, "size": size, "seed": seed}
    parameters["generator_version"] = GENERATOR_VERSION
    build = Build(out, parameters, what="synthetic faces")
    with build.claimed() as needed:
        if not needed:
            build.report(f"{count} synthetic faces exist already")
            return
        writer = LAYOUT_WRITERS[layout](build.partial, count, seed)
        build.open(writer.folders())
        missing = [index for index in range(count) if not writer.last_file(index).exists()]
        for _ in build.each(_write_face, [_Job(writer, index, size) for index in missing], workers, "rendering faces"):
            pass
        writer.finish()
        build.finish()


def _check_arguments(layout: str, count: int, size: int, seed: int, workers: int) -> None:
    if layout not in LAYOUT_WRITERS:
        raise ConfigError(f"layout={layout}: no such layout of synthetic faces; there is: {', '.join(LAYOUT_WRITERS)}")
    for name, value, least in (("count", count, 10), ("size", size, 32), ("seed", seed, 0), ("workers", workers, 1)):
        require_integer(name, value, least, LARGEST if name == "size" else None)


def _write_face(job: _Job) -> None:
    import numpy as np

    from synthesis import faces

    face = faces.render_random_face(np.random.default_rng([job.layout.seed, job.index]), job.size)
    job.layout.write(job.index, face)
