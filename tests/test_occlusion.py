"""Occluded faces: reading of masks, training and scoring of segmenters, and messages."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from callbacks.checkpoints import load
from datamodules.labels import OCCLUSION
from datamodules.layouts import AugmentedCelebA, ImageMaskFolder
from datamodules.occlusion import OcclusionDataModule
from datamodules.pose import pose, pose_groups
from datamodules.reading import read_label
from datamodules.transforms import Augmentation, FaceTransform, denormalize
from engine.stage import Run
from foundation.errors import BrokenFileError, ConfigError, DataError
from foundation.recorded_runs import read_run
from lightning_modules.occlusion import OcclusionSegmentation
from models.layers import BatchInstanceNorm2d
from stages.command import check, plan
from stages.evaluation import check_evaluation, plan_evaluation
from stages.scoring import scored_faces, scored_module
from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
from synthesis.masked_faces.on_the_fly import RandomMaskRenderer
from synthesis.masks.choices import MaskChoices
from tests.conftest import TINY_SEGMENTER, changed, copied, run_training, settings_of
from tests.test_evaluation import config_of, scored
from tests.test_masks import templates

NO_PANELS = ("callbacks.panels=null", "callbacks.activations=null")


def planned_run(root: Path, output: Path, *words: str, experiment: str = "occlusion_celeba") -> Run:
    """The run of a training command, which is not started."""
    where = (f"datamodule.root={root}", f"output_dir={output}")
    (run,) = plan(check(settings_of(f"experiment={experiment}", *TINY_SEGMENTER, *where, *words)))
    return run


def segmenter(**changes: Any) -> OcclusionSegmentation:
    chosen: dict[str, Any] = {
        "network": "modified_unet",
        "width": 8,
        "bottleneck_convs": 1,
        "kernel": 3,
        "decoder_kernel": 3,
        "count": "all",
        "initialization": "default",
        "lambda_dice": 0.5,
        "noise_kernel": 7,
        "rho_lr": 10.0,
        "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.5, "weight_decay": 0.1},
        "schedule": {"name": "constant", "warmup": 0.0},
        "steps": 10,
    }
    return OcclusionSegmentation(**(chosen | changes))


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


def test_shift_and_degradation_are_functions_of_seed_epoch_and_position() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    label = np.zeros((64, 64), np.uint8)
    label[20:40, 20:40] = 1
    moved = FaceTransform(64, Augmentation(shift=0.3, degrade=1.0), OCCLUSION, seed=1)
    first, second = moved(image, label, 3, 5), moved(image, label, 3, 5)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    shifted = FaceTransform(64, Augmentation(shift=0.3), OCCLUSION, seed=1)
    centres = [np.argwhere(shifted(image, label, 0, place)[1] == 1).mean(axis=0) for place in range(40)]
    assert np.std(centres, axis=0).min() > 4
    assert np.abs(np.array(centres) - 29.5).max() <= 0.3 * 64 + 1
    degraded = FaceTransform(64, Augmentation(degrade=1.0), OCCLUSION, seed=1)
    plain = FaceTransform(64, Augmentation(), OCCLUSION, seed=1)
    unlike = [not np.array_equal(degraded(image, None, 0, n)[0], plain(image, None, 0, n)[0]) for n in range(40)]
    assert 10 < sum(unlike) < 40


def test_without_face_boxes_images_are_neither_cropped_nor_decoded_larger(with_photographs: Path) -> None:
    close = Augmentation(scale=(0.9, 1.8), crop=1.0)
    layouts = (AugmentedCelebA, ImageMaskFolder)
    known, unknown = (OcclusionDataModule(layout(with_photographs), 64, 2, 7, close, workers=0) for layout in layouts)
    assert known.augmentation == close
    assert unknown.augmentation == Augmentation(scale=(0.9, 1.8))
    face = unknown.train_dataloader().dataset[(0, 0, 0)]
    assert face["image"].shape == (3, 64, 64)


def test_only_the_occlusion_is_recoloured() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    image[:, ::4] = 100  # folds
    label = np.zeros((64, 64), np.uint8)
    label[20:44, 20:44] = 1
    recolour = FaceTransform(64, Augmentation(recolour=1.0), OCCLUSION, seed=1)
    inside, outside = np.s_[24:40, 24:40], np.ones((64, 64), bool)
    outside[16:48, 16:48] = False  # the edge is mixed
    colours, folds = [], []
    for position in range(30):
        moved, kept = recolour(image, label, 0, position)
        np.testing.assert_array_equal(moved, recolour(image, label, 0, position)[0])
        np.testing.assert_array_equal(kept, label)
        seen = denormalize(moved).astype(int)
        assert (seen[outside] == image[outside]).all()
        occlusion = seen[inside]
        colours.append(occlusion.mean(axis=(0, 1)))
        darker, lighter = occlusion[:, ::4].mean(), occlusion[:, 1::4].mean()
        folds.append(darker / lighter)
    assert np.std(colours, axis=0).min() > 25, "of all colours"
    assert np.median(folds) == pytest.approx(100 / 128, abs=0.08)
    bare, _ = recolour(image, np.zeros_like(label), 0, 0)
    np.testing.assert_array_equal(denormalize(bare), image)


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
    words = ("segment.on_the_fly=true", "segment.folds=3", "segment.fold=1", "segment.epochs=1", *NO_PANELS)
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


def test_pixels_beyond_the_image_are_not_learnt() -> None:
    module = segmenter()
    label = torch.zeros(2, 8, 8, dtype=torch.long)
    label[:, :3] = 1
    label[:, 6:] = 255
    logits = torch.randn(2, 1, 8, 8)
    other = logits.clone()
    other[..., 6:, :] = 9
    assert module.loss(logits, label) == module.loss(other, label)
    other[..., 0, 0] = 9
    assert module.loss(logits, label) != module.loss(other, label)


@pytest.mark.parametrize("initialization", ["default", "xavier", "he", "normal"])
def test_rho_has_its_own_learning_rate_and_stays_within_bounds(initialization: str) -> None:
    module = segmenter(initialization=initialization)
    others, rho = module.configure_optimizers()["optimizer"].param_groups
    assert (others["lr"], others["weight_decay"], others["betas"]) == (2e-4, 0.1, (0.5, 0.999))
    assert rho["lr"] == pytest.approx(2e-3)
    assert rho["weight_decay"] == 0
    norms = [layer for layer in module.modules() if isinstance(layer, BatchInstanceNorm2d)]
    assert {id(p) for p in rho["params"]} == {id(layer.rho) for layer in norms}
    assert len(others["params"]) + len(rho["params"]) == len(list(module.model.parameters()))
    with torch.no_grad():
        norms[0].rho.add_(3)
        norms[1].rho.sub_(3)
    module.on_train_batch_end(None, None, 0)
    assert norms[0].rho.max() == 1
    assert norms[1].rho.min() == 0
    assert torch.isfinite(module(torch.randn(2, 3, 32, 32))).all()


def test_the_papers_count_and_the_base_unet_have_no_rho_to_train() -> None:
    for module in (segmenter(count="paper"), segmenter(network="base_unet")):
        assert len(module.configure_optimizers()["optimizer"].param_groups) == 1


def test_a_run_leaves_scores_raw_cleaned_and_by_group(segmenter_run: Run) -> None:
    status = segmenter_run.folder.status
    assert (status["state"], status["stage"], status["origin"]) == ("done", "segment", "augmented")
    metrics = status["metrics"]
    for name in ("accuracy", "ssim", "miou", "iou", "dice", "cleaned/miou", "cleaned/dice"):
        assert 0 <= metrics[f"test/{name}"] <= 1, name
    assert {name.split("/")[2] for name in metrics if name.startswith("test/iou/")} >= {"type", "style", "yaw"}
    assert "val/iou/type/cloth" not in metrics
    epochs, accuracies = read_run(segmenter_run.folder.path).curve("epoch", "train/accuracy")
    assert epochs.tolist() == list(range(segmenter_run.settings["segment.epochs"]))
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    with segmenter_run.folder.confusion.open() as file:
        table = list(csv.reader(file))
    assert table[0] == ["ground_truth", "seen", "occluded"]
    (_, rest, false), (_, missed, hit) = table[1], table[2]
    assert float(metrics["test/iou"]) == pytest.approx(int(hit) / (int(hit) + int(false) + int(missed)), abs=1e-6)
    assert int(rest) + int(false) + int(missed) + int(hit) == 32 * 32 * len(segmenter_run.layout.samples("test"))
    panels = {path.name for path in (segmenter_run.folder.panels / "test").iterdir()}
    face = segmenter_run.layout.samples("test")[0].id
    assert {f"{face}.{column}.png" for column in ("image", "ground_truth", "prediction", "cleaned")} <= panels


def test_the_test_score_is_that_of_the_best_weights_by_an_independent_count(segmenter_run: Run) -> None:
    module = segmenter_run.stage.module(segmenter_run).eval()
    module.load_state_dict(load(segmenter_run.folder.best)["state_dict"])
    found, ground_truth = [], []
    for batch in segmenter_run.stage.data(segmenter_run).test_dataloader():
        with torch.no_grad():
            found.append((module(batch["image"]) > 0).flatten())
        ground_truth.append((batch["label"] == 1).flatten())
    expected = jaccard_score(torch.cat(ground_truth), torch.cat(found), average=None).mean()
    assert segmenter_run.folder.status["metrics"]["test/miou"] == pytest.approx(expected, abs=1e-6)


def test_a_rebuilt_network_starts_with_the_same_loss(segmenter_run: Run) -> None:
    """As for parsers in tests/test_training.py."""
    pl.seed_everything(segmenter_run.own.seed, workers=True, verbose=False)
    module: Any = segmenter_run.stage.module(segmenter_run)
    module.log = lambda *_, **__: None  # no trainer listens
    batch = next(iter(segmenter_run.stage.data(segmenter_run).train_dataloader()))
    _, losses = read_run(segmenter_run.folder.path).curve("step", "train/loss")
    assert module.training_step(batch, 0).item() == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.training
def test_training_of_the_base_unet_scored_at_the_size_of_the_label(masked: Path, tmp_path: Path) -> None:
    words = ("segment.score_at=label", "segment.epochs=1", *NO_PANELS)
    (run,) = run_training("occlusion_base_unet", masked, tmp_path, *words)
    assert run.folder.done


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
    (run,) = run_training("occlusion_mfsd", folder, tmp_path, "segment.epochs=1", *NO_PANELS)
    assert run.folder.status["origin"] == "real"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("datamodule.image_size=100",), "multiple of 32"),
        (("segment.network=unet",), "modified_unet"),
        (("datamodule=lapa",), r"method=segment does not go with datamodule.dataset=lapa"),
        (("method=baseline",), "method=baseline does not go with datamodule.dataset=augmented_celeba"),
        (("segment.validate_every=9",), "beyond"),
    ],
)
def test_invalid_settings(words: tuple[str, ...], expected: str, masked: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        planned_run(masked, tmp_path, *words)


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


def test_a_segmenter_does_not_parse(segmenter_run: Run, lapa: Path, tmp_path: Path) -> None:
    words = (f"checkpoint={segmenter_run.folder.path}", "dataset=lapa", f"root={lapa}")
    with pytest.raises(ConfigError, match="dataset=lapa has no labels for segment-"):
        plan_evaluation(check_evaluation(config_of(*words, f"output_dir={tmp_path}")))


def test_real_masks_are_read(face_data: Path) -> None:
    layout = ImageMaskFolder(face_data / "real" / "MFSD")
    samples = layout.samples("all")
    assert len(samples) == 74
    share = np.mean([read_label(sample.label, OCCLUSION).mean() for sample in samples if sample.label])
    assert 0.25 < share < 0.45
