"""Adds a finished run to the project's weights: python -m deploy.publish parser outputs/runs/finetune-0123456789ab.

The run keeps its id, so what starts from it has the same id everywhere. Its weights are stored in half precision, which
halves the file; networks read them in single precision. What describes the computer it was trained on is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from callbacks.checkpoints import load, save
from foundation.errors import ConfigError, DataError
from foundation.files import to_json, write_text_atomically
from foundation.pretrained import FOLDER, INDEX
from foundation.reading import read_json
from foundation.run_folder import RunFolder

LEFT_OUT = ("manifest", "history", "wandb_ids", "device", "peak_memory_mb", "images_per_second", "error", "attempts")
"""Keys of a status that tell of a computer, or of how a training went there."""


def publish(name: str, path: Path, folder: Path = FOLDER) -> Path:
    """Copy a finished run to ``pretrained/`` and enter it in the index under a name, whose earlier run stays.

    Returns:
        The published run's folder.

    Raises:
        ConfigError: if the path is not that of a finished run.
        DataError: if its checkpoint cannot be read.
    """
    run = RunFolder.at(path.resolve())
    if run is None or not run.done:
        raise ConfigError(
            f"{path} is not a finished run.\nIt must be a run folder, such as runs/finetune-0123456789ab."
        )
    content = load(run.best)
    published = RunFolder(folder, run.stage, run.id)
    published.best.parent.mkdir(parents=True, exist_ok=True)
    save({**content, "state_dict": halved(content["state_dict"])}, published.best)
    status = {key: value for key, value in run.status.items() if key not in LEFT_OUT}
    write_text_atomically(published.path / "status.json", to_json(status))
    known = read_json(folder, INDEX) if (folder / INDEX).exists() else {}
    entry = {"run": published.name, "sha256": hashlib.sha256(published.best.read_bytes()).hexdigest()}
    write_text_atomically(folder / INDEX, to_json({**known, name: entry}))
    return published.path


def halved(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights with half-precision numbers for single-precision ones.

    Raises:
        DataError: if a number is too large for half precision.
    """
    half = {key: value.half() if value.dtype == torch.float32 else value for key, value in state.items()}
    if unfit := [key for key, value in half.items() if not value.isfinite().all()]:
        raise DataError(f"{unfit[0]} has values above 65504, the largest number of half precision.")
    return half


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="short name, such as parser or segmenter")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    given = parser.parse_args()
    try:
        print(f"Written: {publish(given.name, given.run)}")
    except (ConfigError, DataError) as error:
        sys.exit(str(error))
