"""Copies of data sets as they circulate: nested folders, other names, VOC's XML; names in them that lead outside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from curation.audit.auditing import audit
from curation.audit.faces import Face
from curation.audit.findings import Findings
from curation.audit.tally import Tally
from datamodules.annotated import AnnotatedDataModule
from datamodules.labels import LAPA
from datamodules.layouts import FMLD, MAFA, AugmentedCelebA, FolderPerClass, Sample, open_layout
from datamodules.layouts.augmented_celeba import MANIFEST
from datamodules.layouts.celebamask_hq import MASKS
from datamodules.layouts.photographs import photographs
from datamodules.transforms import Augmentation
from engine.planning import data_digest
from engine.settings import entering, plain
from foundation.digests import DigestCache
from foundation.errors import BrokenFileError, ConfigError, DataError
from stages.evaluation import Evaluation, check_evaluation
from synthesis.masks.templates import read_templates
from tests.test_annotated import image, table, voc
from tests.test_evaluation import config_of

BOX = (10, 20, 50, 70)


def nest(folder: Path) -> None:
    """Move all that is in a folder into one of the same name in it."""
    inner = folder / folder.name
    inner.mkdir()
    for entry in [*folder.iterdir()]:
        if entry != inner:
            entry.rename(inner / entry.name)


def nested(root: Path) -> None:
    nest(root)


def nested_images(root: Path) -> None:
    for folder in (root / "CelebA-HQ-img", root / MASKS, root / "train" / "images", root / "train" / "labels"):
        if folder.is_dir():
            nest(folder)


def other_name_of_val(root: Path) -> None:
    (root / "val").rename(root / "valid")


def upper_case(root: Path) -> None:
    for file in [*root.rglob("*.png"), *root.rglob("*.jpg")]:
        file.rename(file.with_suffix(file.suffix.upper()))


def flat_masks(root: Path) -> None:
    for file in [*(root / MASKS).rglob("*.png")]:
        file.rename(root / MASKS / file.name)
    shutil.rmtree(root / MASKS / "0")


def digest(dataset: str, root: Path) -> str:
    with DigestCache(root.parent / "digests.sqlite") as digests:
        return data_digest(open_layout(dataset, root), ("train", "val", "test"), True, digests)


@pytest.mark.parametrize(
    ("dataset", "change"),
    [
        ("lapa", nested),
        ("lapa", nested_images),
        ("lapa", other_name_of_val),
        ("lapa", upper_case),
        ("celebamask_hq", nested),
        ("celebamask_hq", nested_images),
        ("celebamask_hq", flat_masks),
        ("celebamask_hq", upper_case),
    ],
)
def test_copies_are_read_as_the_published_set(
    dataset: str, change: Callable[[Path], None], lapa: Path, celebamask: Path, tmp_path: Path
) -> None:
    source = lapa if dataset == "lapa" else celebamask
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    change(copy)
    layout = open_layout(dataset, copy)
    assert len(layout.samples("all")) == 40
    assert digest(dataset, copy) == digest(dataset, source), "the id of a run does not depend on it"
    assert layout.origin == "drawn"
    assert not [*audit(layout, "official")[0].findings]
    if change is nested:
        images = photographs(copy)
        assert len(images) == 40, "masks and label maps are no photographs"


def test_the_audit_names_a_mask_that_is_there_twice(celebamask: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(celebamask, tmp_path / "copy"))
    shutil.copy(copy / MASKS / "0" / "00003_skin.png", copy / MASKS / "00003_skin.PNG")
    with pytest.raises(DataError, match=r"Two files of one name .*00003_"):
        open_layout("celebamask_hq", copy).samples("all")


@pytest.mark.parametrize("folder", ["mask", MASKS])
def test_merged_label_maps_are_named_as_such(folder: str, celebamask: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(celebamask, tmp_path / "copy"))
    shutil.rmtree(copy / MASKS)
    (copy / folder).mkdir()
    for number in range(40):
        Image.new("L", (8, 8), 1).save(copy / folder / f"{number}.png")
    with pytest.raises(DataError, match=r"were merged already(.|\n)*datamodule=folder(.|\n)*neck, cloth"):
        open_layout("celebamask_hq", copy).samples("all")


def test_the_content_of_an_unfitting_folder_is_named(celebamask: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(celebamask, tmp_path / "copy"))
    shutil.rmtree(copy / MASKS)
    (copy / MASKS).mkdir()
    with pytest.raises(DataError, match=f"{MASKS} is empty"):
        open_layout("celebamask_hq", copy).samples("all")
    (copy / MASKS / "part1.zip").touch()
    with pytest.raises(DataError, match=rf"{MASKS} holds part1\.zip, which is not"):
        open_layout("celebamask_hq", copy).samples("all")


def test_aizoo_has_xml_next_to_images_and_wrong_names(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number in (1, 2):
            image(tmp_path / split / f"{split}_{number}.jpg")
            voc(tmp_path / split / f"{split}_{number}.xml", "7.jpg", ("face_mask", "0", BOX), ("face", "0", BOX))
    layout = FMLD(tmp_path)
    faces = layout.samples("val")
    assert [(face.image.name, face.groups[0]) for face in faces[:2]] == [
        ("val_1.jpg", "kind/masked"),
        ("val_1.jpg", "kind/bare"),
    ]
    assert len(layout.samples("all")) == 8
    with pytest.raises(DataError, match="FMLD faces"):
        layout.samples("test")


def test_kaggle_has_folders_of_images_and_annotations(tmp_path: Path) -> None:
    kinds = ("with_mask", "without_mask", "mask_weared_incorrect")
    image(tmp_path / "images" / "maksssksksss0.png")
    voc(tmp_path / "annotations" / "maksssksksss0.xml", "other.png", *((kind, "0", BOX) for kind in kinds))
    faces = FMLD(tmp_path).samples("test")
    assert [face.groups[0] for face in faces] == ["kind/masked", "kind/bare", "kind/incorrect"]
    assert FMLD(tmp_path).samples("all") == faces


def test_maskedface_net_is_read_by_its_folders(tmp_path: Path) -> None:
    image(tmp_path / "CMFD" / "00000" / "00000_Mask.jpg")
    image(tmp_path / "IMFD" / "00000" / "00000_Mask_Mouth_Chin.jpg")
    image(tmp_path / "Correctly Masked Face Dataset (CMFD)" / "1.jpg")
    image(tmp_path / "logo.png")
    layout = FolderPerClass(tmp_path)
    kinds = {face.image.name: face.groups[0] for face in layout.samples("test")}
    assert kinds == {
        "00000_Mask.jpg": "kind/masked",
        "00000_Mask_Mouth_Chin.jpg": "kind/incorrect",
        "1.jpg": "kind/masked",
    }
    assert "1 of 4 images" in layout.notes[0]


def test_broken_annotations_are_counted_or_left_out(tmp_path: Path) -> None:
    notes = tmp_path / "FMLD_annotations" / "test"
    for name in ("a", "b"):
        image(tmp_path / f"{name}.jpg")
    voc(notes / "a.xml", "a.jpg", ("masked_face", "0", BOX), ("unmasked_face", "0", (9, 9, 9, 9)))
    voc(notes / "b.xml", "b.jpg", ("helmet", "0", BOX), ("invalid_face", "0", BOX), ("unmasked_face", "0", BOX))
    voc(notes / "c.xml", "c.jpg", ("masked_face", "0", BOX))
    (notes / "d.xml").write_text('<?xml version="1.0" encoding="xyz"?><annotation/>')
    voc(notes / "e.xml", "a.jpg", ("masked_face", "0", (0, 0, float("nan"), 1e30)))  # type: ignore[arg-type]
    with pytest.raises(DataError) as raised:
        FMLD(tmp_path).samples("test")
    message = str(raised.value)
    assert "5 of 7 annotations" in message
    for part in (
        "2 x empty box",
        "1 x missing image",
        "1 x unknown name",
        "1 x unreadable",
        "helmet",
        "skip_broken=true",
    ):
        assert part in message
    layout = FMLD(tmp_path, skip_broken=True)
    assert [face.id for face in layout.samples("test")] == ["a_0", "b_2"]
    assert "5 of 7" in layout.notes[0]
    shutil.rmtree(notes)
    voc(notes / "b.xml", "b.jpg", ("helmet", "0", BOX))
    with pytest.raises(DataError, match=r"helmet(.|\n)*No face remains"):
        FMLD(tmp_path, skip_broken=True).samples("test")
    voc(notes / "b.xml", "b.jpg", ("invalid_face", "0", BOX))
    with pytest.raises(DataError, match="annotates no face"):
        FMLD(tmp_path).samples("test")


MASKED = [20, 20, 60, 60, 1, 10, 30, 40, 25, 1, 2, 1, 1, 3, -1, -1, -1, -1]


@pytest.mark.parametrize(
    ("name", "faces", "expected"),
    [
        ("absent.jpg", [MASKED], "1 x missing image"),
        ("1.jpg", [MASKED, [np.nan, *MASKED[1:]]], "1 x invalid row"),
        ("1.jpg", [MASKED, [2**40, *MASKED[1:]]], "1 x invalid row"),
        ("1.jpg", [MASKED, [1j, *MASKED[1:]]], "2 x invalid row"),
        ("1.jpg", MASKED[:4], "1 x invalid row"),
    ],
)
def test_broken_rows_of_mafa_are_counted_or_left_out(tmp_path: Path, name: str, faces: list, expected: str) -> None:
    image(tmp_path / "test-images" / "images" / "1.jpg")
    rows = [("1.jpg", np.array([MASKED], np.int16)), (name, np.array(faces))]
    table(tmp_path / "LabelTestAll.mat", "LabelTest", rows)
    with pytest.raises(DataError, match=expected):
        MAFA(tmp_path).samples("test")
    layout = MAFA(tmp_path, skip_broken=True)
    assert layout.samples("test")
    assert expected in layout.notes[0]


@pytest.mark.parametrize("name", ["../../outside.jpg", "/dev/zero", "x" * 5000, "fifo.jpg"])
def test_mafa_names_only_its_own_images(tmp_path: Path, name: str) -> None:
    image(tmp_path / "outside.jpg")
    (tmp_path / "test-images" / "images").mkdir(parents=True)
    os.mkfifo(tmp_path / "test-images" / "images" / "fifo.jpg")
    table(tmp_path / "LabelTestAll.mat", "LabelTest", [(name, np.array([MASKED], np.int16))])
    with pytest.raises(DataError, match=r"LabelTestAll\.mat names"):
        MAFA(tmp_path).samples("test")


def test_other_cells_of_mafa_are_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "test-images" / "images").mkdir(parents=True)
    savemat(tmp_path / "LabelTestAll.mat", {"LabelTest": np.array([[(1, 2)]], [("name", object), ("label", object)])})
    with pytest.raises(DataError):
        MAFA(tmp_path).samples("test")


def test_a_box_far_larger_than_its_image_is_refused_before_it_is_cut(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    voc(tmp_path / "test" / "a.xml", "a.jpg", ("face", "0", (0, 0, 20000, 20000)))
    module = AnnotatedDataModule(FMLD(tmp_path), 96, 1, 0, Augmentation(0, (1, 1), 0, 0), workers=0)
    with pytest.raises(BrokenFileError, match="20000x20000 pixels"):
        next(iter(module.test_dataloader()))


def test_skip_broken_is_for_sets_that_have_annotations(segmenter_run: Any) -> None:
    words = (f"checkpoint={segmenter_run.folder.path}", "skip_broken=true")
    for skipped in (True, False):
        settings = check_evaluation(config_of(words[0], f"skip_broken={plain(skipped)}", "dataset=fmld"))
        assert ("skip_broken" in entering(settings, Evaluation.reads)) == skipped, "ids of complete sets stay"
    with pytest.raises(ConfigError, match="skip_broken=true does not go with dataset=folder_per_class"):
        check_evaluation(config_of(*words, "dataset=folder_per_class"))


CHANGES: dict[str, Any] = {
    "id": ["../x", "/abs/x", "a/b", "", None, 5, "a\x1b", "\ud800", "x" * 300],
    "image": ["../outside.png", "/dev/null", None, 5, ["images/000000.jpg"], "images", "link.jpg"],
    "mask": ["../outside.png", None, "fifo.png"],
    "split": ["all", None, ["train"], "../train"],
    "source": [5, None],
    "size": [[0, 0], "64", [64], [64.5, 1], None],
    "faces": [[], None, "x", [5], [{"landmarks": []}], [{"landmarks": [[1, 2]] * 67}]],
    "type": ["../../x", "a/b", 5, "a\nb"],
    "landmarks": [[[float("nan"), 1]] * 68, [[10**400, 1]] * 68, [["1", 1]] * 68, [[1]] * 68, 68],
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_manifest_of_other_values_is_refused_by_its_line(key: str, masked: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(masked, tmp_path / "copy"))
    Image.new("L", (8, 8)).save(tmp_path / "outside.png")
    (copy / "link.jpg").symlink_to(tmp_path / "outside.png")
    os.mkfifo(copy / "fifo.png")
    lines = (masked / MANIFEST).read_text().splitlines()
    assert len(AugmentedCelebA(copy).samples("all")) == 40
    for value in CHANGES[key]:
        row = json.loads(lines[2])
        (row["faces"][0] if key in ("type", "landmarks") else row)[key] = value
        (copy / MANIFEST).write_text("\n".join([*lines[:2], json.dumps(row), *lines[3:]]))
        with pytest.raises(DataError, match=r"manifest\.jsonl, line 3"):
            AugmentedCelebA(copy).samples("all")


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"id":' + b"[" * 5000, b"[1, 2]", b'"x"'])
def test_a_manifest_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.jsonl"):
        AugmentedCelebA(tmp_path).samples("all")
    (tmp_path / "dataset.json").write_bytes(b"[" * 100_000)
    assert AugmentedCelebA(tmp_path).origin in ("augmented", "real")
    with pytest.raises(DataError, match="cannot be read"):
        AugmentedCelebA(tmp_path).parameters()


def test_the_same_id_twice_is_refused(masked: Path, tmp_path: Path) -> None:
    first = (masked / MANIFEST).read_text().splitlines()[0]
    (tmp_path / MANIFEST).write_text(f"{first}\n{first}\n")
    with pytest.raises(DataError, match=r"line 2: the id .* is there twice"):
        AugmentedCelebA(tmp_path).samples("all")


POINTS = "\n".join(f"mask_{letter} = 1, 2" for letter in "abcdef")


@pytest.mark.parametrize(
    ("section", "template", "points"),
    [
        ("cloth", "../../outside.png", POINTS),
        ("cloth", "{outside}", POINTS),
        ("cloth", "x" * 5000, POINTS),
        ("cloth", "link.png", POINTS),
        ("cloth", "fifo.png", POINTS),
        ("a/b", "cloth.png", POINTS),
        ("cloth", "cloth.png", POINTS.replace("1, 2", "nan, inf")),
        ("cloth", "cloth.png", POINTS.replace("1, 2", "1e30, 2")),
        ("cloth", "cloth.png", POINTS.replace("1, 2", "%(x")),
    ],
)
def test_masks_cfg_names_only_its_own_templates(tmp_path: Path, section: str, template: str, points: str) -> None:
    outside, folder = tmp_path / "outside.png", tmp_path / "MaskTheFace" / "masks"
    folder.mkdir(parents=True)
    for file in (outside, folder / "cloth.png"):
        Image.new("RGBA", (8, 8)).save(file)
    (folder / "link.png").symlink_to(outside)
    os.mkfifo(folder / "fifo.png")
    (folder / "masks.cfg").write_text(f"[cloth]\ntemplate = masks/cloth.png\n{POINTS}\n")
    assert set(read_templates(folder)) == {"cloth"}
    read_templates.cache_clear()
    (folder / "masks.cfg").write_text(f"[{section}]\ntemplate = {template.format(outside=outside)}\n{points}\n")
    with pytest.raises(DataError, match=r"masks\.cfg, section"):
        read_templates(folder)


@pytest.mark.parametrize(
    "value", ["!!int ''", "!!float ''", "!!bool maybe", "!!timestamp never", "2020-99-99", "[1, 2"]
)
def test_classes_yaml_of_other_types_is_no_traceback(tmp_path: Path, value: str) -> None:
    (tmp_path / "classes.yaml").write_text(f"classes:\n  - {{name: background, id: 0}}\nsplit_seed: {value}\n")
    with pytest.raises(DataError, match=r"classes\.yaml"):
        open_layout("folder", tmp_path)


def test_what_is_no_file_is_refused_where_lists_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "classes.yaml")
    with pytest.raises(DataError, match="not an ordinary file"):
        open_layout("folder", tmp_path)
    (tmp_path / "classes.yaml").unlink()
    (tmp_path / "classes.yaml").write_text("classes:\n  - {name: background, id: 0}\n")
    for name in ("1", "2"):
        for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("L", (8, 8)).save(tmp_path / kind / f"{name}{suffix}")
    (tmp_path / "train.txt").write_text("1\n2\n")
    os.mkfifo(tmp_path / "val.txt")
    with pytest.raises(DataError, match=r"val\.txt cannot be read.*not an ordinary file"):
        open_layout("folder", tmp_path).samples("train")


def test_lists_may_name_files_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("classes:\n  - {name: background, id: 0}\n")
    for name in ("Ren\udce9", "a"):
        for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("L", (8, 8)).save(tmp_path / kind / f"{name}{suffix}")
    for split, names in (("train", b"Ren\xe9\r\n"), ("val", b"a"), ("test", b"")):
        (tmp_path / f"{split}.txt").write_bytes(names)
    assert [sample.id for sample in open_layout("folder", tmp_path).samples("train")] == ["Ren\udce9"]


def test_many_duplicates_give_short_findings(tmp_path: Path) -> None:
    tally = Tally(LAPA, Findings())
    count = 20_000
    for number in range(count):
        sample = Sample(f"face_{number}", tmp_path / f"{number}.jpg")
        tally.add(Face(sample, (8, 8), digest=bytes([number % 2])), "train")
    tally.close()
    found = tally.findings.of_kind["duplicate"]
    assert len(found) == count
    assert found[0].text == (
        "0.jpg has the pixels of face_2 (train), face_4 (train), face_6 (train), face_8 (train), face_10 (train) and "
        "9994 more."
    )
    assert max(len(finding.text) for finding in found) < 200
    assert [len(group) for group in tally.as_plain()["duplicate_groups"]] == [count // 2, count // 2]
