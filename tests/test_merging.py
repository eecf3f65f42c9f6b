"""Parts of CelebAMask-HQ merged into label maps: painting orders, broken masks, and label maps kept and made once."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.labels import CELEBAMASK_HQ, PAINTING_ORDERS, LabelSet
from datamodules.layouts import Sample, open_layout
from datamodules.merging import merge
from datamodules.reading import read_label, read_part
from foundation.errors import BrokenFileError, RunError
from tests.celebamask_faces import ID, copied_faces, face_of, half, merging, state

copy = copied_faces  # the fixture, as these tests name it


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
