"""Which files are images, in every layout and entry point; and what any file, whatever is in it, is read as."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from curation.audit.auditing import write_audit
from datamodules.decoding import in_mode
from datamodules.image_files import FORMS, IMAGE_SUFFIXES, UNSUPPORTED, is_image
from datamodules.layouts import AugmentedCelebA, FolderPerClass, ImageMaskFolder, Layout, open_layout
from datamodules.layouts.photographs import photographs
from datamodules.mask_rules import MaskRules
from datamodules.masks import read_mask
from datamodules.reading import ImageFiles, read_image, read_part_values, read_photograph, require_complete
from deploy.inputs import inputs_of
from foundation.errors import BrokenFileError, DataError

RAMP = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (48, 1))
GREY = Image.fromarray(RAMP)
COLOUR = Image.merge("RGB", [GREY] * 3)


def test_the_list_holds_what_pillow_opens() -> None:
    """Without vector graphics, videos, and of weather data that Pillow only recognises."""
    Image.init()
    no_images = {"BUFR", "GRIB", "HDF5", "EPS", "WMF", "MPEG"}
    opened = {suffix for suffix, form in Image.registered_extensions().items() if form in {*Image.OPEN} - no_images}
    assert {*IMAGE_SUFFIXES} == opened | {".mpo"}
    assert {Image.registered_extensions()[suffix] for suffix in opened} == {*FORMS}


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"])
def test_no_file_starts_a_process(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    for read in (read_image, read_photograph, read_mask, read_part_values, require_complete):
        with pytest.raises(BrokenFileError, match="cannot identify"):
            read(path)


SAVED = ("jpg", "JPEG", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "jp2", "ppm", "tga")


def photos(folder: Path, image: Image.Image = COLOUR) -> set[str]:
    """One image of each form, of three without extension, and files that are no images."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{place}.{suffix}" for place, suffix in enumerate(SAVED)}
    for name in names:
        image.save(folder / name)
    for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "PPM"):
        image.save(folder / f"plain_{form}", form)
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for name in ("README", "notes.txt", "Thumbs.db", "photo.jpg.part"):
        (folder / name).write_text("no image")
    return names | {f"plain_{form}" for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "PPM")} | {"phone.heic"}


def test_every_entry_point_takes_the_same_files_and_names_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = photos(tmp_path / "with_mask")
    assert {photo.id for photo in photographs(tmp_path)} == {f"with_mask/{name}" for name in names}
    message = f"4 files in {tmp_path} are left out, since they are no images: with_mask/README"
    assert message in capsys.readouterr().err
    inputs = inputs_of(str(tmp_path / "with_mask"), tmp_path / "out")
    assert {*inputs.images} == names
    assert "photo.jpg.part" in inputs.left_out
    assert {sample.image.name for sample in FolderPerClass(tmp_path).samples("all")} == names
    for name in names - {"phone.heic"}:
        assert read_photograph(tmp_path / "with_mask" / name).shape == (48, 64, 3), name
    with pytest.raises(BrokenFileError, match=r"phone\.heic: HEIC is not supported; convert it"):
        read_photograph(tmp_path / "with_mask" / "phone.heic")


@pytest.fixture
def half(lapa: Path, tmp_path: Path) -> Path:
    """A copy of LaPa, half of whose training images are of another form."""
    copy = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    for image in sorted((copy / "train" / "images").iterdir())[::2]:
        Image.open(image).save(image.with_suffix(".webp"), lossless=True)
        image.unlink()
    return copy


def test_half_of_the_images_may_have_another_form(half: Path) -> None:
    assert len(open_layout("lapa", half).samples("train")) == 32
    for image in sorted((half / "train" / "images").glob("*.webp")):
        image.rename(image.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"16 of 32 images in .* are of an unsupported form: .*\.heic"):
        open_layout("lapa", half).samples("train")


def test_masks_and_images_of_any_form_are_paired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(tmp_path / "images")
    (tmp_path / "images" / "phone.heic").unlink()
    photos(tmp_path / "masks", GREY.point(lambda value: 255 * (value > 127)))
    (tmp_path / "masks" / "phone.heic").rename(tmp_path / "masks" / "phone.png")
    samples = ImageMaskFolder(tmp_path).samples("all")
    assert len(samples) == len(SAVED) + 7
    assert "1 of 21 masks" in capsys.readouterr().err
    for sample in samples:
        assert sample.label is not None
        assert (read_mask(sample.label) == (RAMP > 127)).mean() > 0.98, sample.label


# Pixels


def lab() -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    image = ImageCms.applyTransform(COLOUR, transform)
    assert image is not None
    return image


OPAQUE = Image.new("L", GREY.size, 255)
MODES = {
    **{mode: GREY.convert(mode) for mode in ("L", "P")},
    **{mode: COLOUR.convert(mode) for mode in ("RGB", "RGBX", "CMYK", "YCbCr", "HSV")},
    "LA": Image.merge("LA", [GREY, OPAQUE]),
    "La": Image.merge("LA", [GREY, OPAQUE]).convert("La"),
    "PA": GREY.convert("P").convert("PA"),
    "RGBA": Image.merge("RGBA", [*COLOUR.split(), OPAQUE]),
    "RGBa": Image.merge("RGBA", [*COLOUR.split(), OPAQUE]).convert("RGBa"),
    "I;16": Image.fromarray(RAMP.astype(np.uint16) * 257),
    "I;16B": Image.frombytes("I;16B", GREY.size, (RAMP.astype(">u2") * 257).tobytes()),
    "I of 8 bits": Image.fromarray(RAMP.astype(np.int32)),
    "I of 16 bits": Image.fromarray(RAMP.astype(np.int32) * 257),
    "F to 1": Image.fromarray((RAMP / 255).astype(np.float32)),
    "F to 255": Image.fromarray(RAMP.astype(np.float32)),
    "F to 65535": Image.fromarray(RAMP.astype(np.float32) * 257),
    "LAB": lab(),
}


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode_keep_their_brightness(mode: str, tmp_path: Path) -> None:
    assert MODES[mode].mode == mode.partition(" ")[0]
    for target in ("RGB", "L"):
        pixels = np.asarray(in_mode(MODES[mode], target)).astype(int).reshape(48, 64, -1)
        assert np.abs(pixels - RAMP[..., None]).max() <= (2 if mode in ("LAB", "YCbCr") else 0)
    try:
        MODES[mode].save(tmp_path / "image.tif")
    except OSError:  # a mode that no file has
        return
    read = read_image(tmp_path / "image.tif").pixels.astype(int)
    assert np.abs(read - RAMP[..., None]).max() <= 2
    assert np.array_equal(read, read_photograph(tmp_path / "image.tif"))
    assert np.abs(read_part_values(tmp_path / "image.tif").astype(int) - RAMP).max() <= 2


def test_modes_are_all_of_pillows() -> None:
    known = {image.mode for image in MODES.values()} | {"1", "I;16L", "I;16N"}
    assert known >= {"1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "La"}
    assert set(np.asarray(in_mode(GREY.convert("1"), "L")).ravel().tolist()) == {0, 255}


@pytest.mark.parametrize("numbers", [[-1.0, 1], [0, 1e6], [0, np.nan], [0, np.inf], [0, 2**30], [-5, 3]])
def test_numbers_of_an_unknown_range_are_refused(numbers: list[Any], tmp_path: Path) -> None:
    kind = np.float32 if any(isinstance(number, float) for number in numbers) else np.int32
    path = tmp_path / "image.tif"
    Image.fromarray(np.array([numbers], kind)).save(path)
    for read in (read_image, read_photograph, read_mask, read_part_values):
        with pytest.raises(BrokenFileError, match=r"image\.tif: its (floats|integers) of 32 bits are"):
            read(path)


# EXIF, and what decoders raise


def with_exif(path: Path, entries: bytes, more: bytes = b"") -> Path:
    COLOUR.save(path)
    raw, count = path.read_bytes(), len(entries) // 12
    segment = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + struct.pack("<I", 0) + more
    path.write_bytes(raw[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + raw[2:])
    return path


TURNED = struct.pack("<HHIHH", ExifTags.Base.Orientation, 3, 1, 6, 0)


@pytest.mark.parametrize("rational", [(0, -1), (1, 0), (-1, -1), (2**31 - 1, -(2**31))])
def test_only_the_orientation_of_exif_matters(rational: tuple[int, int], tmp_path: Path) -> None:
    resolution = struct.pack("<HHII", ExifTags.Base.XResolution, 10, 1, 38)
    path = with_exif(tmp_path / "phone.jpg", TURNED + resolution, struct.pack("<ii", *rational))
    assert read_image(path).pixels.shape == read_photograph(path).shape == (64, 48, 3)
    assert ImageFiles((path,)).frame(0).shape == (64, 48)


def test_damaged_exif_has_no_orientation(tmp_path: Path) -> None:
    path = with_exif(tmp_path / "phone.jpg", struct.pack("<HHIHH", ExifTags.Base.Orientation, 2, 5, 6, 0))
    assert read_photograph(path).shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    assert np.array_equal(read_image(path).pixels, expected)
    assert np.array_equal(read_photograph(path), expected)
    assert ImageFiles((path,)).frame(0).shape == expected.shape[:2]


@pytest.mark.parametrize(
    "error",
    [
        *(struct.error("x"), OverflowError("x"), MemoryError(), RecursionError("x"), zlib.error("x"), SyntaxError("x")),
        *(ValueError("x"), EOFError(), IndexError("x"), KeyError("x"), TypeError("x"), AttributeError("x")),
        *(NotImplementedError("x"), ZeroDivisionError("x"), AssertionError(), Image.DecompressionBombError("x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_names_the_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    COLOUR.save(path)

    def fails(*_: object) -> None:
        raise error

    for method in ("load", "verify"):
        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile." + method, fails)
    for read in (read_image, read_photograph, read_mask, read_part_values, require_complete):
        with pytest.raises(BrokenFileError, match=r"image\.png"):
            read(path)


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header declares a size that its pixels lack."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize(("width", "height"), [(14_000, 14_000), (15_000, 14_000), (30_000, 30_000), (2**31 - 1,) * 2])
def test_dimensions_cost_no_memory(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png_of(width, height))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = "truncated" if width == 14_000 else "more than 200 million"
    for read in (read_image, read_photograph, read_mask, read_part_values):
        with pytest.raises(BrokenFileError, match=rf"huge\.png: .*{message}"):
            read(path)
    if width > 14_000:
        with pytest.raises(BrokenFileError, match="more than 200 million"):
            ImageFiles((path,)).frame(0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"


# The audit of masks


def report(layout: Layout, out: Path) -> dict[str, Any]:
    write_audit(layout, out, "official")
    return json.loads((out / "audit.json").read_text())


def test_the_audit_of_images_and_masks(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(6):
        Image.fromarray(np.full((20, 20), index, np.uint8)).save(root / "images" / f"{index}.png")
        Image.fromarray(np.where(np.indices((20, 20))[0] < 5, 255, 0).astype(np.uint8)).save(
            root / "masks" / f"{index}.png"
        )
    (root / "images" / "0.png").unlink()
    (root / "masks" / "1.png").unlink()
    (root / "masks" / "2.png").write_bytes(b"no image")
    (root / "images" / "notes.txt").write_text("")
    Image.new("L", (9, 9)).save(root / "masks" / "3.png")
    found = report(ImageMaskFolder(root), tmp_path / "out")
    kinds = ("missing_image", "missing_label", "unreadable_label", "foreign_file", "wrong_size")
    assert [found[kind] for kind in kinds] == [["0"], ["1"], ["2"], ["notes.txt"], ["3"]]
    assert found["classes"]["occluded"]["share"] == pytest.approx(200 / 881)
    assert found["masks"]["read_as"] == "occluded where the value is above 127"
    assert found["masks"]["values"].startswith("0 (")
    Image.fromarray(np.eye(20, dtype=np.uint8) + np.eye(20, k=3, dtype=np.uint8) * 3).save(root / "masks" / "4.png")
    shutil.copy(root / "images" / "5.png", root / "images" / "4.png")  # a finding: both are on the sheet
    found = report(ImageMaskFolder(root), tmp_path / "out")
    assert (found["unclear_masks"], found["labelled"]) == (["set"], 0)
    assert "3 (" in found["masks"]["values"]
    assert found["duplicate"] == ["4", "5"]
    layout = ImageMaskFolder(root)
    layout.mask = MaskRules((1, 255))
    assert report(layout, tmp_path / "out")["masks"]["read_as"] == "occluded where the value is 1 or 255"


def test_the_audit_of_a_built_set(masked: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(masked, tmp_path / "copy"))
    clean = report(AugmentedCelebA(copy), tmp_path / "out")
    assert clean["faces"] == clean["labelled"] == 40
    assert 0 < clean["classes"]["occluded"]["share"] < 0.6
    images, labels = (sorted((copy / name).iterdir()) for name in ("images", "masks"))
    images[0].unlink()
    labels[1].unlink()
    (copy / "images" / "other.jpg").write_bytes(b"")
    found = report(AugmentedCelebA(copy), tmp_path / "out")
    kinds = ("missing_image", "missing_label", "foreign_file")
    assert [found[kind] for kind in kinds] == [["000000"], ["000001"], ["other.jpg"]]


def test_files_without_extension_are_images_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("BMW and P1 are no images")
    assert not any(is_image(path) for path in tmp_path.iterdir())
    assert not is_image(tmp_path / "absent")
    assert all(is_image(f"photo{suffix.upper()}") for suffix in (*IMAGE_SUFFIXES, *UNSUPPORTED))
