"""Images of any size are predicted in bounded memory, with the same values as at once."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from datamodules.landmarks import FaceFinder, FoundFace, square
from datamodules.reading import read_photograph, shrunk
from deploy import images
from deploy.images import Photo, enlarged, read, reduction
from deploy.predictor import load
from deploy.squares import class_id_tiles, find_faces, shrunk_square
from engine.stage import Run
from foundation.errors import BrokenFileError
from tests.conftest import skip
from tests.test_prediction import run_predict


def test_a_square_is_shrunk_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.squares.STRIP", 20_000)
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 300, 2)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        left, top = (int(edge) for edge in rng.integers(-300, 300, 2))
        side, least = int(rng.integers(1, 600)), int(rng.integers(8, 100))
        expected = shrunk(square(image, left, top, side), least)
        found = shrunk_square(image, (left, top, side), least)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert tuple(found.extent) == tuple(expected.extent)


@pytest.mark.parametrize(("channels", "size", "side"), [(11, 48, 301), (1, 33, 257), (3, 64, 64), (4, 96, 50)])
def test_logits_are_enlarged_in_tiles(channels: int, size: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.squares.TILE", 20 * max(channels, 4) * side)
    logits = torch.randn(channels, size, size).mul(4).round()  # ties too
    full = F.interpolate(logits[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    expected = (full[0] > 0) if channels == 1 else full.argmax(dim=0)
    tiles = list(class_id_tiles(logits, side))
    assert [start for start, _ in tiles] == list(range(0, side, 20))
    np.testing.assert_array_equal(np.concatenate([ids for _, ids in tiles], axis=1), expected.numpy())


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "CMYK", "I;16", "clear P"])
def test_a_large_image_is_read_in_strips(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("RGBA")
    options: dict[str, Any] = {}
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8 | pixels[..., 1])
    elif mode.endswith("P"):
        image = image.convert("RGB").convert("P")
        options = {"transparency": 7} if mode == "clear P" else {}
    else:
        image = image.convert(mode)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path, **options)
    expected = read_photograph(path)
    monkeypatch.setattr(images, "AT_ONCE", 1000)
    photo = read(path)
    np.testing.assert_array_equal(photo.pixels, expected)
    assert (photo.size, photo.factor) == ((90, 70), 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_photograph_is_turned_upright(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((70, 40)).save(tmp_path / "image.jpg", exif=exif)
    expected = read_photograph(tmp_path / "image.jpg")
    monkeypatch.setattr(images, "AT_ONCE", 1000)
    photo = read(tmp_path / "image.jpg")
    np.testing.assert_array_equal(photo.pixels, expected)
    monkeypatch.setattr(images, "FULL_PIXELS", 2000)
    monkeypatch.setattr(images, "SHRUNK_PIXELS", 1000)
    small = read(tmp_path / "image.jpg")
    assert (small.size, small.factor) == (expected.shape[:2], 2)
    assert enlarged(small.pixels[..., 0], small.size, small.factor).shape == expected.shape[:2]
    blocks = Image.fromarray(expected).reduce(2)
    assert np.abs(small.pixels.astype(int) - np.asarray(blocks)).mean() < 8, "the decoder's own averages"


def test_the_factor_is_a_power_of_two() -> None:
    assert reduction(4000, 6000) == reduction(7000, 7000) == reduction(600, 10_000) == 1
    assert reduction(1, 12_000) == reduction(600, 16_000) == reduction(9000, 6000) == 2
    assert reduction(14_142, 14_142) == 4
    assert reduction(1, 100_000) == 16
    label = np.arange(6, dtype=np.uint8).reshape(2, 3)
    full = enlarged(label, (3, 5), 2)
    np.testing.assert_array_equal(full, [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]])


def test_copies_that_are_too_large_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = FaceFinder()
    tried: list[tuple[str, ...]] = []

    def search(self: FaceFinder, _: np.ndarray) -> list[FoundFace]:
        tried.append(self.fallbacks)
        return []

    monkeypatch.setattr(FaceFinder, "__call__", search)
    for shape in ((400, 600, 3), (20, 20_000, 3), (4000, 6000, 3)):
        find_faces(finder, np.broadcast_to(np.uint8(0), shape))
    assert tried == [("padded", "upsampled"), ("upsampled",), ("padded",)]
    assert finder.fallbacks == ("padded", "upsampled")


def peak_mib(reset: bool = False) -> float:
    """Peak memory of this process since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


@pytest.mark.slow
def test_a_line_of_pixels_takes_no_square_of_memory(segmenter_run: Run) -> None:
    if sys.platform != "linux":
        skip("the peak memory of a process is measured on Linux")
    predictor = load(str(segmenter_run.folder.path))
    predictor.predict(np.zeros((64, 64, 3), np.uint8))
    line = np.full((1, 9999, 3), 90, np.uint8)
    before = peak_mib(reset=True)
    masks = predictor.predict(line)
    assert masks.label.shape == (1, 9999)
    assert [face.found for face in masks.faces] == ["whole"]
    assert peak_mib() - before < 250, "the square has 286 MiB, its logits 381"
    long = predictor.predict(np.full((2, 30_000, 3), 90, np.uint8))
    assert long.label.shape == (2, 30_000)
    assert long.faces[0].box == (0, -15_000, 30_000)


def write_header(path: Path, width: int, height: int) -> None:
    """A PNG of so many pixels, without them."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT", b"IEND"]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def test_an_image_that_is_too_large_does_not_end_a_folder(
    segmenter_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "masks"
    folder.mkdir()
    write_header(folder / "a.png", 20_001, 10_000)
    Image.new("RGB", (60, 40)).save(folder / "b.png")
    Image.new("RGB", (60, 40)).save(folder / "c.png")
    opened = Image.open

    def surprise(path: Path) -> Image.Image:
        if path.name == "c.png":
            raise RuntimeError("a decoder's own error")
        return opened(path)

    monkeypatch.setattr(images.Image, "open", surprise)
    run_predict(f"checkpoint={segmenter_run.folder.path}", f"input={folder}", f"out={out}", "faces=whole")
    screen = capsys.readouterr().err
    assert "a.png: it has 20001x10000 pixels, 200 megapixels" in screen
    assert "c.png: RuntimeError: a decoder's own error" in screen
    assert [path.name for path in (out / "labels").iterdir()] == ["b.png.png"]
    monkeypatch.undo()
    with pytest.raises(BrokenFileError, match="at most 200 are allowed for this kind of PNG"):
        read(folder / "a.png")
    assert Image.MAX_IMAGE_PIXELS is not None, "Pillow's own limit stays"


@pytest.mark.parametrize(
    ("name", "options", "fits"),
    [
        ("a.jpg", {}, 200),
        ("a.jpg", {"progressive": True, "subsampling": "4:2:0"}, 200),
        ("a.jpg", {"progressive": True, "subsampling": "4:4:4"}, 117),
        ("a.webp", {}, 41),
    ],
)
def test_what_a_decoder_needs_decides(
    name: str, options: dict[str, Any], fits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / name, **options)
    monkeypatch.setattr(images, "AT_ONCE", 1000)
    for scale, is_read in ((fits - 1, True), (fits + 1, False)):
        monkeypatch.setattr(images, "DECODER_BYTES", 820 * 10_000 // scale)  # the image stands for `scale` megapixels
        monkeypatch.setattr(images, "MOST_PIXELS", 200 * 10_000 // scale)
        if is_read:
            assert read(tmp_path / name).size == (100, 100)
        else:
            with pytest.raises(BrokenFileError, match="are allowed for this kind of"):
                read(tmp_path / name)


def test_a_very_large_image_has_masks_of_its_size(
    segmenter_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "AT_ONCE", 1000)
    monkeypatch.setattr(images, "FULL_PIXELS", 5000)
    monkeypatch.setattr(images, "SHRUNK_PIXELS", 2500)
    monkeypatch.setattr("deploy.prediction.PIXELS_HELD", 1000)  # read again for the overlay
    pixels = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    out = tmp_path / "masks"
    words = (f"checkpoint={segmenter_run.folder.path}", "faces=whole", f"out={out}")
    run_predict(*words, f"input={tmp_path / 'photo.png'}")
    label = np.asarray(Image.open(out / "labels" / "photo.png.png"))
    expected = load(str(segmenter_run.folder.path), faces="whole").predict(pixels).label
    np.testing.assert_array_equal(label, 255 * expected)
    assert label.shape == (75, 101)
    assert Photo.of(pixels).pixels.shape == (38, 51, 3)
    assert Image.open(out / "overlays" / "photo.png.jpg").size[0] == 51
