"""CelebAMask-HQ: its published layout and errors, parts merged into label maps, and complete runs on it."""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.faces import ParsingDataModule
from datamodules.labels import (
    CELEBAMASK_HQ,
    IGNORE,
    LAPA,
    LAPA_OF_CELEBAMASK_HQ,
    PAINTING_ORDERS,
    LabelSet,
)
from datamodules.layouts import LaPa, Parts, Sample, open_layout
from datamodules.merging import Merging, merge
from datamodules.reading import read_label, read_part, require_size
from datamodules.transforms import Augmentation, FaceTransform
from engine.settings import flatten
from engine.stage import Run
from foundation.errors import BrokenFileError, DataError, RunError
from stages.command import check, plan
from tests.conftest import TINY, run_training, settings_of

ID = {name: index for index, name in enumerate(CELEBAMASK_HQ.classes)}
MASKS = "CelebAMask-HQ-mask-anno"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION = "list_eval_partition.txt"
OVERLAPS = 32


@pytest.fixture
def copy(celebamask: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(celebamask, tmp_path / "CelebAMask-HQ"))


def merging(folder: Path, order: str = "official") -> Merging:
    return Merging(order, CELEBAMASK_HQ, folder / "merged", folder / "digests.sqlite")


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification times and sizes of files."""
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def face_of(folder: Path, **parts: np.ndarray) -> Sample:
    """A face of such masks, (H, W) bool."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in parts.items():
        Image.fromarray(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255).save(folder / f"00000_{name}.png")
    return Sample("0", folder / "0.jpg", parts=Parts(folder, "00000", tuple(parts)))


def half(start: int, stop: int, size: int = OVERLAPS) -> np.ndarray:
    """The rows from start to stop of a square mask."""
    mask = np.zeros((size, size), dtype=bool)
    mask[start:stop] = True
    return mask


# The layout


def test_splits_join_mapping_and_partition(celebamask: Path) -> None:
    layout = open_layout("celebamask_hq", celebamask)
    splits = {split: layout.samples(split) for split in ("train", "val", "test")}
    assert [len(samples) for samples in splits.values()] == [32, 4, 4]
    assert layout.origin == "drawn"
    rows = [row.split() for row in (celebamask / MAPPING).read_text().splitlines()[1:]]
    partition = dict(line.split() for line in (celebamask / PARTITION).read_text().splitlines())
    for number, samples in enumerate(splits.values()):
        assert [sample.id for sample in samples] == [row[0] for row in rows if partition[row[2]] == str(number)]
    assert [sample.id for sample in layout.samples("all")] == [str(number) for number in range(40)]


def test_parts_are_those_with_a_file(celebamask: Path) -> None:
    for sample in open_layout("celebamask_hq", celebamask).samples("all"):
        files = {path.name for path in (celebamask / MASKS / "0").glob(f"{int(sample.id):05d}_*.png")}
        assert {path.name for _, path in sample.label_files} == files
        assert sample.label is None
        assert sample.image.is_file()


def test_kaggles_partition_is_read_too(copy: Path) -> None:
    expected = open_layout("celebamask_hq", copy).samples("val")
    lines = (copy / PARTITION).read_text().splitlines()
    (copy / PARTITION).unlink()
    (copy / "list_eval_partition.csv").write_text(
        "\n".join(["image_id,partition", *(line.replace(" ", ",") for line in lines)])
    )
    assert open_layout("celebamask_hq", copy).samples("val") == expected


def test_a_partial_copy_is_valid(copy: Path) -> None:
    for number in range(0, 40, 2):
        (copy / "CelebA-HQ-img" / f"{number}.jpg").unlink()
    layout = open_layout("celebamask_hq", copy)
    assert [sample.id for sample in layout.samples("all")] == [str(number) for number in range(1, 40, 2)]
    assert sum(len(layout.samples(split)) for split in ("train", "val", "test")) == 20


def test_many_folders_and_large_numbers(tmp_path: Path) -> None:
    for number in (1999, 2000, 29999):
        folder = tmp_path / MASKS / str(number // 2000)
        face_of(folder, skin=half(0, 9))
        (folder / "00000_skin.png").rename(folder / f"{number:05d}_skin.png")
        (tmp_path / "CelebA-HQ-img").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "CelebA-HQ-img" / f"{number}.jpg")
    samples = open_layout("celebamask_hq", tmp_path).samples("all")
    assert [sample.id for sample in samples] == ["1999", "2000", "29999"]
    assert all(path.is_file() for sample in samples for _, path in sample.label_files)


def test_all_needs_no_lists(copy: Path) -> None:
    (copy / PARTITION).unlink()
    layout = open_layout("celebamask_hq", copy)
    with pytest.raises(DataError, match=rf"{PARTITION} does not exist(.|\n)*CelebA-HQ-img(.|\n)*layout=celebamask_hq"):
        layout.samples("train")
    (copy / MAPPING).unlink()
    with pytest.raises(DataError, match=f"{MAPPING} does not exist"):
        layout.samples("test", labelled=False)
    assert len(layout.samples("all")) == 40


def test_unlabelled_faces_need_no_masks(copy: Path) -> None:
    shutil.rmtree(copy / MASKS)
    layout = open_layout("celebamask_hq", copy)
    assert len(layout.samples("train", labelled=False)) == 32
    with pytest.raises(DataError, match="mask-anno does not exist"):
        layout.samples("train")


def without_row(root: Path) -> str:
    lines = (root / MAPPING).read_text().splitlines()
    (root / MAPPING).write_text("\n".join(line for line in lines if line.split()[0] != "7"))
    return rf"{MAPPING} has no row for 7\.jpg"


def without_split(root: Path) -> str:
    name = (root / MAPPING).read_text().splitlines()[8].split()[2]
    lines = (root / PARTITION).read_text().splitlines()
    (root / PARTITION).write_text("\n".join(line for line in lines if not line.startswith(name)))
    return rf"{PARTITION} has no row for {name}, which is 7\.jpg"


def of_another_split(root: Path) -> str:
    lines = (root / PARTITION).read_text().splitlines()
    (root / PARTITION).write_text("\n".join(f"{line[:-1]}3" for line in lines))
    return f"{PARTITION} has split 3"


def with_half_a_row(root: Path) -> str:
    with (root / MAPPING).open("a") as file:
        file.write("40 12\n")
    return rf"{MAPPING}, line 42: '40 12'(.|\n)*5 columns"


def without_parts(root: Path) -> str:
    for number in (5, 7):
        for path in (root / MASKS / "0").glob(f"{number:05d}_*"):
            path.unlink()
    return r"2 of 40 faces have no parts, the first is 5\.jpg(.|\n)*00005_skin\.png(.|\n)*move such"


def with_a_foreign_mask(root: Path) -> str:
    shutil.copy(root / MASKS / "0" / "00007_skin.png", root / MASKS / "0" / "00007_hand.png")
    return r"00007_hand\.png is not a mask(.|\n)*00000_skin\.png"


def with_a_mask_of_another_folder(root: Path) -> str:
    shutil.copy(root / MASKS / "0" / "00007_skin.png", root / MASKS / "0" / "02007_skin.png")
    return r"02007_skin\.png is not a mask"


def with_a_foreign_image(root: Path) -> str:
    shutil.copy(root / "CelebA-HQ-img" / "7.jpg", root / "CelebA-HQ-img" / "sheet.jpg")
    return r"sheet\.jpg is not an image"


def with_a_number_twice(root: Path) -> str:
    shutil.copy(root / "CelebA-HQ-img" / "7.jpg", root / "CelebA-HQ-img" / "00007.jpg")
    return r"Two files of one name .*00007\.jpg and 7\.jpg"


@pytest.mark.parametrize(
    "damage",
    [
        without_row,
        without_split,
        of_another_split,
        with_half_a_row,
        without_parts,
        with_a_foreign_mask,
        with_a_mask_of_another_folder,
        with_a_foreign_image,
        with_a_number_twice,
    ],
)
def test_errors_of_the_layout_are_named(damage: Callable[[Path], str], copy: Path) -> None:
    expected = damage(copy)
    with pytest.raises(DataError, match=expected):
        open_layout("celebamask_hq", copy).samples("all" if damage is without_parts else "train")


# Merging


def test_orders_paint_every_part_once() -> None:
    assert set(PAINTING_ORDERS) == {"official", "zllrunning", "farl"}
    for order in PAINTING_ORDERS.values():
        assert sorted(order) == sorted(CELEBAMASK_HQ.classes[1:])


def test_later_parts_cover_earlier_ones(tmp_path: Path) -> None:
    """A necklace on the neck is covered in the official order, kept in the others; cloth covers all but FaRL's."""
    sample = face_of(tmp_path, skin=half(0, 10), neck=half(8, 24), neck_l=half(12, 20), cloth=half(16, 32))
    rows = {order: merge(sample, order, CELEBAMASK_HQ)[:, 0].tolist() for order in PAINTING_ORDERS}
    skin, neck, necklace, cloth = (ID[part] for part in ("skin", "neck", "neck_l", "cloth"))
    assert rows["official"] == [skin] * 8 + [neck] * 8 + [cloth] * 16
    assert rows["zllrunning"] == [skin] * 8 + [neck] * 4 + [necklace] * 4 + [cloth] * 16
    assert rows["farl"] == [skin] * 10 + [neck] * 2 + [necklace] * 8 + [cloth] * 12


def test_synthetic_necklaces_survive_by_painting_order(copy: Path, tmp_path: Path) -> None:
    """A necklace that runs over neck and cloth of a synthetic face."""
    layout = open_layout("celebamask_hq", copy)
    sample = next(s for s in layout.samples("all") if s.parts and {"neck", "cloth"} <= set(s.parts.names))
    assert sample.parts is not None
    masks = {name: read_part(path) for name, path in sample.parts.files if name in ("neck", "cloth")}
    necklace = masks["neck"] | masks["cloth"]
    neck_alone = int((masks["neck"] & ~masks["cloth"]).sum())
    sample = face_of(tmp_path / "face", **masks, neck_l=necklace)
    kept = {order: int((merge(sample, order, CELEBAMASK_HQ) == ID["neck_l"]).sum()) for order in PAINTING_ORDERS}
    assert kept == {"official": 0, "zllrunning": neck_alone, "farl": int(necklace.sum())}
    assert neck_alone > 0


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA"])
def test_masks_are_read_in_every_mode(mode: str, tmp_path: Path) -> None:
    mask = half(3, 9)
    Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB").convert(mode).save(tmp_path / "mask.png")
    assert np.array_equal(read_part(tmp_path / "mask.png"), mask)


@pytest.mark.parametrize("error", ["truncated", "size", "empty", "text"])
def test_broken_masks_are_named(error: str, tmp_path: Path) -> None:
    sample = face_of(tmp_path, skin=half(0, 9), nose=half(2, 4))
    nose = tmp_path / "00000_nose.png"
    match error:
        case "truncated":
            nose.write_bytes(nose.read_bytes()[:50])
            expected = rf"{nose}(.|\n)*0 and 255"
        case "text":
            nose.write_text("no image")
            expected = rf"{nose}(.|\n)*0 and 255"
        case "size":
            face_of(tmp_path, nose=half(0, 9, 16))
            expected = rf"{nose} is 16x16 pixels, 00000_skin.png next to it 32x32(.|\n)*one size"
        case "empty":
            face_of(tmp_path, skin=half(0, 0), nose=half(0, 0))
            expected = r"0\.jpg has no parts(.|\n)*move the image"
    with pytest.raises(BrokenFileError, match=expected):
        merging(tmp_path)([sample])
    assert not list((tmp_path / "merged").rglob("*.png"))


def test_label_maps_are_kept_outside_the_data_and_made_once(celebamask: Path, tmp_path: Path) -> None:
    before = state(celebamask)
    samples = open_layout("celebamask_hq", celebamask).samples("train")
    merged = merging(tmp_path)(samples)
    kept = state(tmp_path / "merged")
    for sample, plain in zip(merged, samples, strict=True):
        assert sample.label is not None
        assert (sample.id, sample.image, sample.parts) == (plain.id, plain.image, plain.parts)
        with Image.open(sample.label) as file:
            assert file.mode == "L"
        assert np.array_equal(read_label(sample.label, CELEBAMASK_HQ), merge(plain, "official", CELEBAMASK_HQ))
    assert merging(tmp_path)(samples) == merged
    assert state(tmp_path / "merged") == kept
    assert state(celebamask) == before
    assert {sample.label for sample in merging(tmp_path, "farl")(samples)}.isdisjoint({s.label for s in merged})


def test_a_changed_mask_makes_one_new_label_map(copy: Path, tmp_path: Path) -> None:
    samples = open_layout("celebamask_hq", copy).samples("train")
    first = merging(tmp_path)(samples)
    assert samples[3].parts is not None
    path = dict(samples[3].parts.files)["skin"]
    Image.fromarray(~np.array(Image.open(path))).save(path)
    again = merging(tmp_path)(samples)
    assert [one.label == other.label for one, other in zip(first, again, strict=True)].count(False) == 1
    assert again[3].label != first[3].label


def test_moved_data_finds_its_label_maps(copy: Path, tmp_path: Path) -> None:
    first = merging(tmp_path)(open_layout("celebamask_hq", copy).samples("train"))
    moved = copy.rename(tmp_path / "elsewhere")
    again = merging(tmp_path)(open_layout("celebamask_hq", moved).samples("train"))
    assert [sample.label for sample in again] == [sample.label for sample in first]


def test_faces_of_equal_masks_share_a_label_map(tmp_path: Path) -> None:
    twins = [face_of(tmp_path / name, skin=half(0, 9)) for name in ("a", "b")]
    one, other = merging(tmp_path)(twins)
    assert one.label == other.label


def test_masks_that_change_while_they_are_read_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(*_: object) -> np.ndarray:
        face_of(tmp_path, skin=half(0, 20))
        return half(0, 9).astype(np.uint8)

    sample = face_of(tmp_path, skin=half(0, 9))
    monkeypatch.setattr("datamodules.merging.merge", change)
    with pytest.raises(BrokenFileError, match="changed while"):
        merging(tmp_path)([sample])
    assert not list((tmp_path / "merged").rglob("*.png"))


def test_an_unwritable_folder_is_reported(celebamask: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"Cannot keep merged label maps in .*(.|\n)*output_dir"):
        merging(tmp_path)(open_layout("celebamask_hq", celebamask).samples("val"))


def merge_slowly(root: Path, folder: Path) -> None:
    """What a process of its own does: merge, and write down which faces it was that it painted."""
    from datamodules import merging as module

    painted = []
    true_merge = module.merge

    def slow(sample: Sample, order: str, labels: LabelSet) -> np.ndarray:
        painted.append(sample.id)
        time.sleep(0.005)
        return true_merge(sample, order, labels)

    module.merge = slow
    merging(folder)(open_layout("celebamask_hq", root).samples("train"))
    (folder / f"painted-{os.getpid()}.json").write_text(json.dumps(painted))


def test_one_of_several_processes_merges(celebamask: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=merge_slowly, args=(celebamask, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    painted = [json.loads(path.read_text()) for path in tmp_path.glob("painted-*.json")]
    assert sorted(len(ids) for ids in painted) == [0, 32]


def test_merged_label_maps_survive_an_interruption(
    celebamask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: list[str] = []

    def interrupted(sample: Sample, order: str, labels: LabelSet) -> np.ndarray:
        if len(painted) >= 9:
            raise KeyboardInterrupt
        painted.append(sample.id)
        return merge(sample, order, labels)

    samples = open_layout("celebamask_hq", celebamask).samples("train")
    with monkeypatch.context() as patch:
        patch.setattr("datamodules.merging.merge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            merging(tmp_path)(samples)
    kept = state(tmp_path / "merged" / "official-v1")
    (tmp_path / "merged" / "official-v1" / ".half.png.1.tmp").write_bytes(b"half")
    merging(tmp_path)(samples)
    after = state(tmp_path / "merged" / "official-v1")
    assert {name for name in kept if name.endswith(".png")} <= {name for name in after if after[name] == kept.get(name)}
    assert sum(name.endswith(".png") for name in after) == 32
    assert not [name for name in after if name.endswith(".tmp")]


# From files to batches


def test_a_label_map_of_half_the_size_covers_its_image() -> None:
    """The warp takes both over the same field: as if the label map had been enlarged to the image first."""
    label = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((16, 16), dtype=np.uint8))
    image = np.repeat(np.kron(label, np.ones((2, 2), dtype=np.uint8))[..., None] * 15, 3, axis=2)
    move = Augmentation(rotation=30, scale=(0.75, 1.25), flip=0.5)
    blank = LabelSet("blank", CELEBAMASK_HQ.classes, CELEBAMASK_HQ.palette, ())
    for position in range(12):
        transform = FaceTransform(96, move, blank, 0)
        _, small = transform(image, label, 0, position)
        _, large = transform(image, np.kron(label, np.ones((2, 2), dtype=np.uint8)), 0, position)
        assert small is not None
        assert large is not None
        assert (small == large).mean() > 0.99
        assert ((small == IGNORE) == (large == IGNORE)).mean() > 0.995


@pytest.mark.parametrize(
    ("label", "image", "fits"),
    [
        ((512, 512), (1024, 1024), True),
        ((512, 512), (512, 512), True),
        ((512, 512), (128, 128), True),
        ((512, 341), (1024, 683), True),
        ((512, 341), (768, 512), True),
        ((512, 500), (1024, 1024), False),
        ((512, 512), (1024, 1020), False),
        ((512, 341), (341, 512), False),
    ],
)
def test_merged_label_maps_have_the_ratio_of_their_image(
    label: tuple[int, int], image: tuple[int, int], fits: bool, tmp_path: Path
) -> None:
    merged = Sample("0", Path("0.jpg"), Path("x.png"), parts=Parts(tmp_path, "00000", ("skin",)))
    plain = Sample("0", Path("0.jpg"), Path("x.png"))
    ids = np.zeros(label, dtype=np.uint8)
    if fits:
        require_size(merged, ids.shape, image)
    else:
        with pytest.raises(BrokenFileError, match=r"0\.jpg are(.|\n)*same ratio"):
            require_size(merged, ids.shape, image)
    if label != image:
        with pytest.raises(BrokenFileError, match=r"x\.png(.|\n)*same size"):
            require_size(plain, ids.shape, image)


def test_scores_are_at_the_label_maps_own_size(copy: Path, tmp_path: Path) -> None:
    for path in (copy / "CelebA-HQ-img").iterdir():
        with Image.open(path) as file:
            file.resize((128, 128)).save(path)
    data = ParsingDataModule(
        open_layout("celebamask_hq", copy),
        image_size=32,
        batch_size=4,
        seed=0,
        augmentation=Augmentation(),
        workers=0,
        merging=merging(tmp_path),
    )
    (test,) = data.test_dataloader()
    assert test["image"].shape == (4, 3, 32, 32)
    assert test["label"].shape == (4, 32, 32)
    assert all(label.shape == (64, 64) for label in test["full_label"])


def test_classes_and_flip_table() -> None:
    assert len(CELEBAMASK_HQ) == len(CELEBAMASK_HQ.palette) == len(set(CELEBAMASK_HQ.palette)) == 19
    table = CELEBAMASK_HQ.flip_table
    assert [int(table[i]) for i in range(19)] == [0, 1, 2, 3, 5, 4, 7, 6, 9, 8, *range(10, 19)]
    pairs = {(CELEBAMASK_HQ.classes[a], CELEBAMASK_HQ.classes[b]) for a, b in CELEBAMASK_HQ.mirrored}
    assert pairs == {("l_eye", "r_eye"), ("l_brow", "r_brow"), ("l_ear", "r_ear")}


def test_mirror_images_exchange_left_and_right(celebamask: Path, tmp_path: Path) -> None:
    """Ears too: in a mirror image a left ear is a right one, on the side where right ears are."""
    checked = 0
    for sample in merging(tmp_path)(open_layout("celebamask_hq", celebamask).samples("train")):
        assert sample.label is not None
        label = read_label(sample.label, CELEBAMASK_HQ)
        image = np.zeros((64, 64, 3), dtype=np.uint8)
        _, mirrored = FaceTransform(64, Augmentation(flip=1.0), CELEBAMASK_HQ, 0)(image, label, 0, 0)
        assert mirrored is not None
        assert np.array_equal(mirrored, CELEBAMASK_HQ.flip_table[label[:, ::-1]])
        for left, right in CELEBAMASK_HQ.mirrored:
            assert np.array_equal(mirrored == left, (label == right)[:, ::-1])
            checked += bool((label == right).any() and (label == left).any())
    assert checked > 40


def test_lapas_names_for_celebamask_hqs_classes() -> None:
    assert LAPA_OF_CELEBAMASK_HQ.keys() == set(CELEBAMASK_HQ.classes)
    assert set(LAPA_OF_CELEBAMASK_HQ.values()) == set(LAPA.classes)
    table = CELEBAMASK_HQ.table_to(LAPA)
    assert table[IGNORE] == IGNORE
    for name in CELEBAMASK_HQ.classes:
        assert LAPA.classes[table[ID[name]]] == LAPA_OF_CELEBAMASK_HQ[name]


# Complete runs


@functools.cache
def composed(experiment: str) -> dict[str, Any]:
    """The composed configuration of a small experiment, flat, for tests that change plain settings of it."""
    return flatten(settings_of(f"experiment={experiment}", *TINY))


def planned(root: Path, output: Path, experiment: str = "mtl_celebamask_1pct", /, **changes: object) -> list[Run]:
    """The runs of a command; a setting ``a.b`` is changed by ``**{"a.b": value}``."""
    places = {"datamodule.root": str(root), "output_dir": str(output)}
    return plan(check(composed(experiment) | places | changes))


def ids(root: Path, output: Path, **changes: object) -> list[str]:
    return [run.id for run in planned(root, output, **changes)]


def test_the_painting_order_is_in_the_id_of_what_reads_labels_only(celebamask: Path, tmp_path: Path) -> None:
    official = ids(celebamask, tmp_path)
    for order in ("zllrunning", "farl"):
        other = ids(celebamask, tmp_path, **{"datamodule.merging": order})
        assert other[0] == official[0]
        assert other[1] != official[1]
    assert not (tmp_path / "cache" / "merged").exists(), "planning merges nothing"


def test_every_mask_is_in_the_data_digest_of_what_reads_labels(copy: Path, tmp_path: Path) -> None:
    before = ids(copy, tmp_path)
    skin = sorted((copy / MASKS / "0").glob("*_skin.png"))[0]
    Image.fromarray(~np.array(Image.open(skin))).save(skin)
    changed = ids(copy, tmp_path)
    assert (changed[0] == before[0], changed[1] == before[1]) == (True, False)
    skin.rename(skin.with_name(skin.name.replace("skin", "hat")))
    assert ids(copy, tmp_path)[1] not in (before[1], changed[1])


@pytest.mark.training
def test_two_steps(celebamask: Path, tmp_path: Path) -> None:
    words = ("pretrain.epochs=1", "finetune.epochs=1", "callbacks.activations=null")
    pretrain, finetune = run_training("mtl_celebamask_1pct", celebamask, tmp_path, *words)
    assert pretrain.folder.state == finetune.folder.state == "done"
    assert pretrain.folder.status["merging"] is None
    status = finetune.folder.status
    assert (status["dataset"], status["merging"], status["origin"]) == ("celebamask_hq", "official", "drawn")
    scores = {name.removeprefix("test/iou/") for name in status["metrics"] if name.startswith("test/iou/")}
    assert scores == set(CELEBAMASK_HQ.classes)
    assert len(list((finetune.folder.panels / "test").glob("*.ground_truth.png"))) == 4
    best = torch.load(finetune.folder.best, weights_only=True)
    assert best["hyper_parameters"]["classes"] == CELEBAMASK_HQ.classes
    assert len(list((tmp_path / "cache" / "merged" / "official-v1").glob("*.png"))) == 1 + 4 + 4


def test_a_broken_mask_of_a_test_face_is_reported_before_training(copy: Path, tmp_path: Path) -> None:
    sample = open_layout("celebamask_hq", copy).samples("test")[2]
    path = sample.label_files[0][1]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BrokenFileError, match=path.name):
        run_training("baseline_celebamask_1pct", copy, tmp_path)
    (run,) = planned(copy, tmp_path, "baseline_celebamask_1pct")
    assert run.folder.state == "failed"
    assert path.name in run.folder.status["error"]
    assert not run.folder.last.exists()


# Real faces


def label_of(sample: Sample, order: str = "official") -> np.ndarray:
    return merge(sample, order, CELEBAMASK_HQ)


def test_native_faces(face_data: Path) -> None:
    layout = open_layout("celebamask_hq", face_data / "native" / "CelebAMask-HQ")
    assert layout.origin == "real"
    samples = layout.samples("all")
    assert [sample.id for sample in samples] == [str(number) for number in range(10)]
    kept = {
        order: [int((label_of(samples[number], order) == ID["ear_r"]).sum()) for number in (2, 5)]
        for order in PAINTING_ORDERS
    }
    assert kept == {"official": [6512, 4340], "zllrunning": [1483, 102], "farl": [7867, 4727]}
    for sample in samples:
        with Image.open(sample.image) as file:
            assert file.size == (1024, 1024)
            label = label_of(sample)
            assert label.shape == (512, 512)
            require_size(sample, label.shape, file.size)


def test_real_faces(face_data: Path) -> None:
    layout = open_layout("celebamask_hq", face_data / "real" / "CelebAMask-HQ")
    assert [len(layout.samples(split)) for split in ("train", "val", "test")] == [560, 70, 70]


def column(label: np.ndarray, index: int) -> float:
    """Mean column of a class, in widths of the image."""
    return float(np.nonzero(label == index)[1].mean()) / label.shape[1]


def test_both_conventions_of_left_hold_on_real_faces(face_data: Path) -> None:
    """LaPa's left eye lies left in the image, CelebAMask-HQ's l_eye right; and the mapping between them agrees."""
    celeba = open_layout("celebamask_hq", face_data / "real" / "CelebAMask-HQ").samples("test")[:40]
    lapa = LaPa(face_data / "native" / "LaPa").samples("train")
    theirs = [label_of(sample) for sample in celeba]
    ours = [read_label(sample.label, LAPA) for sample in lapa if sample.label is not None]
    sides = []
    for labels, left, right in (
        (theirs, ID["l_eye"], ID["r_eye"]),
        (ours, LAPA.classes.index("left_eye"), LAPA.classes.index("right_eye")),
    ):
        gaps = [
            column(label, right) - column(label, left)
            for label in labels
            if (label == left).any() and (label == right).any()
        ]
        frontal = [gap for gap in gaps if abs(gap) > 0.1]  # in a profile the order of the eyes is not defined
        assert len(frontal) >= 4
        sides.append(np.mean([gap > 0 for gap in frontal]))
    # About one published face in fifteen was mirrored without its labels.
    assert sides[0] < 0.15
    assert sides[1] == 1.0


def test_mapped_labels_are_lapas(face_data: Path) -> None:
    """The layouts under real/ hold the same images under other names: LaPa's labels equal the mapped ones.

    Nothing but neck and cloth over skin, which LaPa's one leaves out, differs.
    """
    celeba = open_layout("celebamask_hq", face_data / "real" / "CelebAMask-HQ").samples("all")
    same_image = {hashlib.sha256(sample.image.read_bytes()).digest(): sample for sample in celeba}
    skin, background = LAPA.classes.index("skin"), LAPA.classes.index("background")
    for sample in open_layout("lapa", face_data / "real" / "LaPa").samples("test")[:20]:
        assert sample.label is not None
        label = read_label(sample.label, LAPA)
        mapped = CELEBAMASK_HQ.table_to(LAPA)[label_of(same_image[hashlib.sha256(sample.image.read_bytes()).digest()])]
        differs = mapped != label
        assert differs.mean() < 0.03
        assert set(label[differs]) <= {skin}
        assert set(mapped[differs]) <= {background}
