"""What ``input=...`` of ``predict.py`` names: images, videos, and files that are neither."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.image_files import is_image
from datamodules.layouts.layout import files_below
from foundation.errors import DataError
from foundation.names import LONGEST, file_name, shown, to_bytes

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
"""Suffixes of video files."""
OUTPUT_FOLDERS = ("labels", "overlays", "parts")
"""Folders in ``out``."""
FILES_OF_NAME = (".png", ".jpg", ".mp4")
"""Endings of the files of a name: of ``a.jpg``, ``labels/a.jpg.png``."""
ENDINGS = 80
"""Bytes of a file name that are free for endings such as ``_left_eye.png``."""
NAMED = 5
"""Number of files that a message names."""


@dataclass(frozen=True)
class Inputs:
    """The files to predict, by the names of their output files, sorted.

    Args:
        images: the images.
        videos: the videos.
        left_out: names of files of the folder that are neither, by suffix or, without one, by content.
    """

    images: dict[str, Path]
    videos: dict[str, Path]
    left_out: tuple[str, ...] = ()

    def describe_left_out(self) -> str:
        """One line about the files that are left out; "" if there are none."""
        if not self.left_out:
            return ""
        rest = len(self.left_out) - NAMED
        names = ", ".join(shown(name) for name in self.left_out[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
        return f"Left out, neither images nor videos: {len(self.left_out)} files ({names})."


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def files_of(named: Iterable[tuple[str, Path]]) -> Inputs:
    """Files of a folder with their names, sorted into images, videos and others."""
    files = dict(sorted(named))
    return Inputs(
        images={name: file for name, file in files.items() if is_image(file)},
        videos={name: file for name, file in files.items() if is_video(file)},
        left_out=tuple(name for name, file in files.items() if not is_image(file) and not is_video(file)),
    )


def inputs_of(given: str, out: Path) -> Inputs:
    """The images and videos that ``input=...`` names.

    Files that predict.py wrote to ``out`` are left out, and dotfiles of a folder. A file or pattern that is not a video
    is taken for an image, whatever its suffix.

    Raises:
        DataError: if there are none.
    """
    path = Path(given)
    if path.is_dir():
        found = {name: path / name for name in files_below(path)}
        there = [(name, file) for name, file in found.items() if file.is_file()]
        inputs = files_of(_not_written_to(out, there))
        # Broken links, links to folders (which may lead in a circle), FIFOs.
        others = found.keys() - {name for name, _ in there}
        inputs = replace(inputs, left_out=tuple(sorted({*inputs.left_out, *others})))
    else:
        files = [path] if path.is_file() else _matches(given)
        # Names are relative to the common folder: nothing is written outside out.
        above = Path(os.path.commonpath([file.resolve().parent for file in files])) if files else Path()
        pairs = [(file.resolve().relative_to(above).as_posix(), file) for file in files]
        named = dict(_not_written_to(out, [(path.name, path)] if path.is_file() else pairs))
        videos = {name: file for name, file in named.items() if is_video(file)}
        inputs = Inputs({name: file for name, file in named.items() if name not in videos}, videos)
    if not inputs.images and not inputs.videos:
        raise DataError(
            f"input={given} matches no image.\nIt must be an image, a video, a folder, a pattern in quotes, such as "
            f'input="photos/*.jpg", or a camera number. Images are of any form that Pillow reads; videos '
            f"{', '.join(VIDEO_SUFFIXES)}." + (f"\n{inputs.describe_left_out()}" if inputs.left_out else "")
        )
    taken = {name + ending for name in (*inputs.images, *inputs.videos) for ending in FILES_OF_NAME}
    images = {output_name(name, taken): file for name, file in inputs.images.items()}
    videos = {output_name(name, taken): file for name, file in inputs.videos.items()}
    return Inputs(images, videos, inputs.left_out)


def output_name(name: str, taken: Container[str] = ()) -> str:
    """The name of a file's outputs: its own, with a digest in it where that and their endings are too long.

    Args:
        name: the file's path below the input.
        taken: paths below the input that are those of outputs: a folder of such a path gets a digest too.
    """
    *folders, last = name.split("/")
    named = [
        f"{file_name(folder, ENDINGS)}~{hashlib.sha256(to_bytes(folder)).hexdigest()[:10]}"
        if "/".join(folders[: place + 1]) in taken
        else folder
        for place, folder in enumerate(folders)
    ]
    return "/".join([*named, last if len(to_bytes(last)) <= LONGEST - ENDINGS else file_name(last, ENDINGS)])


def _matches(pattern: str) -> list[Path]:
    return [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]  # noqa: PTH207


def _not_written_to(out: Path, named: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Leave out what predict.py wrote."""
    written = [(out / folder).resolve() for folder in OUTPUT_FOLDERS]
    own = (out / "predictions.jsonl").resolve()
    return [
        (name, file)
        for name, file in named
        if file.resolve() != own and not any(file.resolve().is_relative_to(folder) for folder in written)
    ]
