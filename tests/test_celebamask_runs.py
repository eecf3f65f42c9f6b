"""CelebAMask-HQ from merged label maps to batches, identities and complete runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.faces import ParsingDataModule
from datamodules.labels import CELEBAMASK_HQ, IGNORE, LabelSet
from datamodules.layouts import Parts, Sample, open_layout
from datamodules.reading import require_size
from datamodules.transforms import Augmentation, FaceTransform
from foundation.errors import BrokenFileError
from tests.celebamask_faces import MASKS, copied_faces, merging
from tests.conftest import PANELS, run_training
from tests.training_runs import planned

copy = copied_faces  # the fixture, as these tests name it


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


# Complete runs


def ids(root: Path, output: Path, **changes: object) -> list[str]:
    return [run.id for run in planned(root, output, "mtl_celebamask_1pct", **changes)]


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
    words = ("pretrain.epochs=1", "finetune.epochs=1", *PANELS[:1])
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
