"""Data of occluded faces: masks, folders, groups, folds, masks rendered on the fly, and messages."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.checkpoints import load
from datamodules.labels import OCCLUSION
from datamodules.layouts import AugmentedCelebA, ImageMaskFolder
from datamodules.occlusion import OcclusionDataModule
from datamodules.pose import pose, pose_groups
from datamodules.reading import read_label
from datamodules.transforms import Augmentation, FaceTransform
from engine.stage import Run
from foundation.errors import BrokenFileError, ConfigError, DataError
from stages.command import plan
from stages.evaluation import check_evaluation, plan_evaluation
from stages.scoring import scored_faces, scored_module
from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
from synthesis.masked_faces.on_the_fly import RandomMaskRenderer
from synthesis.masks.choices import MaskChoices
from tests.conftest import changed, copied, run_training
from tests.segmenters import planned_run
from tests.test_evaluation import config_of, scored
from tests.test_masks import templates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of a white square on grey, with its mask; one mask is a JPEG."""
    root = tmp_path_factory.mktemp("data") / "squares"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(12):
        image = np.full((48, 48, 3), 90, np.uint8)
        mask = np.zeros((48, 48), np.uint8)
        mask[10 + index : 34, 12:40] = 255
        image[mask > 0] = 230
        Image.fromarray(image).save(root / "images" / f"{index:02d}.png")
        Image.fromarray(mask).save(root / "masks" / (f"{index:02d}.jpg" if index == 3 else f"{index:02d}.png"))
    return root


@pytest.mark.parametrize(
    "kind", ["0 and 255", "jpeg", "0 and 1", "palette of ids", "black-and-white palette", "colour"]
)
def test_masks_of_any_kind_read_alike(kind: str, tmp_path: Path) -> None:
    ground_truth = np.zeros((40, 40), bool)
    ground_truth[8:32, 16:32] = True
    ids = ground_truth.astype(np.uint8)
    path = tmp_path / "mask.png"
    if kind == "jpeg":
        path = tmp_path / "mask.jpg"
        Image.fromarray(255 * ids).save(path, quality=95)
    elif kind == "0 and 1":
        Image.fromarray(ids).save(path)
    elif kind.endswith("palette") or kind == "palette of ids":
        image = Image.fromarray(ids if kind == "palette of ids" else 1 - ids, mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0] if kind == "palette of ids" else [255, 255, 255, 0, 0, 0])
        image.save(path)
    elif kind == "colour":
        Image.fromarray(np.repeat(255 * ids[..., None], 3, axis=2)).save(path)
    else:
        Image.fromarray(255 * ids).save(path)
    np.testing.assert_array_equal(read_label(path, OCCLUSION), ids)


def test_an_all_black_mask_is_a_face_without_occlusion(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "mask.png")
    assert read_label(tmp_path / "mask.png", OCCLUSION).max() == 0


def test_a_folder_is_split_alike_anywhere(folder: Path, tmp_path: Path) -> None:
    splits = {split: ImageMaskFolder(folder).samples(split) for split in ("train", "val", "test")}
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 8, "val": 2, "test": 2}
    ids = [sample.id for samples in splits.values() for sample in samples]
    assert sorted(ids) == [sample.id for sample in ImageMaskFolder(folder).samples("all")]
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert [s.id for s in ImageMaskFolder(copy).samples("test")] == [s.id for s in splits["test"]]


def test_a_built_set_has_the_groups_of_each_face(masked: Path) -> None:
    samples = AugmentedCelebA(masked).samples("all")
    rows = [json.loads(line) for line in (masked / "manifest.jsonl").read_text().splitlines()]
    for sample, row in zip(samples, rows, strict=True):
        mask_type = row["faces"][0]["type"]
        assert [group for group in sample.groups if group.startswith("type/")] == (
            [f"type/{mask_type}"] if mask_type else []
        )
        assert {group.partition("/")[0] for group in sample.groups} >= {"yaw", "pitch", "roll"}
    assert AugmentedCelebA(masked).origin == "augmented"


def test_poses_are_those_of_a_turned_head() -> None:
    """Five points of a mean head, turned and projected; the others do not matter."""
    head = {36: (-225, -170, 135), 45: (225, -170, 135), 30: (0, 0, 0), 48: (-150, 150, 125), 54: (150, 150, 125)}

    def turned(yaw: float, pitch: float, roll: float) -> list[list[float]]:
        y, p, r = (math.radians(angle) for angle in (yaw, pitch, roll))
        about_y = np.array([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
        about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
        about_z = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
        points = [[0.0, 0.0]] * 68
        for place, point in head.items():
            points[place] = (about_z @ about_x @ about_y @ np.array(point, float))[:2].tolist()
        return points

    assert pose(turned(0, 0, 0)) == pytest.approx((0, 0, 0), abs=1)
    for angle in (-30, -15, 15, 30):
        assert pose(turned(angle, 0, 0))[0] == pytest.approx(angle, abs=4)
        assert pose(turned(0, angle, 0))[1] == pytest.approx(angle, abs=6)
        assert pose(turned(0, 0, angle))[2] == pytest.approx(angle, abs=1)
    assert pose_groups(turned(40, 0, 20)) == ("yaw/30-", "pitch/0-15", "roll/15-30")


def test_without_face_boxes_images_are_neither_cropped_nor_decoded_larger(with_photographs: Path) -> None:
    close = Augmentation(scale=(0.9, 1.8), crop=1.0)
    layouts = (AugmentedCelebA, ImageMaskFolder)
    known, unknown = (OcclusionDataModule(layout(with_photographs), 64, 2, 7, close, workers=0) for layout in layouts)
    assert known.augmentation == close
    assert unknown.augmentation == Augmentation(scale=(0.9, 1.8))
    face = unknown.train_dataloader().dataset[(0, 0, 0)]
    assert face["image"].shape == (3, 64, 64)


@pytest.fixture(scope="module")
def with_photographs(lapa: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "WithPhotographs"
    config = MaskedFacesConfig(
        lapa, count=20, seed=5, choices=MaskChoices(types=("surgical",)), photographs=True, form="png"
    )
    write_masked_faces(folder, config, workers=1)
    return folder


def test_masks_are_rendered_again_each_time(with_photographs: Path) -> None:
    still = Augmentation(0, (1, 1), 0, 0)
    render = RandomMaskRenderer.as_built(AugmentedCelebA(with_photographs).parameters())
    data = OcclusionDataModule(AugmentedCelebA(with_photographs), 64, 2, 7, still, workers=0, render_masks=render)
    faces = data.train_dataloader().dataset
    assert len(data.labelled("train")) == 14
    assert len(list((with_photographs / "photographs").iterdir())) == 14, "of the training faces alone"
    first, again, other = (faces[(0, 0, 3)], faces[(0, 0, 3)], faces[(1, 0, 3)])
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert not torch.equal(first["label"], other["label"]), "another epoch, another mask"
    assert set(first["label"].unique().tolist()) == {0, 1}
    bare = data.labelled("train")[3].photograph
    assert bare is not None
    plain = FaceTransform(64, None, OCCLUSION, 7)(np.array(Image.open(bare).convert("RGB")), None, 0, 0)[0]
    seen = first["label"] == 0
    change = (first["image"] - torch.from_numpy(plain)).abs().max(dim=0).values
    assert change[first["label"] == 1].mean() > 10 * change[seen].mean()
    (batch, *_) = data.val_dataloader()
    assert "full_label" in batch, "validation stays as it was built"


@pytest.mark.training
def test_training_on_the_fly_and_by_folds(with_photographs: Path, tmp_path: Path) -> None:
    words = ("segment.on_the_fly=true", "segment.folds=3", "segment.fold=1", "segment.epochs=1")
    (run,) = run_training("occlusion_celeba", with_photographs, tmp_path, *words)
    assert run.folder.done


def test_training_on_the_fly_needs_photographs_and_a_built_set(masked: Path, folder: Path, tmp_path: Path) -> None:
    run = planned_run(masked, tmp_path, "segment.on_the_fly=true")
    with pytest.raises(DataError, match="built with photographs=true"):
        run.stage.data(run).train_dataloader()
    with pytest.raises(ConfigError, match="which has no rendered masks"):
        planned_run(folder, tmp_path, "segment.on_the_fly=true", experiment="occlusion_mfsd")


def test_templates_and_manifest_are_in_the_id_of_training_on_the_fly(with_photographs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(with_photographs, tmp_path / "copy"))
    about, manifest = json.loads((copy / "dataset.json").read_text()), (copy / "manifest.jsonl").read_text()

    still = planned_run(copy, tmp_path).settings
    both = [changed(still, **{"segment.on_the_fly": fly}) for fly in (True, False)]

    def planned(rows: str = manifest, **changes: Any) -> list[str]:
        """Ids of training on the fly and of training on masks as they were built."""
        (copy / "dataset.json").write_text(json.dumps(about | changes))
        (copy / "manifest.jsonl").write_text(rows)
        return [run.id for settings in both for run in plan(settings)]

    before = planned()
    assert before[0] != before[1]
    assert planned(source="elsewhere") == before == planned()
    folder = templates(tmp_path)
    plans = [planned(textures=["white"]), planned(rows=manifest.replace(".5", ".6"))]
    plans.append(planned(templates=str(folder), types=["red"]))
    for file in (folder / "templates" / "red.png", folder / "masks.cfg"):
        file.write_bytes(file.read_bytes() + b"\n")
        plans.append(planned(templates=str(folder), types=["red"]))
    assert {built for _, built in plans} == {before[1]}
    assert len({before[0], *(fly for fly, _ in plans)}) == 6
    moved = Path(shutil.copytree(folder, tmp_path / "moved" / "masks"))
    assert planned(templates=str(moved), types=["red"]) == plans[-1]


def test_folds_divide_the_photographs(masked: Path) -> None:
    layout = AugmentedCelebA(masked)
    source = {sample.id: sample.source for sample in layout.samples("train")}
    parts = []
    for fold in range(3):
        data = OcclusionDataModule(AugmentedCelebA(masked), 32, 2, 0, Augmentation(), fold=(fold, 3), workers=0)
        train, val = ({sample.id for sample in data.labelled(split)} for split in ("train", "val"))
        assert not {source[face] for face in train} & {source[face] for face in val}, "no photograph in both"
        assert train | val == set(source)
        assert data.labelled("test") == layout.samples("test")
        parts.append(val)
    assert set().union(*parts) == set(source)
    assert sum(map(len, parts)) == len(source)
    sizes = [len({source[face] for face in part}) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_the_schedule_is_as_long_as_the_epochs_of_a_fold(masked: Path, tmp_path: Path) -> None:
    words = ("segment.folds=2", "segment.fold=1", "segment.steps_per_epoch=null", "segment.batch_size=2")
    run = planned_run(masked, tmp_path, *words)
    batches = len(run.stage.data(run).train_dataloader())
    assert run.stage.module(run).hparams["steps"] == run.own.epochs * batches


def test_invalid_folds_are_rejected(masked: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"segment\.fold=3 with segment\.folds=3"):
        planned_run(masked, tmp_path, "segment.folds=3", "segment.fold=3")
    data = OcclusionDataModule(AugmentedCelebA(masked), 32, 2, 0, Augmentation(), fold=(0, 999), workers=0)
    with pytest.raises(DataError, match="too few for 999 folds"):
        data.labelled("train")


def test_a_segmenter_is_scored_on_other_images(segmenter_run: Run, folder: Path, tmp_path: Path) -> None:
    (run,) = copied([segmenter_run], tmp_path)
    words = (f"checkpoint={run.folder.name}", "dataset=image_mask_folder", f"root={folder}", "split=all")
    evaluation = scored(*words, f"output_dir={tmp_path}")
    status = evaluation.status
    assert (status["state"], status["faces"], status["dataset"]) == ("done", 12, "image_mask_folder")
    planned = plan_evaluation(check_evaluation(config_of(*words, f"output_dir={tmp_path}")))
    module = scored_module(load(run.folder.best), "literature")
    for batch in scored_faces(planned).test_dataloader():
        with torch.no_grad():
            module.eval().test_step(batch, 0)
    assert status["metrics"]["test/miou"] == pytest.approx(module.scores.compute()["miou"].item(), abs=1e-6)


@pytest.mark.training
def test_training_on_a_folder_of_images_and_masks(folder: Path, tmp_path: Path) -> None:
    (run,) = run_training("occlusion_mfsd", folder, tmp_path, "segment.epochs=1")
    assert run.folder.status["origin"] == "real"


def test_a_mask_of_another_size_is_named(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    Image.new("L", (20, 48)).save(copy / "masks" / "05.png")
    data = OcclusionDataModule(ImageMaskFolder(Path(copy)), 32, 4, 0, Augmentation(), workers=0, tested="all")
    with pytest.raises(BrokenFileError, match=r"05\.png is 20x48 pixels, its image 48x48"):
        list(data.test_dataloader())


def test_an_unreadable_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_text("no image")
    with pytest.raises(BrokenFileError, match=r"Cannot read the mask .*mask\.png"):
        read_label(tmp_path / "mask.png", OCCLUSION)


def test_images_without_masks_are_reported(folder: Path, masked: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "masks" / "05.png").unlink()
    with pytest.raises(DataError, match=r"1 of 12 images in .* have no mask, the first is 05\.png"):
        ImageMaskFolder(copy).samples("train")
    with pytest.raises(DataError, match="task=masked_faces"):
        AugmentedCelebA(tmp_path / "nowhere").samples("train")
    broken = shutil.copytree(masked, tmp_path / "broken")
    (broken / "manifest.jsonl").write_text('{"id": "000000"}\n')
    with pytest.raises(DataError, match="line 1 is damaged"):
        AugmentedCelebA(broken).samples("train")


def test_real_masks_are_read(face_data: Path) -> None:
    layout = ImageMaskFolder(face_data / "real" / "MFSD")
    samples = layout.samples("all")
    assert len(samples) == 74
    share = np.mean([read_label(sample.label, OCCLUSION).mean() for sample in samples if sample.label])
    assert 0.25 < share < 0.45
