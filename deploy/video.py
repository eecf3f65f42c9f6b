"""Predict masks of a video or camera: label maps per frame, and a video with the masks over it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from deploy.predictor import Masks, Predictor
from foundation.errors import BrokenFileError, ConfigError, RunError
from foundation.files import atomic_path

RATE = 25.0
"""Frames per second if the video does not record them."""
FRAMES_AT_ONCE = 16
PIXELS_AT_ONCE = 140_000_000
"""Number of frames that are predicted together, and of their pixels: 16 frames of 4K, 4 of 8K."""
COUNTED = (".mp4", ".mov", ".m4v", ".avi")
"""Files that record their number of frames; of others it is computed from a duration, which sound may extend."""


@dataclass(frozen=True)
class Clip:
    """An open video.

    Args:
        frames: its frames, (H, W, 3) uint8 RGB, an iterator.
        rate: frames per second.
        count: number of frames according to its header; 0 if unknown, as for a camera.
        slack: number of frames by which ``count`` may be too high.
    """

    frames: Iterator[np.ndarray]
    rate: float
    count: int
    slack: int = 0


@dataclass(frozen=True)
class PredictedClip:
    """What came of a video.

    Args:
        lines: the entry of predictions.jsonl of each frame.
        missing: one sentence if the video breaks off before its end; "" otherwise.
        unwritten: one sentence if the video of overlays could not be written; "" otherwise.
    """

    lines: list[dict[str, Any]]
    missing: str = ""
    unwritten: str = ""


def open_clip(source: str | Path | int) -> Clip:
    """Open a video file, or a camera by its number.

    Raises:
        BrokenFileError: if the file is not a video, or has no frame.
        ConfigError: if there is no such camera.
    """
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    read, first = capture.read() if capture.isOpened() else (False, None)
    if not read or first is None:
        capture.release()
        if isinstance(source, int):
            raise ConfigError(f"input={source}: there is no camera of this number, or it is in use.")
        raise BrokenFileError(f"Cannot read the video {source}: it has no frame that can be decoded.")
    rate = capture.get(cv2.CAP_PROP_FPS)
    count = 0 if isinstance(source, int) else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    rate = rate if 1 <= rate <= 240 else RATE
    is_exact = isinstance(source, int) or Path(source).suffix.lower() in COUNTED
    return Clip(_frames(capture, first), rate, count, slack=0 if is_exact else round(rate / 2))


def _frames(capture: cv2.VideoCapture, first: np.ndarray) -> Iterator[np.ndarray]:
    frame: np.ndarray | None = first
    try:
        while frame is not None:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            read, frame = capture.read()
            frame = frame if read else None
    finally:
        capture.release()


def predict_clip(
    predictor: Predictor,
    clip: Clip,
    name: str,
    overlay: Callable[[np.ndarray, Masks], np.ndarray],
    keep: Callable[[int, np.ndarray, Masks], dict[str, Any]],
    target: Path | None,
    console: Console,
) -> PredictedClip:
    """Predict every frame. Ctrl-C ends a camera normally; it interrupts a video, whose overlay video is then removed.

    Args:
        predictor: predicts the masks.
        clip: the frames.
        name: of the clip, for the progress bar.
        overlay: frame and masks -> a frame with the masks over it, of the same size for all frames of a clip.
        keep: number of the frame from 0, frame and masks -> its entry of predictions.jsonl; writes its files.
        target: the video of overlays, ``.mp4``; None: no video.
        console: shows progress.
    """
    lines: list[dict[str, Any]] = []
    unwritten = ""
    started = time.perf_counter()
    try:
        with contextlib.nullcontext() if target is None else OverlayWriter.open(target, clip.rate) as writer:
            try:
                with Progress(console=console) as progress:
                    task = progress.add_task(name, total=clip.count or None)
                    for frames in _grouped(clip.frames, FRAMES_AT_ONCE if clip.count else 1):
                        for frame, masks in zip(frames, predictor.predict_many(frames), strict=True):
                            lines.append(keep(len(lines), frame, masks))
                            if writer is not None:
                                writer.write(overlay(frame, masks))
                        progress.update(task, completed=len(lines))
            except KeyboardInterrupt:
                if clip.count:  # only a camera ends normally by Ctrl-C
                    raise
    except RunError as error:
        unwritten = str(error)
    missing = ""
    if len(lines) < clip.count - clip.slack:
        missing = f"{name}: {len(lines)} of {clip.count} frames could be read; the file is damaged or incomplete."
    of = f" of {clip.count}" if missing else ""
    console.print(f"{name}: {len(lines)}{of} frames, {len(lines) / (time.perf_counter() - started):.1f} per second.")
    return PredictedClip(lines, missing, unwritten)


class OverlayWriter:
    """Writes frames to a video file, atomically.

    Args:
        path: the path of the draft.
        target: the path of the video, for messages.
        rate: frames per second.
    """

    def __init__(self, path: Path, target: Path, rate: float) -> None:
        self.path, self.target, self.rate = path, target, rate
        self.encoder: cv2.VideoWriter | None = None
        self.count = 0

    @staticmethod
    @contextlib.contextmanager
    def open(target: Path, rate: float) -> Iterator[OverlayWriter]:
        """The writer of the video ``target``, see :func:`foundation.files.atomic_path`.

        Raises:
            RunError: if the written video does not hold every frame; there is no video then.
        """
        with atomic_path(target) as draft:
            writer = OverlayWriter(draft, target, rate)
            try:
                yield writer
            finally:
                if writer.encoder is not None:
                    writer.encoder.release()
            writer.require_complete()

    def write(self, frame: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB.

        Raises:
            ConfigError: if OpenCV has no encoder.
        """
        frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]  # players need even sides
        if self.encoder is None:
            self.encoder = cv2.VideoWriter(
                str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, frame.shape[1::-1]
            )
            if not self.encoder.isOpened():
                raise ConfigError(f"{self.target} is not written: this OpenCV has no encoder for MPEG-4.")
        self.encoder.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.count += 1

    def require_complete(self) -> None:
        """Read the released video back: the encoder does not report what it could not write.

        Raises:
            RunError: if frames are missing.
        """
        capture, readable = cv2.VideoCapture(str(self.path)), 0
        while readable < self.count and capture.isOpened() and capture.grab():
            readable += 1
        capture.release()
        if readable < self.count:
            raise RunError(
                f"{self.target} is not written: only {readable} of its {self.count} frames could be read back. "
                f"Check the free space and the largest file that is allowed (ulimit -f)."
            )


def _grouped(frames: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    group: list[np.ndarray] = []
    for frame in frames:
        group.append(frame)
        if len(group) == size or (len(group) + 1) * frame.size > 3 * PIXELS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group
