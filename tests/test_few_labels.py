"""Few labels in a folder of one's own: its split, folds, uncertainty, scores over folds, forecast of the time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.faces import FOLD
from datamodules.label_survey import class_pixels
from datamodules.layouts import open_layout
from datamodules.self_training import SelfTrainingDataModule
from datamodules.transforms import Augmentation
from engine.cross_validation import class_scores, in_per_cent, mean_and_deviation
from engine.stage import Run
from engine.step_timing import forecast
from foundation.errors import BrokenFileError, ConfigError, DataError
from foundation.recorded_runs import read_runs
from foundation.shown_text import duration
from models.uncertainty import expected_error, square_inside
from reports import tables
from reports.folds import cross_validations
from tests.run_folders import write_run
from tests.test_declared_classes import SIDE, add_face, declare, label_map
from tests.training_runs import planned

SEMI = {"semi.select": "last", "datamodule.random_split": False, "datamodule.dataset": "folder"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six images, four of them with label maps."""
    root = tmp_path / "my_faces"
    declare(root)
    for number in range(6):
        add_face(root, f"{number}", number, "L" if number < 4 else None)
    return root


def runs_of(root: Path, tmp_path: Path, **changes: object) -> list[Run]:
    return planned(root, tmp_path / "outputs", "semi_lapa", **SEMI | changes)


def ids(root: Path, split: str) -> list[str]:
    return [one.id for one in open_layout("folder", root, random_split=False).samples(split)]


def test_without_a_split_all_labels_are_for_training(root: Path) -> None:
    layout = open_layout("folder", root, random_split=False)
    assert layout.labelled_splits == ("train",)
    assert ids(root, "train") == ["0", "1", "2", "3"]
    assert [one.id for one in layout.samples("train", labelled=False)] == [*"012345"]
    assert open_layout("folder", root).labelled_splits == ("train", "val", "test"), "at random otherwise"


def test_lists_and_folders_make_the_split_that_they_name(root: Path, tmp_path: Path) -> None:
    (root / "test.txt").write_text("1\n")
    assert (ids(root, "train"), ids(root, "test")) == (["0", "2", "3"], ["1"]), "no list of training images: the others"
    (root / "train.txt").write_text("2\n")
    assert (ids(root, "train"), ids(root, "test")) == (["2"], ["1"])
    other = tmp_path / "others"
    declare(other)
    for split, label in (("train", "L"), ("val", None), ("test", "P")):
        add_face(other / split, "one", 1, label)
    assert open_layout("folder", other, random_split=False).labelled_splits == ("train", "test")
    with pytest.raises(DataError, match="1 images of the split val, none with a label map"):
        ids(other, "val")


def test_folds_hold_each_label_out_once(root: Path, tmp_path: Path) -> None:
    run, *folds = runs_of(root, tmp_path, **{"semi.folds": 3})
    assert [one.own.fold for one in folds] == [0, 1, 2]
    assert not run.stage.is_tested(run)
    held_out: list[str] = []
    for fold in folds:
        data = fold.stage.data(fold)
        assert isinstance(data, SelfTrainingDataModule)
        real, _, unlabelled = data._parts()
        scored = [sample.id for sample in data.labelled("test")]
        trained = {sample.id for sample in real.samples}
        assert trained == {*"0123"} - {*scored}
        assert {sample.id for sample in unlabelled.samples} == {*"012345"} - {*scored}, "not even without its label"
        assert fold.stage.description(fold)["labelled"] == len(trained)
        assert len(list(data.train_dataloader().sampler)) == len(list(run.stage.data(run).train_dataloader().sampler))
        assert data.val_dataloader() == []
        held_out += scored
    assert sorted(held_out) == ["0", "1", "2", "3"]


def test_folds_are_as_many_as_labels_at_most(root: Path, tmp_path: Path) -> None:
    def fold_count(**changes: object) -> int:
        return len(runs_of(root, tmp_path, **changes)) - 1

    assert fold_count(**{"semi.folds": 9}) == 4
    assert fold_count(**{"semi.folds": 0}) == 0
    assert fold_count(**{"semi.folds": 9, "label_fraction": 0.5}) == 2
    assert fold_count(**{"semi.folds": 9, "label_fraction": 0.25}) == 0, "one label is no fold"
    (root / "test.txt").write_text("1\n")
    (run,) = runs_of(root, tmp_path, **{"semi.folds": 3})
    assert run.stage.is_tested(run), "a test split scores without folds"
    assert [one.id for one in run.stage.data(run).labelled("test")] == ["1"]  # type: ignore[attr-defined]


def test_the_folds_of_a_part_of_the_labels_divide_that_part(root: Path) -> None:
    layout = open_layout("folder", root, random_split=False)
    both = [
        SelfTrainingDataModule(
            *(layout, 32, 2, 0, Augmentation()),
            train_ids=("0", "3"),
            fold=(fold, 2),
            tested=FOLD,
            unlabelled_batch_size=2,
            epochs=1,
        )
        for fold in (0, 1)
    ]
    assert [len(data.labelled(split)) for data in both for split in ("train", "test")] == [1, 1, 1, 1]
    assert {data.labelled("test")[0].id for data in both} == {"0", "3"}


def test_what_enters_the_ids(root: Path, tmp_path: Path, lapa: Path) -> None:
    run, *folds = runs_of(root, tmp_path, **{"semi.folds": 2})
    assert len({one.id for one in (run, *folds)}) == 3
    assert runs_of(root, tmp_path)[0].id == run.id, "however many folds score it"
    add_face(root, "6", 6, None)
    more, *_ = runs_of(root, tmp_path)
    assert more.id != run.id, "an image without a label is trained on"
    add_face(root, "6", 7, None)
    assert runs_of(root, tmp_path)[0].id not in (run.id, more.id), "by its content"
    (published,) = planned(lapa, tmp_path / "outputs", "semi_lapa_10pct")
    assert published.stage.extra_data(published, None) is None, "every image of a published set has labels"  # type: ignore[arg-type]
    assert not {"semi.fold", "semi.folds", "datamodule.random_split"} & published.identity["settings"].keys()


def test_mistakes_of_split_and_folds(root: Path, tmp_path: Path, lapa: Path) -> None:
    with pytest.raises(ConfigError, match=r"semi\.select=best needs validation labels.*\n.*semi\.select=last"):
        runs_of(root, tmp_path, **{"semi.select": "best"})
    with pytest.raises(ConfigError, match=r"semi\.fold=2 with semi\.folds=2"):
        runs_of(root, tmp_path, **{"semi.folds": 2, "semi.fold": 2})
    with pytest.raises(ConfigError, match=r"random_split=false does not go with datamodule\.dataset=lapa"):
        planned(lapa, tmp_path, "semi_lapa", **{"datamodule.random_split": False})
    for file in (root / "labels").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"6 images of the split train, none with a label map(?s:.*)label_fraction=0"):
        runs_of(root, tmp_path)


def test_labels_are_counted_and_checked_before_training(root: Path) -> None:
    layout = open_layout("folder", root, random_split=False)
    expected = np.sum([np.bincount(label_map(number).ravel(), minlength=256)[:4] for number in range(4)], axis=0)
    assert class_pixels(layout.samples("train"), layout.labels).tolist() == expected.tolist()
    Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(root / "labels" / "2.png")
    with pytest.raises(BrokenFileError, match=r"2\.png holds class id 7"):
        class_pixels(layout.samples("train"), layout.labels)
    Image.fromarray(np.zeros((SIDE, 2 * SIDE), np.uint8)).save(root / "labels" / "2.png")
    with pytest.raises(BrokenFileError, match=r"2\.png is 128x64 pixels, its image 64x64"):
        class_pixels(layout.samples("train"), layout.labels)


def test_the_expected_error_is_that_of_its_probabilities() -> None:
    sure = torch.full((3, 2, 2), -100.0)
    sure[0] = 100
    assert expected_error(sure) == pytest.approx(0, abs=1e-6)
    # Of two pixels one is class 0 with .8, one class 1 with .6: IoU .8 / (1 + .4) and .6 / (1 + .2).
    logits = torch.tensor([[0.8, 0.4], [0.2, 0.6]]).log().reshape(2, 1, 2)
    assert expected_error(logits) == pytest.approx(1 - (0.8 / 1.4 + 0.6 / 1.2) / 2, abs=1e-6)
    inside = torch.tensor([[True, False]])
    assert expected_error(logits, inside) == pytest.approx(1 - 0.8, abs=1e-6), "a class of .2 pixels is not there"
    assert expected_error(logits, torch.zeros(1, 2, dtype=torch.bool)) == 0
    rare = torch.zeros(2, 1, 100)
    rare[0] = 9
    rare[1, 0, 0] = 9.1
    assert expected_error(rare) > 0.2, "a small class counts as much as a large one"


def test_a_square_knows_what_lies_in_its_image() -> None:
    assert square_inside((-2, 0, 8), (8, 4), 4).tolist() == [[False, True, True, False]] * 4
    assert square_inside((0, 0, 8), (8, 8), 4).all()


def test_scores_over_folds_are_means_and_deviations() -> None:
    folds = [{"test/iou/a": 0.5, "test/miou": 0.4}, {"test/iou/a": 0.7, "test/iou/b": 0.1, "test/miou": 0.6}]
    first, second, mean = class_scores(folds, ("a", "b"))
    assert mean_and_deviation(first.iou) == pytest.approx((0.6, math.sqrt(0.02)))
    only, none = mean_and_deviation(second.iou)
    assert (only, math.isnan(none)) == (0.1, True), "a class of one fold has no deviation"
    assert (mean.name, in_per_cent(mean.iou), in_per_cent(second.f1)) == ("mean", "50.0 ± 14.1", "—")


def test_the_report_has_folds_as_one_table_and_not_as_results(tmp_path: Path) -> None:
    classes = ("skin", "eyes")
    for fold, value in enumerate((0.5, 0.7)):
        scores = {"test/iou/eyes": 0.1, "test/iou/skin": value, "test/miou": value, "test/mean_f1": value}
        write_run(
            *(tmp_path, "semi", f"fold{fold}"),
            method="semi",
            metrics=scores,
            class_set={"classes": [*classes]},
            curves=False,
            identity={"version": 1, "settings": {"semi.fold": fold, "semi.folds": 2, "semi.epochs": 3}},
        )
    write_run(tmp_path, "semi", "all", method="semi", curves=False, identity={"settings": {"semi.epochs": 3}})
    runs = read_runs(tmp_path)
    (table,) = cross_validations(runs)
    assert table.title.startswith("Cross-validation, 2 of 2 folds")
    assert [row[:2] for row in table.rows] == [("skin", "60.0 ± 14.1"), ("eyes", "10.0 ± 0.0"), ("mean", "60.0 ± 14.1")]
    assert [run.id for run in tables.results(runs).runs] == ["all"]
    assert tables.grid_searches(runs) == []


def test_the_time_is_forecast_from_what_has_begun(root: Path, tmp_path: Path) -> None:
    runs = runs_of(root, tmp_path, **{"semi.folds": 2, "semi.epochs": 4, "semi.steps_per_epoch": 5})
    runs[0].folder.write_status(state="interrupted", epoch=2, seconds=30.0)
    found = forecast(runs)
    assert found is not None
    assert (found.runs, found.steps, found.per_step) == (3, 20, 3)
    assert found.seconds == 3 * (10 + 20 + 20)
    assert str(found) == "about 2 min: 3 trainings of 20 steps of 3.00 s"
    assert [duration(seconds) for seconds in (0.2, 89, 91, 5000, 7200)] == ["1 s", "89 s", "2 min", "83 min", "2 h"]
