"""Faces that are rendered during training: the same as those of files, others in each epoch, and what enters the id."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.labels import CELEBAMASK_HQ, LAPA
from datamodules.layouts import open_layout
from datamodules.merging import merge
from datamodules.reading import read_image, read_label
from datamodules.rendered_faces import RenderedFacesDataModule
from datamodules.transforms import Augmentation
from engine.stage import Run
from foundation.errors import ConfigError, DataError
from lightning_modules.self_training import SelfTraining
from stages.command import check
from synthesis.on_the_fly import RandomFaceRenderer
from tests.conftest import run_training
from tests.training_runs import assert_same_weights, composed, interrupted_at, planned

SEED, SIZE = 3, 64
"""Of the data sets of the fixtures ``lapa`` and ``celebamask``."""


def test_a_rendered_face_is_that_of_the_files(lapa: Path, celebamask: Path) -> None:
    sample = open_layout("lapa", str(lapa)).samples("train")[5]
    image, label = RandomFaceRenderer(SIZE, LAPA, None)(np.random.default_rng([SEED, 5]))
    assert sample.label is not None
    assert np.array_equal(image, read_image(sample.image).pixels)
    assert np.array_equal(label, read_label(sample.label, LAPA))
    sample = open_layout("celebamask_hq", str(celebamask)).samples("train")[7]
    for order in ("official", "farl"):
        image, label = RandomFaceRenderer(SIZE, CELEBAMASK_HQ, order)(
            np.random.default_rng([SEED, int(sample.image.stem)])
        )
        assert np.array_equal(image, read_image(sample.image).pixels)
        assert np.array_equal(label, merge(sample, order, CELEBAMASK_HQ))


def test_no_face_is_rendered_twice(lapa: Path) -> None:
    render = RandomFaceRenderer(SIZE, LAPA, None)
    layout = open_layout("lapa", str(lapa))
    data = RenderedFacesDataModule(layout, 32, 4, 0, Augmentation(), render=render, workers=0)
    faces = data.train_dataloader().dataset
    first, again = faces[0, 0, 3], faces[0, 0, 3]
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    for other in (faces[1, 0, 3], faces[0, 1, 3]):
        assert not torch.equal(first["label"], other["label"])
    (validation, *_) = data.in_order("val")
    assert validation["id"] == [sample.id for sample in layout.samples("val")], (
        "validation faces are those of the files"
    )


def self_trained(root: Path, output: Path) -> Run:
    rendered = (f"semi.synthetic.root={root}", "semi.synthetic.on_the_fly=true", "semi.epochs=2", "semi.wait=0")
    *_, run = run_training("semi_lapa_10pct", root, output, *rendered)
    return run


@pytest.mark.training
def test_a_resumed_run_renders_the_same_faces(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = self_trained(lapa, tmp_path / "whole")
    with interrupted_at(monkeypatch, SelfTraining, 3):
        self_trained(lapa, tmp_path / "resumed")
    resumed = self_trained(lapa, tmp_path / "resumed")
    assert resumed.folder.status["attempts"] == 2
    assert_same_weights(whole, resumed)


@pytest.mark.training
def test_a_parser_of_synthetic_faces(celebamask: Path, tmp_path: Path) -> None:
    (run,) = run_training("synthetic_celebamask", celebamask, tmp_path)
    assert run.settings.finetune.on_the_fly
    assert run.folder.done


def test_size_and_generator_enter_the_id_instead_of_the_files(lapa: Path, tmp_path: Path) -> None:
    def identified(root: Path, **changes: object) -> str:
        rendered = {"semi.synthetic.root": str(root), "semi.synthetic.on_the_fly": True}
        (run,) = planned(lapa, tmp_path / "outputs", "semi_lapa_10pct", **rendered | changes)
        return run.id

    other = Path(shutil.copytree(lapa, tmp_path / "other"))
    image = next((other / "train" / "images").iterdir())
    image.write_bytes(next((other / "test" / "images").iterdir()).read_bytes())
    assert identified(other) == identified(lapa)
    assert identified(lapa, **{"semi.synthetic.on_the_fly": False}) != identified(lapa)
    about = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(about | {"size": 96}))
    assert identified(other) != identified(lapa)


def test_real_faces_cannot_be_rendered(lapa: Path, tmp_path: Path) -> None:
    real = Path(shutil.copytree(lapa, tmp_path / "real"))
    (real / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"datamodule.root=.* holds no labelled synthetic faces.\n.*prepare.py"):
        planned(real, tmp_path, "baseline_lapa_full", **{"finetune.on_the_fly": True})
    with pytest.raises(ConfigError, match=r"finetune.on_the_fly=true with label_fraction=0.1"):
        check(composed("baseline_lapa_10pct") | {"finetune.on_the_fly": True})
