"""Photographs to put masks on: data sets with their own splits and landmarks, and folders in which much is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.landmarks import FaceFinder
from datamodules.layouts.photographs import photographs
from synthesis.masks.choices import MaskChoices
from tests.masked_sets import build, lines, summary


def test_celeba_is_recognised_in_its_authors_folders(celeba: Path, tmp_path: Path) -> None:
    for name, folder in (("img_align_celeba", "Img"), ("img_celeba", "Img"), ("list_eval_partition.txt", "Eval")):
        if (celeba / name).exists():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).symlink_to(celeba / name)
    flat, packed = photographs(celeba), photographs(tmp_path)
    assert [image.split for image in packed] == [image.split for image in flat]
    assert {image.split for image in packed} == {"train", "val", "test"}


def test_mask_files_are_not_used_as_photographs(celeba: Path, tmp_path: Path) -> None:
    image = next(photo.image for photo in photographs(celeba))
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        shutil.copy(image, tmp_path / folder / "face.jpg")
    assert [photo.id for photo in photographs(tmp_path)] == ["images/face.jpg"]


@pytest.mark.parametrize("form", ["txt", "csv"])
def test_the_source_s_own_partition(celeba: Path, tmp_path: Path, form: str) -> None:
    source = Path(shutil.copytree(celeba, tmp_path / "CelebA"))
    own = {photo.id: photo.split for photo in photographs(source)}
    if form == "csv":
        text = (source / "list_eval_partition.txt").read_text()
        (source / "list_eval_partition.txt").unlink()
        (source / "list_eval_partition.csv").write_text("image_id,partition\n" + text.replace(" ", ","))
    rows = lines(build(tmp_path / "set", source, split="partition", count=20))
    assert all(own[row["source"]] == row["split"] for row in rows)
    assert [sum(row["split"] == split for row in rows) for split in ("train", "val", "test")] == [16, 2, 2]


@pytest.mark.parametrize("name", ["lapa", "celebamask"])
def test_images_of_labelled_data_sets(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source = request.getfixturevalue(name)
    rows = lines(build(tmp_path / "set", source, split="partition", count=20))
    assert [sum(row["split"] == split for row in rows) for split in ("train", "val", "test")] == [16, 2, 2]
    for row in rows:
        assert "label" not in row["source"]
        assert "mask" not in row["source"]
        assert row["faces"][0]["found"] == "layout", "synthetic faces have landmarks"


def test_equal_names_in_other_splits_keep_their_landmarks(lapa: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
            for place, file in enumerate(sorted((lapa / split / kind).iterdir())[:2]):
                shutil.copy(file, tmp_path / split / kind / f"{place}{file.suffix}")
    assert all(image.split == Path(image.id).parts[0] for image in photographs(tmp_path))


def test_lapas_106_landmarks_replace_missing_68(lapa: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(lapa, tmp_path / "LaPa", ignore=shutil.ignore_patterns("landmarks_68")))
    for row in lines(build(tmp_path / "set", source, count=12)):
        (face,) = row["faces"]
        own = np.loadtxt(
            (source / row["source"]).parent.parent / "landmarks" / f"{Path(row['source']).stem}.txt", skiprows=1
        )
        assert face["found"] == "layout"
        assert np.allclose(np.array(face["landmarks"])[8], own[16], atol=0.02), "the chin"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, celeba: Path) -> Path:
    """A folder of photographs among which much is wrong."""
    root = tmp_path_factory.mktemp("odd")
    finder = FaceFinder(fallbacks=())
    found = [
        photo.image for photo in photographs(celeba) if finder(np.asarray(Image.open(photo.image).resize((256, 256))))
    ]
    (root / "deep" / "deeper").mkdir(parents=True)
    for index, file in enumerate(found[:12]):
        Image.open(file).resize((256, 256)).save(root / "deep" / f"{index}.v1.jpeg")
    face = Image.open(found[0]).resize((256, 256))
    face.convert("L").save(root / "grey.png")
    face.convert("RGBA").save(root / "clear.PNG")
    face.save(root / "deep" / "deeper" / "web.webp")
    three = Image.new("RGB", (770, 256), "grey")
    for index in range(3):
        three.paste(face, (257 * index, 0))
    three.save(root / "three.jpg")
    (root / "text.jpg").write_text("no image")
    (root / "empty.jpg").write_bytes(b"")
    (root / "cut.jpg").write_bytes((root / "deep" / "0.v1.jpeg").read_bytes()[:600])
    Image.new("RGB", (1, 1)).save(root / "dot.png")
    Image.new("RGB", (200, 200), "white").save(root / "blank.png")
    (root / ".hidden.jpg").write_text("no image")
    return root


def test_odd_files_are_counted_and_never_fatal(odd: Path, tmp_path: Path) -> None:
    out = build(tmp_path / "set", odd, count=40, choices=MaskChoices())
    counts = summary(out)
    assert counts["unreadable"] == ["cut.jpg", "empty.jpg", "text.jpg"]
    assert {"blank.png", "dot.png"} <= set(counts["no_face"])
    assert counts["no_face_rate"] == pytest.approx(len(counts["no_face"]) / (counts["photographs"]["looked_at"] - 3))
    assert counts["several_faces"] == 1
    rows = lines(out)
    assert {"grey.png", "clear.PNG", "deep/deeper/web.webp", "three.jpg"} <= {row["source"] for row in rows}
    several = next(row for row in rows if row["source"] == "three.jpg")
    mask = np.asarray(Image.open(out / several["mask"]))
    assert len(several["faces"]) == 3
    assert all(mask[:, 257 * index : 257 * index + 256].any() for index in range(3)), "every face has a mask"


def test_real_photographs(face_data: Path, tmp_path: Path) -> None:
    out = build(tmp_path / "set", face_data / "native" / "CelebA", count=20)
    counts = summary(out)
    assert counts["found"]["detector"] >= 15
    assert not counts["unreadable"]
