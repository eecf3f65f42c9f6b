"""LaPa's published layout, read from synthetic, native and real folders, and its errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from datamodules.labels import LAPA
from datamodules.layouts import Sample, open_layout
from datamodules.reading import ImageFiles, read_image, read_label, read_mask, read_photograph, require_size, shrunk
from datamodules.transforms import MEAN, STD, FaceTransform, denormalize
from foundation.errors import ConfigError, DataError


@pytest.fixture
def copy(lapa: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lapa, tmp_path / "LaPa"))


def test_counts_pairs_and_origin(lapa: Path) -> None:
    layout = open_layout("lapa", lapa)
    assert [len(layout.samples(split)) for split in ("train", "val", "test")] == [32, 4, 4]
    assert layout.origin == "drawn"
    for sample in layout.samples("train"):
        assert sample.label is not None
        assert sample.landmarks is not None
        assert sample.image.stem == sample.label.stem == sample.landmarks.stem == sample.id


def test_all_takes_the_faces_of_all_existing_splits(copy: Path) -> None:
    layout = open_layout("lapa", copy)
    assert len(layout.samples("all")) == 40
    shutil.rmtree(copy / "val")
    assert layout.samples("all") == layout.samples("train") + layout.samples("test")
    with pytest.raises(DataError, match="val"):
        layout.samples("val")
    shutil.rmtree(copy)
    with pytest.raises(DataError, match="No LaPa faces"):
        layout.samples("all")


def test_unlabelled_faces_need_no_labels(copy: Path) -> None:
    shutil.rmtree(copy / "train" / "labels")
    layout = open_layout("lapa", copy)
    assert len(layout.samples("train", labelled=False)) == 32
    with pytest.raises(DataError, match="labels does not exist"):
        layout.samples("train")


def test_image_without_label_is_named(copy: Path) -> None:
    victim = sorted((copy / "train" / "labels").iterdir())[5]
    victim.unlink()
    with pytest.raises(DataError, match=victim.name):
        open_layout("lapa", copy).samples("train")


def test_two_images_of_one_name_are_named(copy: Path) -> None:
    victim = sorted((copy / "val" / "images").iterdir())[0]
    shutil.copy(victim, victim.with_suffix(".png"))
    with pytest.raises(DataError, match=victim.name):
        open_layout("lapa", copy).samples("val")


def test_missing_folder_lists_its_expected_content(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.*\n.*labels/\*\.png(.|\n)*make demo"):
        open_layout("lapa", tmp_path / "nowhere").samples("train")


def test_unknown_dataset() -> None:
    with pytest.raises(ConfigError, match="lapa"):
        open_layout("lappa", "anywhere")


def test_native_sample(face_data: Path) -> None:
    layout = open_layout("lapa", face_data / "native" / "LaPa")
    samples = layout.samples("train")
    assert len(samples) == 9
    assert layout.origin == "real"
    sizes = set()
    for sample in samples:
        image = read_image(sample.image)
        assert sample.label is not None
        label = read_label(sample.label, layout.labels)
        assert image.pixels.shape == (*label.shape, 3)
        assert {0, 1, 6} <= set(np.unique(label)), "every native face shows background, skin and nose"
        sizes.add(image.size)
    assert sizes == {(256, 256), (378, 378), (512, 512)}


def test_real_faces(face_data: Path) -> None:
    layout = open_layout("lapa", face_data / "real" / "LaPa")
    assert [len(layout.samples(split)) for split in ("train", "val", "test")] == [560, 70, 70]


def test_large_images_are_decoded_no_larger_than_needed(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (900, 1400, 3), dtype=np.uint8)
    for name in ("large.jpg", "large.png"):
        Image.fromarray(image).save(tmp_path / name)
        small = read_image(tmp_path / name, least=100)
        assert small.size == (900, 1400)
        assert 100 <= min(small.pixels.shape[:2]) < 200
        assert read_image(tmp_path / name).pixels.shape == (900, 1400, 3)


def test_shrinking_averages_instead_of_skipping(tmp_path: Path) -> None:
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    image = read_image(tmp_path / "stripes.png", least=64)
    assert abs(image.pixels.astype(float) - 127.5).max() < 2


def test_every_column_of_a_wide_image_is_used(tmp_path: Path) -> None:
    transform = FaceTransform(64, None, LAPA, 0)
    seen = []
    for column in range(230):
        pixels = np.zeros((70, 230, 3), dtype=np.uint8)
        pixels[:, column] = 255
        Image.fromarray(pixels).save(tmp_path / "wide.png", compress_level=0)
        image = read_image(tmp_path / "wide.png", least=64)
        warped, _ = transform(image.pixels, None, 0, 0, image.extent)
        seen.append(denormalize(warped).astype(float).sum())
    assert min(seen) > 0.4 * max(seen) > 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_rotated_by_their_exif_orientation(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((400, 480), Image.Resampling.BILINEAR)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    full = read_photograph(tmp_path / "turned.jpg")
    assert full.shape[:2] == ((400, 480) if orientation > 4 else (480, 400))
    assert np.array_equal(read_image(tmp_path / "turned.jpg").pixels, full)
    small = read_image(tmp_path / "turned.jpg", least=100)
    assert small.size == full.shape[:2]
    assert np.abs(small.pixels.astype(float) - shrunk(full, 100).pixels).max() < 12
    frame = ImageFiles((tmp_path / "turned.jpg",), 100).frame(0)
    assert (frame.shape, frame.size, frame.extent) == (small.pixels.shape[:2], small.size, small.extent)
    assert read_image(tmp_path / "turned.jpg", upright=False).size == (480, 400)


def test_images_of_16_bits_and_with_transparency_are_read(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp.astype(np.uint16) << 8).save(tmp_path / "deep.png")
    assert np.array_equal(read_image(tmp_path / "deep.png").pixels, ramp[..., None].repeat(3, 2))
    smoothed = np.where(np.isin(ramp, range(120, 136)), ramp, 255 * (ramp > 127)).astype(np.uint16)
    Image.fromarray(smoothed << 8).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), ramp > 127)
    Image.fromarray(ramp.astype(np.uint16) << 8).save(tmp_path / "keyed.png", transparency=0)
    assert np.array_equal(read_image(tmp_path / "keyed.png").pixels[..., 0], ramp)
    for white in (1, 255, 65535):
        Image.fromarray(np.where(ramp > 99, white, 0).astype(np.uint16)).save(tmp_path / "wide.png")
        assert np.array_equal(read_mask(tmp_path / "wide.png"), ramp > 99), white
    clear = np.dstack([ramp, ramp, ramp, np.where(ramp < 128, 0, 255).astype(np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert np.array_equal(read_image(tmp_path / "clear.png").pixels[..., 0], np.where(ramp < 128, 255, ramp))


@pytest.mark.parametrize("width", [512, 1023, 1423])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_shrinking_does_not_shift(tmp_path: Path, width: int, suffix: str) -> None:
    """A horizontal ramp keeps its position for every integer shrinking factor."""
    ramp = np.repeat(np.linspace(0, 255, width).round().astype(np.uint8)[None, :, None], 3, axis=2).repeat(width, 0)
    Image.fromarray(ramp).save(tmp_path / f"ramp.{suffix}", quality=100)
    image = read_image(tmp_path / f"ramp.{suffix}", least=64)
    warped, _ = FaceTransform(64, None, LAPA, 0)(image.pixels, None, 0, 0, image.extent)
    seen = 255 * (warped[0, 32] * STD[0] + MEAN[0])
    expected = ((np.arange(64) + 0.5) * width / 64 - 0.5) * 255 / (width - 1)
    column = np.arange(1, 63)
    error = (seen - expected)[1:-1] / (255 / 64)  # in pixels, with the rounding of grey levels
    stretch = np.polyfit(column, error, deg=1)[0] * 64
    assert abs(stretch) < (0.15 if suffix == "png" else 0.2)  # the JPEG decoder rounds, brighter at one end


@pytest.mark.parametrize("error", ["truncated", "colour", "size", "id"])
def test_broken_files_are_named(lapa: Path, tmp_path: Path, error: str) -> None:
    layout = open_layout("lapa", lapa)
    sample = layout.samples("train")[0]
    assert sample.label is not None
    bad = tmp_path / "bad.png"
    label = np.array(Image.open(sample.label))
    match error:
        case "truncated":
            bad.write_bytes(sample.label.read_bytes()[:60])
        case "colour":
            Image.fromarray(layout.labels.colorize(label)).save(bad)
        case "size":
            Image.fromarray(label[:-1]).save(bad)
        case "id":
            label[3, 3] = 11
            Image.fromarray(label).save(bad)
    with pytest.raises(DataError, match=r"bad\.png"):
        require_size(Sample("bad", sample.image, bad), read_label(bad, layout.labels).shape, label.shape)


def test_truncated_jpeg_is_named(lapa: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(open_layout("lapa", lapa).samples("train")[0].image.read_bytes()[:900])
    with pytest.raises(DataError, match=r"bad\.jpg"):
        read_image(bad)
