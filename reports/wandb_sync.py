"""Complete W&B runs from run folders: ``python report.py view=wandb_sync``.

W&B's own log of a killed training has two parts and lacks the last steps. ``metrics.csv`` has every step exactly once:
from it, a complete offline run is written for upload.
"""

from __future__ import annotations

import errno
import io
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from engine.wandb_runs import described, log_classes, wandb_run
from foundation.errors import ConfigError, DataError, RunError, UserError
from foundation.files import atomic_path, remove_drafts
from foundation.reading import MEBIBYTE, UnreadableError, read_yaml
from foundation.recorded_runs import RecordedRun
from foundation.shown_text import printable
from reports.page import require_no_link
from reports.panels import file_of, samples_of

OFFLINE: dict[str, Any] = {"project": "halfmask", "mode": "offline", "group": None, "tags": []}
"""W&B settings of a run that was trained with logger=none."""
PLACES = {"epoch": "epoch", "step": "trainer/global_step"}
"""Columns of integers, and their names in W&B."""
ATTEMPTS = 10
"""Number of times that a file is read back."""
WANDB_HEADER, CHUNK_HEADER, BLOCK = 7, 7, 2**15
FULL, FIRST, LAST = 1, 2, 4
"""Sizes in bytes, and kinds of chunks, of W&B's files."""
GRID_SIZE, GRID_PIXELS = 64 * MEBIBYTE, 2**26
"""Largest size of an image's file in bytes, and largest number of its pixels."""


def write_wandb_runs(runs: Sequence[RecordedRun], output_dir: Path, console: Console) -> list[Path]:
    """Write ``<output_dir>/wandb/<run>/`` for every ended run with curves, unless it exists and is newer.

    Returns:
        The folders, for ``wandb sync``.

    Raises:
        ConfigError: if there is no run with curves, or the folder is a link.
    """
    ended = [run for run in runs if run.state in ("done", "failed", "interrupted") and run.has_curves]
    if not ended:
        raise ConfigError(f"No run in {output_dir / 'runs'} has ended and has a metrics.csv.\nExpected: one at least.")
    require_no_link(output_dir / "wandb")
    folders = []
    for run in track(ended, "writing W&B runs", console=console):
        folder = output_dir / "wandb" / run.path.name
        try:
            if not (folder.is_dir() and folder.stat().st_mtime > run.changed):
                _require_curves(run)
                remove_drafts(folder.parent, folder.name)
                with atomic_path(folder) as draft:
                    draft.mkdir()
                    _require_complete(draft, _write(run, draft))
        except (UserError, OSError, ValueError) as error:  # a name too long, a foreign file: the other runs are written
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            console.print(f"Left out: {printable(run.path.name)}: {printable(str(error))}")
            continue
        folders.append(folder)
    if not folders:
        raise ConfigError(f"No run of {output_dir / 'runs'} could be written; the reasons are above.")
    return folders


def _require_curves(run: RecordedRun) -> None:
    if not run.curves:
        raise DataError("metrics.csv cannot be read.")


def _write(run: RecordedRun, folder: Path) -> int:
    """Write the W&B run; the number of rows of its history."""
    import wandb

    config = _config(run)
    how = _settings(config)
    keys = ("experiment", "sweep", "method", "dataset", "scale")
    about = {key: run.status.get(key) for key in keys} | {"stage": run.stage}
    settled = config | {"logger": {"wandb": how}, "run_id": run.id}
    with wandb_run(folder, settled, id=run.path.name, **described(about, how["group"], how["tags"])) as opened:
        curves = run.curves
        if opened is None:
            raise RunError("W&B cannot open a run.")
        names = [name for name in run.panels.get("", ()) if name.startswith("epoch_")]
        grids = {name.removesuffix(".png"): grid for name in names if (grid := _grid(run, name))}
        media = {"panels": grids} if grids else {}
        media |= {f"test/{kind}": images for kind, images in _test_images(run).items()}
        shown = {key: [wandb.Image(image, caption=name) for name, image in one.items()] for key, one in media.items()}
        (steps,) = {len(column) for column in curves.values()}
        for number, row in enumerate(zip(*curves.values(), strict=True), 1):
            # A step that Ctrl-C interrupted has a learning rate and no epoch.
            values = {name: float(value) for name, value in zip(curves, row, strict=True) if np.isfinite(value)}
            place = {column: int(values.pop(name)) for name, column in PLACES.items() if name in values}
            opened.log(values | place | (shown if number == steps else {}))
        log_classes(opened, run.metrics)
        opened.summary.update({name: value for name, value in run.metrics.items() if name.startswith("test/")})
        return steps


TEST_KINDS, TEST_FACES = ("image", "ground_truth", "prediction"), 6
"""Images of test faces, and the number of faces."""


def _test_images(run: RecordedRun) -> dict[str, dict[str, Image.Image]]:
    """Test faces by kind and name, and the confusion matrix."""
    faces = {kind: samples_of(run, "test", kind)[:TEST_FACES] for kind in TEST_KINDS}
    files = {kind: {name: file_of(run, "test", name, kind) for name in names} for kind, names in faces.items()}
    files["confusion"] = {"confusion": "confusion.png"} if "confusion.png" in run.panels.get("test", ()) else {}
    read = {kind: {face: _grid(run, name, "test") for face, name in named.items()} for kind, named in files.items()}
    found = {kind: {face: image for face, image in images.items() if image} for kind, images in read.items()}
    return {kind: images for kind, images in found.items() if images}


def _grid(run: RecordedRun, name: str, place: str = "") -> Image.Image | None:
    """An image of ``panels/``; None if it is none."""
    content = run.panel(place, name, GRID_SIZE)
    if content is None:
        return None
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        if image.width * image.height > GRID_PIXELS:
            return None
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # of a broken PNG file
        return None
    return image


def _require_complete(folder: Path, expected: int) -> None:
    """Read back what W&B's process has written: it reports neither a full disk nor its own end.

    Raises:
        RunError: if steps are absent.
    """
    for _ in range(ATTEMPTS):  # its process may be about to write the last records
        found = sum(map(_history_records, folder.glob("wandb/offline-run-*/*.wandb")))
        if found >= expected:
            return
        time.sleep(0.2)
    raise RunError(f"W&B wrote {found} of {expected} steps to {folder.parent}; the disk may be full.")


def _history_records(file: Path) -> int:
    """Number of logged steps in a file of W&B: a header of 7 bytes, then records in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    content, place, count, record = file.read_bytes(), WANDB_HEADER, 0, b""
    while place + CHUNK_HEADER <= len(content):
        if (left := BLOCK - place % BLOCK) < CHUNK_HEADER:  # the end of a block is padded
            place += left
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)  # after the checksum
        chunk = content[place + CHUNK_HEADER : place + CHUNK_HEADER + size]
        place += CHUNK_HEADER + size
        record = chunk if kind in (FULL, FIRST) else record + chunk
        if kind in (FULL, LAST) and len(chunk) == size:
            count += Record.FromString(record).WhichOneof("record_type") == "history"
    return count


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """W&B settings of a run's configuration, those of :data:`OFFLINE` where it has none or others than expected."""
    logger = config.get("logger")
    own = logger.get("wandb") if isinstance(logger, dict) else None
    own = own if isinstance(own, dict) else {}
    kinds = {"project": str, "group": str, "tags": list}
    usable = {name: value for name, value in own.items() if isinstance(value, kinds.get(name, object))}
    return OFFLINE | usable | {"mode": "offline"}


def _config(run: RecordedRun) -> dict[str, Any]:
    try:
        plain = read_yaml(run.path, "config.yaml")
    except UnreadableError:
        return {}
    return {str(name): value for name, value in plain.items()} if isinstance(plain, dict) else {}
