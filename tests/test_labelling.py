"""``experiment=few_labels``: a folder of one's own in, label maps and an honest score out."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from datamodules.layouts import open_layout
from datamodules.reading import read_label
from deploy import labelling, prediction
from deploy.announcement import announce
from deploy.labelling import images_of, indexed, train_and_label
from engine.stage import Run
from stages.command import check, plan, train
from tests.commands import within
from tests.conftest import ROOT, TINY, settings_of
from tests.test_declared_classes import CLASSES, PALETTE, add_face, declare

COMMAND = (
    *("experiment=few_labels", *TINY, "semi.start_from=null", "callbacks.panels=null", "callbacks.activations=null"),
    *("semi.folds=2", "semi.wait=0"),
)


def faces(root: Path, labelled: int = 4, unlabelled: int = 3, form: str = "L") -> Path:
    declare(root)
    for number in range(labelled + unlabelled):
        add_face(root, f"day/{number:02}", number, form if number < labelled else None)
    return root


def words(root: Path, output: Path, *more: str) -> list[str]:
    return [*COMMAND, f"datamodule.root={root}", f"output_dir={output}", *more]


def command(root: Path, output: Path, *more: str) -> list[dict[str, object]]:
    return train_and_label(OmegaConf.create(settings_of(*words(root, output, *more))))


def runs_of(root: Path, output: Path, *more: str) -> list[Run]:
    return plan(check(settings_of(*words(root, output, *more))))


def table(out: Path) -> list[dict[str, str]]:
    with (out / "uncertainty.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.training
def test_every_image_gets_a_label_map_and_the_labels_a_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = faces(tmp_path / "faces"), tmp_path / "outputs"
    results = command(root, output)
    said = capsys.readouterr()
    run, *folds = runs_of(root, output)
    assert [one["name"] for one in results] == [run.folder.name, *(fold.folder.name for fold in folds)]
    assert all(one["ran"] for one in results)
    assert "7 images to train on, 4 with label maps and 3 without. 4 classes: background, face" in said.out
    assert "Score: by 2 more trainings, each on all labels but those of one fold (2 or more of 4)" in said.out
    assert "s left" in said.out
    assert "Training takes about" in said.out.partition("Training semi-")[0]
    place = said.out.index("Label these next")
    assert said.out.index(f"Training {run.folder.name}") < place < said.out.index(f"Training {folds[0].folder.name}")

    out = output / "few_labels" / run.folder.name
    rows = table(out)
    assert {row["name"]: row["labelled"] for row in rows} == {
        f"day/{number:02}": "yes" if number < 4 else "no" for number in range(7)
    }
    values = [float(row["uncertainty"]) for row in rows]
    assert values == sorted(values, reverse=True)
    for number in range(7):
        path = out / ("labelled" if number < 4 else "labels") / f"day/{number:02}.png"
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("P", (64, 64))
        assert read_label(path, run.layout.labels).max() < 4, "as the folder's own label maps"
        assert (out / f"overlays/day/{number:02}.jpg").is_file()
    with Image.open(out / "label_next.jpg") as sheet:
        assert sheet.width > 900
    with (out / "scores.csv").open(newline="") as file:
        scores = {row["class"]: row for row in csv.DictReader(file)}
    ious = [fold.folder.status["metrics"]["test/miou"] for fold in folds]
    assert float(scores["mean"]["iou"]) == pytest.approx(np.mean(ious), abs=1e-4)
    assert float(scores["mean"]["iou_deviation"]) == pytest.approx(np.std(ious, ddof=1), abs=1e-4)
    assert [*scores] == ["background", "face", "left_eye", "right_eye", "mean"]
    assert "trained on 2 of the 4 labels" in " ".join(said.out.split())
    assert "test/miou" not in run.folder.status["metrics"], "no label is left to score it"

    corrected = out / "labels/day/05.png"
    corrected.write_bytes(b"what an annotator made of it")
    assert not any(one["ran"] for one in command(root, output)), "all is done"
    assert corrected.read_bytes() == b"what an annotator made of it"
    assert "Training takes" not in capsys.readouterr().out


@pytest.mark.training
def test_an_interrupted_prediction_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, output = faces(tmp_path / "faces", 2, 4), tmp_path / "outputs"
    written: list[str] = []
    write = labelling._write

    def interrupted(image: prediction.ReadImage, *given: Any, **more: Any) -> dict[str, Any]:
        if len(written) == most:
            raise KeyboardInterrupt
        written.append(image.name)
        return write(image, *given, **more)

    monkeypatch.setattr(labelling, "_write", interrupted)
    most = 3
    with pytest.raises(KeyboardInterrupt):
        command(root, output, "semi.folds=0")
    written.clear()
    most = -1
    command(root, output, "semi.folds=0")
    assert written == ["day/03", "day/04", "day/05"]
    (run,) = runs_of(root, output, "semi.folds=0")
    out = output / "few_labels" / run.folder.name
    assert len(table(out)) == 6
    again = tmp_path / "again"
    train(OmegaConf.create(settings_of(*words(root, again, "semi.folds=0"))))  # without a forecast of the time
    command(root, again, "semi.folds=0")
    other = again / "few_labels" / run.folder.name
    assert [row["uncertainty"] for row in table(other)] == [row["uncertainty"] for row in table(out)]
    for path in (out / "labels").rglob("*.png"):
        assert path.read_bytes() == (other / "labels" / path.relative_to(out / "labels")).read_bytes()


@pytest.mark.training
def test_coloured_labels_give_coloured_predictions_and_a_test_split_the_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = faces(tmp_path / "faces", form="RGB"), tmp_path / "outputs"
    (root / "test.txt").write_text("day/01\nday/02\n")
    (run,) = runs_of(root, output)
    command(root, output)
    said = " ".join(capsys.readouterr().out.split())
    assert "Score: on the 2 labelled images of the test split." in said
    assert "Scores on the test split" in said
    assert run.folder.status["labelled"] == 2
    assert run.folder.status["validation_labels"] == 0
    with Image.open(output / "few_labels" / run.folder.name / "labels/day/04.png") as image:
        assert image.mode == "RGB"
        found = np.unique(np.asarray(image).reshape(-1, 3), axis=0).tolist()
    assert all(colour in PALETTE.tolist() for colour in found)


@pytest.mark.training
def test_no_label_at_all(tmp_path: Path, lapa: Path) -> None:
    root, output = faces(tmp_path / "faces", 0, 3), tmp_path / "outputs"
    (root / "classes.yaml").write_text("classes: LaPa\n")
    synthetic = ("label_fraction=0", f"semi.synthetic.root={lapa}", "semi.synthetic.share=1.0", "semi.epochs=1")
    command(root, output, *synthetic)
    (run,) = runs_of(root, output, *synthetic)
    assert run.folder.status["labelled"] == 0
    assert len(list((output / "few_labels" / run.folder.name / "labels" / "day").iterdir())) == 3


def test_a_start_gives_its_head_where_the_classes_are_the_same(parser_runs: list[Run], tmp_path: Path) -> None:
    start, seen = parser_runs[-1].folder.path, {}
    for name, classes in (("same", "classes: LaPa\n"), ("others", None)):
        root = faces(tmp_path / name)
        if classes is not None:
            (root / "classes.yaml").write_text(classes)
        run, *_ = runs_of(root, tmp_path / "outputs", f"semi.start_from={start}")
        seen[name] = run.identity["settings"]["semi.transfer"], run.stage.start_description(run)  # type: ignore[attr-defined]
    assert seen["same"] == ("all", f"Start: all weights of {start.name}.")
    assert seen["others"] == (
        "trunk",
        f"Start: all weights but the head's of {start.name}, since its classes are others.",
    )


@pytest.mark.slow
def test_mistakes_before_anything_is_trained(tmp_path: Path) -> None:
    root, output = faces(tmp_path / "faces"), tmp_path / "outputs"

    def refused(*more: str) -> str:
        finished = within("train.py", *words(root, output, *more), cwd=ROOT)
        assert finished.returncode == 2
        assert not list(output.glob("runs/*"))
        return finished.stderr

    assert f"predict_to={root / 'inside'} is inside the data set's folder" in refused(f"predict_to={root / 'inside'}")
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(root / "labels" / "day/02.png")
    assert "02.png holds class id 9" in refused()
    (root / "labels" / "day/02.png").write_bytes(b"no image")
    assert "02.png" in refused()
    (root / "classes.yaml").unlink()
    assert "or classes: LaPa" in refused()


def test_an_indexed_label_map_has_ids_and_colours(tmp_path: Path) -> None:
    labels = open_layout("folder", faces(tmp_path / "faces")).labels
    ids = np.arange(4, dtype=np.uint8).reshape(2, 2)
    indexed(ids, labels).save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), ids)
        assert np.array_equal(np.asarray(image.convert("RGB")), labels.colorize(ids))


def test_names_of_label_maps_say_the_split_where_folders_make_it(tmp_path: Path, lapa: Path) -> None:
    declare(tmp_path / "faces")
    for split, label in (("train", "L"), ("test", "L"), ("val", None)):
        add_face(tmp_path / "faces" / split, "one", 1, label)
    images, labelled = images_of(open_layout("folder", tmp_path / "faces", random_split=False))
    assert [*images] == ["test/one", "train/one", "val/one"]
    assert labelled == {"train/one", "test/one"}
    images, labelled = images_of(open_layout("lapa", lapa))
    assert len(images) == 40
    assert labelled == {*images}


def test_a_class_without_a_labelled_pixel_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = faces(tmp_path / "faces", 2, 0)
    declare(root, classes=[*CLASSES, {"name": "hat", "id": 4, "color": [9, 9, 9]}])
    run, *folds = runs_of(root, tmp_path / "outputs")
    run.folder.write_status(state="interrupted", epoch=1, seconds=1.0)
    announce(run, folds, False, Console(soft_wrap=True))
    said = capsys.readouterr()
    assert "Note: No label map has a pixel of hat: not learnt" in said.err
    assert "No image is without a label map" in said.out
    announce(run, [], False, Console(soft_wrap=True))
    assert "Score: none, since the data hold no labelled val or test split (folds=0)." in capsys.readouterr().out
