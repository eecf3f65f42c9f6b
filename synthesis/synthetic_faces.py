"""Writes synthetic faces as a data set in a published layout: atomic, and resumable after an interruption."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from foundation.errors import ConfigError
from synthesis.dataset_build import LARGEST, Build, require_integer
from synthesis.layout_writers import LAYOUT_WRITERS, LayoutWriter

GENERATOR_VERSION = 6
"""Raise it whenever the same seed gives other bytes, in any module of this package."""


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
    if layout not in LAYOUT_WRITERS:
        raise ConfigError(f"layout={layout}: no such layout of synthetic faces; there is: {', '.join(LAYOUT_WRITERS)}")
    for name, value, least in (("count", count, 10), ("size", size, 32), ("seed", seed, 0), ("workers", workers, 1)):
        require_integer(name, value, least, LARGEST if name == "size" else None)
    out = out or Path("data/synthetic") / LAYOUT_WRITERS[layout].default_folder
    parameters = {"origin": "drawn", "layout": layout, "count": count, "size": size, "seed": seed}
    parameters["generator_version"] = GENERATOR_VERSION
    build = Build(out, parameters, what="synthetic faces")
    with build.claimed() as needed:
        if not needed:
            return
        writer = LAYOUT_WRITERS[layout](build.partial, count, seed)
        build.open()
        missing = [index for index in range(count) if not writer.last_file(index).exists()]
        for _ in build.each(partial(_write_face, writer, size), missing, workers, "rendering faces"):
            pass
        writer.finish()
        build.finish()


def _write_face(layout: LayoutWriter, size: int, index: int) -> None:
    """One face of a data set: rendered from (seed, index) alone, so neither order nor workers matter."""
    import numpy as np

    from synthesis import faces

    layout.write(index, faces.render_random_face(np.random.default_rng([layout.seed, index]), size))
