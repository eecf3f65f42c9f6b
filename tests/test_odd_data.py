"""Data as people have them: masks of odd values, files that are none, links, copies in other case, boxes outside."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from curation.comparison import write_comparison
from datamodules.labels import OCCLUSION
from datamodules.layouts import FMLD, ImageMaskFolder, open_layout
from datamodules.layouts.photographs import photographs
from datamodules.mask_rules import MaskRules
from datamodules.mask_survey import survey_masks
from datamodules.masks import read_mask
from datamodules.reading import LabelFiles, read_image, read_label, read_part, read_photograph, require_complete
from deploy.inputs import inputs_of
from deploy.prediction import LINES, _lines_of
from foundation.errors import BrokenFileError, DataError
from foundation.notices import notice
from foundation.reading import UnreadableError, read_yaml
from lightning_modules.exported import refuse_torchscript
from tests.test_mask_values import bordered, grey, masks

# Masks


def wide(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint16))


def lossy(occluded: np.ndarray) -> Image.Image:
    """Black with a little noise where nothing is occluded, as JPEGs of black are after some editing."""
    values = 255 * occluded
    if not occluded.any():
        values = values + 9 * (np.indices(occluded.shape).sum(axis=0) % 7 == 0)
    return grey(values)


@pytest.mark.parametrize(
    ("save", "rules", "suffix"),
    [
        (lambda occluded: grey(255 * ~occluded), MaskRules((0,)), "png"),
        (lambda occluded: wide(bordered(occluded, 65535)), MaskRules(), "png"),
        (lambda occluded: wide(bordered(2 * occluded, 65535)), MaskRules((2,)), "png"),
        (lossy, MaskRules((255,)), "jpg"),
    ],
    ids=["black is occluded", "ids and void of 16 bits", "declared ids of 16 bits", "declared white, noise"],
)
def test_masks_of_odd_values(
    save: Callable[[np.ndarray], Image.Image], rules: MaskRules, suffix: str, tmp_path: Path
) -> None:
    layout, occluded = masks(tmp_path, save, suffix)
    layout.mask = rules
    labels = replace(OCCLUSION, mask=survey_masks(layout).reading)
    for index, expected in enumerate(occluded):
        read = read_label(tmp_path / "masks" / f"{index}.{suffix}", labels)
        np.testing.assert_array_equal(read[2:-2, 2:-2], expected[2:-2, 2:-2])


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_masks_are_turned_as_their_images(suffix: str, tmp_path: Path) -> None:
    marked = np.zeros((40, 64), np.uint8)
    marked[5:20, 30:60] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / f"mask.{suffix}"
    grey(marked).convert("L" if suffix != "webp" else "RGB").save(path, exif=exif, lossless=True)
    turned = np.rot90(marked, -1) > 0
    np.testing.assert_array_equal(read_photograph(path)[..., 0] > 127, turned)
    np.testing.assert_array_equal(read_mask(path), turned)
    np.testing.assert_array_equal(read_part(path), turned)
    assert LabelFiles((path,), OCCLUSION).frame(0).shape == turned.shape


def test_a_bmp_that_is_misread_is_refused(tmp_path: Path) -> None:
    """Pillow reads its bytes as if each held eight pixels."""
    image = Image.fromarray(np.indices((20, 20))[0].astype(np.uint8) % 2)
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "palette.bmp")
    for read in (read_mask, read_image):
        with pytest.raises(BrokenFileError, match="8 bits with a palette of black and white alone; convert it to PNG"):
            read(tmp_path / "palette.bmp")
    image.convert("1").save(tmp_path / "bits.bmp")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.bmp"), np.asarray(image))


# Files and folders


@pytest.mark.parametrize("kind", ["fifo", "folder", "circle", "device"])
def test_only_ordinary_files_are_opened_as_images(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    if kind == "fifo":
        os.mkfifo(path)  # opening it would wait for a writer for ever
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    for read in (read_image, read_photograph, read_mask, require_complete):
        with pytest.raises(BrokenFileError, match=r"x\.jpg.*: (it is not an ordinary file|Too many levels)"):
            read(path)


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Two photographs; links that are broken, circular, or lead to folders; a FIFO."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), "grey").save(folder / name)
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "circle").symlink_to(".")
    (folder / "more.png").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo.jpg")
    return folder


def test_links_and_fifos_are_named_where_images_are_listed(
    linked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = inputs_of(str(linked), tmp_path / "out")
    assert {*inputs.images} == {"a.png", "b.png"}
    assert inputs.left_out == ("broken.jpg", "circle.jpg", "circle/", "fifo.jpg", "more.png/")
    found = [photo.id for photo in photographs(linked)]
    assert found == ["a.png", "b.png", "broken.jpg", "circle.jpg", "fifo.jpg"]  # three of which reading names
    assert "2 files in" in (shown := capsys.readouterr().err)
    assert "(links to folders are not followed): circle/, more.png/" in shown


def test_a_comparison_names_what_it_left_out(
    linked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    result = write_comparison((linked, linked), ("all", "all"), tmp_path / "out", 10, 10, 1)
    assert result.images == (2, 2)
    shown = "".join(capsys.readouterr().out.split())
    assert f"6unreadablefilesleftout:{linked / 'broken.jpg'}," in shown


def test_notices_print_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    notice("left out: \x1b[31mred\udce9")
    assert capsys.readouterr().err == "Note: left out: \\x1b[31mred\\xe9\n"


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    for place in [path for path in folder.rglob("*") if path.is_dir()][::-1]:
        place.rename(place.with_name(change(place.name)))


@pytest.mark.parametrize("change", [str.upper, str.lower, str.capitalize])
def test_folders_may_be_in_any_case(change: Callable[[str], str], lapa: Path, celebamask: Path, tmp_path: Path) -> None:
    for name, source in (("lapa", lapa), ("celebamask_hq", celebamask)):
        copy = Path(shutil.copytree(source, tmp_path / name))
        renamed(copy, change)
        ids = [sample.id for sample in open_layout(name, copy).samples("test")]
        assert ids == [sample.id for sample in open_layout(name, source).samples("test")]
    layout, _ = masks(tmp_path / "masks", lambda occluded: grey(255 * occluded))
    renamed(layout.root, change)
    assert len(ImageMaskFolder(layout.root).samples("all")) == 4


def test_two_folders_that_differ_in_case_are_not_chosen_from(tmp_path: Path) -> None:
    for name in ("Images", "IMAGES", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="images does not exist"):
        ImageMaskFolder(tmp_path).samples("all")


# Annotations


def test_boxes_outside_of_their_image_are_broken(tmp_path: Path) -> None:
    """By the image's own size: that in the annotation may be wrong."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    for name, side in (("small", 64), ("large", 400)):
        Image.new("RGB", (side, side)).save(tmp_path / "images" / f"{name}.png")
        (tmp_path / "annotations" / f"{name}.xml").write_text(
            "<annotation><size><width>64</width><height>64</height></size><object><name>With_Mask</name><bndbox>"
            "<xmin>200</xmin><ymin>200</ymin><xmax>240</xmax><ymax>240</ymax></bndbox></object></annotation>"
        )
    layout = FMLD(tmp_path)
    with pytest.raises(DataError, match=r"1 of 2 annotations of .* are broken: 1 x box outside"):
        layout.samples("test")
    layout.skip_broken = True
    (face,) = layout.samples("test")
    assert (face.image.name, face.groups) == ("large.png", ("kind/masked",))


# What the project wrote


@pytest.mark.parametrize("line", ['{"image": "a.jpg", "label": ["x"]}', "[" * 100_000, "[1]", '{"image": "a"}'])
def test_earlier_predictions_of_other_values_are_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / LINES).write_text(line)
    with pytest.raises(DataError, match="is not a list of predictions"):
        _lines_of(tmp_path / LINES)


def test_yaml_that_ends_in_a_sign_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: !!float ''")
    with pytest.raises(UnreadableError, match="it is no YAML"):
        read_yaml(tmp_path, "a.yaml")


def test_archives_with_names_of_other_encodings_are_no_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ä", "")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\x8d\x8d"))
    refuse_torchscript(path)
