"""The weights that come with the project: finished runs in ``pretrained/``, each with a short name."""

from __future__ import annotations

from pathlib import Path

from foundation.errors import DataError
from foundation.reading import UnreadableError, read_json

FOLDER = Path(__file__).parent.parent / "pretrained"
"""An output folder whose ``weights.json`` gives short names to its runs."""
INDEX = "weights.json"


def run_path(name: str, output_dir: Path) -> Path:
    """The path that the name of a run means: that of weights of :data:`FOLDER`, of a run in ``output_dir``, or itself.

    A path of one part that does not exist is the name of a run; ``./parser`` is a folder of the user's own, whatever
    the project's weights are called.

    Raises:
        DataError: if the index of the weights cannot be read.
    """
    if name in (shipped := weights()):
        return FOLDER / "runs" / shipped[name]
    path = Path(name)
    return output_dir / "runs" / path if len(path.parts) == 1 and not path.exists() else path


def weights() -> dict[str, str]:
    """Short name -> name of its run; {} where the project lies without its weights.

    Raises:
        DataError: if the index cannot be read.
    """
    if not (FOLDER / INDEX).exists():
        return {}
    try:
        return {name: entry["run"] for name, entry in read_json(FOLDER, INDEX).items()}
    except (UnreadableError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{FOLDER / INDEX} cannot be read: {error}.\nRestore the file from the repository.") from error
