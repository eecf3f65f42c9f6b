"""Folders of predictions: one writer, no remains of killed commands, and files that are neither image nor video."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from deploy.inputs import inputs_of
from deploy.prediction import LINES, LOCK, _lines_of
from deploy.video import open_clip
from engine.stage import Run
from foundation.errors import ConfigError, DataError, RunError, explained
from tests.test_prediction import lines, run_predict


def write_clip(path: Path, code: str, count: int, side: int = 64) -> None:
    """A video of noise, which takes many bytes."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, (side, side))
    for _ in range(count):
        writer.write(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    writer.release()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The limit of ``ulimit -f``, in bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_of_a_folder_that_are_left_out_are_counted(
    segmenter_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "masks"
    (folder / "deeper").mkdir(parents=True)
    for name, form in (("a.jpg", "JPEG"), ("b.jfif", "JPEG"), ("deeper/c.ppm", "PPM"), ("d", "PNG")):
        Image.new("RGB", (40, 30)).save(folder / name, form)
    for name in ("e.txt", "f.raw", "g.md", "deeper/h.csv", "i.json", "no_suffix", ".dotfile"):
        (folder / name).touch()
    inputs = inputs_of(str(folder), out)
    assert list(inputs.images) == ["a.jpg", "b.jfif", "d", "deeper/c.ppm"]
    assert inputs.left_out == ("deeper/h.csv", "e.txt", "f.raw", "g.md", "i.json", "no_suffix")
    run_predict(f"checkpoint={segmenter_run.folder.path}", f"input={folder}", f"out={out}", "faces=whole")
    screen = capsys.readouterr().err
    assert "neither images nor videos: 6 files (deeper/h.csv, e.txt, f.raw, g.md, i.json and 1 more)" in screen
    for name in inputs.images:
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"matches no image.*\n.*\n.*6 files \(deeper/h\.csv"):
        inputs_of(str(folder), out)
    assert list(inputs_of(str(folder / "no_suffix"), out).images) == ["no_suffix"], "a file by its name is tried"


def test_what_predict_wrote_is_no_input(tmp_path: Path) -> None:
    for name in ("labels/a.png", "overlays/a.jpg", "parts/a_nose.png", "predictions.jsonl", "photo.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    inputs = inputs_of(str(tmp_path), tmp_path)
    assert (list(inputs.images), inputs.left_out) == (["photo.png"], ())


def test_one_command_at_a_time_writes_to_a_folder(segmenter_run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    out = tmp_path / "masks"
    out.mkdir()
    words = (f"checkpoint={segmenter_run.folder.path}", f"input={tmp_path / 'a.png'}", f"out={out}", "faces=whole")
    with FileLock(out / LOCK), pytest.raises(ConfigError, match=r"out=.*masks is in use by another command"):
        run_predict(*words)
    assert [path.name for path in out.iterdir()] == [LOCK]
    run_predict(*words)
    assert sorted(path.name for path in out.iterdir()) == ["labels", "overlays", "predictions.jsonl"]


def test_drafts_of_a_killed_predict_are_removed(segmenter_run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    out = tmp_path / "masks"
    for draft in (".predictions.jsonl.1.tmp", "labels/deep/.a.png.1.tmp", "overlays/.clip.mp4.1.tmp/clip.mp4"):
        (out / draft).parent.mkdir(parents=True, exist_ok=True)
        (out / draft).touch()
    (out / LOCK).touch()
    (out / "predictions.jsonl").touch()
    run_predict(f"checkpoint={segmenter_run.folder.path}", f"input={tmp_path / 'a.png'}", f"out={out}", "faces=whole")
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == ["labels/a.png.png", "overlays/a.png.jpg", "predictions.jsonl"]
    assert not list(out.rglob(".*"))


def test_a_truncated_video_is_reported(segmenter_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_clip(tmp_path / "whole.avi", "MJPG", 20)
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "torn.avi").write_bytes(content[: len(content) // 2])
    out = tmp_path / "masks"
    words = (f"checkpoint={segmenter_run.folder.path}", "faces=whole", f"out={out}")
    run_predict(*words, f"input={tmp_path / 'whole.avi'}")
    assert "Read in part" not in capsys.readouterr().err
    run_predict(*words, f"input={tmp_path / 'torn.avi'}")
    screen = capsys.readouterr().err
    count = len(list((out / "labels" / "torn.avi").iterdir()))
    assert 5 < count < 15
    assert f"torn.avi: {count} of 20 frames, " in screen
    assert f"Read in part: torn.avi: {count} of 20 frames could be read; the file is damaged or incomplete." in screen
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 20 + count, "what was read is kept"


def test_a_count_that_is_computed_may_be_too_high(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", "MJPG", 3)
    write_clip(tmp_path / "clip.mkv", "MJPG", 3)
    assert (open_clip(tmp_path / "clip.avi").slack, open_clip(tmp_path / "clip.mkv").slack) == (0, 5)


def test_a_video_that_cannot_be_written_completely_is_no_result(segmenter_run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", "MJPG", 12, side=128)
    out = tmp_path / "masks"
    words = (f"checkpoint={segmenter_run.folder.path}", "faces=whole", f"out={out}", f"input={tmp_path / 'clip.avi'}")
    with (
        largest_file(50_000),
        pytest.raises(RunError, match=r"clip\.avi\.mp4 is not written: only \d+ of its 12") as info,
    ):
        run_predict(*words)
    assert "ulimit -f" in str(info.value)
    assert not list((out / "overlays").iterdir())
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 12, "label maps are kept"
    run_predict(*words)
    assert len(list(open_clip(out / "overlays" / "clip.avi.mp4").frames)) == 12
    assert lines(out)["clip.avi"]["frame"] == 11


def test_the_largest_file_is_one_message() -> None:
    message = explained(OSError(errno.EFBIG, "File too large"))
    assert isinstance(message, RunError)
    assert "ulimit -f" in str(message)


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"image": ["a"], "label": "b"}', '{"image": "a", "label": {"b": 1}}', "1", "fifo", "link"],
)
def test_a_list_of_predictions_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    """A FIFO is never read to its end, nor is a device."""
    file = tmp_path / LINES
    if content == "fifo":
        os.mkfifo(file)
    elif content == "link":
        file.symlink_to("/dev/zero")
    else:
        file.write_text(content)
    with pytest.raises(DataError, match=r"is not a list of predictions.*\n.*Nothing was written"):
        _lines_of(file)
