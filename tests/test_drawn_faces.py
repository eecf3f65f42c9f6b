"""Drawn faces: what is drawn is what is labelled, and a data set of them is whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.labels import LAPA
from datamodules.synthesis import dataset, faces
from datamodules.synthesis.dataset import write_drawn_faces
from datamodules.synthesis.faces import DrawnFace, draw_face
from engine.errors import ConfigError, DataError

ID = {name: i for i, name in enumerate(LAPA.classes)}


@pytest.fixture(scope="module")
def drawn() -> list[tuple[faces.FaceScene, DrawnFace]]:
    scenes = [faces.sample_scene(np.random.default_rng(seed)) for seed in range(40)]
    return [(scene, faces.render(scene, 96)) for scene in scenes]


def centroid(label: np.ndarray, name: str) -> np.ndarray:
    return np.argwhere(label == ID[name])[:, ::-1].mean(axis=0)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (draw_face(np.random.default_rng(seed), 64) for seed in (3, 3, 4))
    for name in ("image", "label", "landmarks"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
        assert getattr(first, name).tobytes() != getattr(other, name).tobytes()


@pytest.mark.parametrize("size", [32, 33, 97])
def test_shapes_types_and_ids(size: int) -> None:
    face = draw_face(np.random.default_rng(size), size)
    assert face.image.shape == (size, size, 3)
    assert face.label.shape == (size, size)
    assert face.image.dtype == face.label.dtype == np.uint8
    assert face.landmarks.shape == (106, 2)
    assert face.landmarks.dtype == np.float32
    assert face.label.max() < len(LAPA)


def test_every_class_is_seen_in_most_faces(drawn: list[tuple[faces.FaceScene, DrawnFace]]) -> None:
    share = np.mean([[(face.label == i).any() for i in range(len(LAPA))] for _, face in drawn], axis=0)
    inner_mouth = share[ID["inner_mouth"]]
    assert np.delete(share, ID["inner_mouth"]).min() > 0.85
    assert 0.3 < inner_mouth < 0.7
    for scene, face in drawn:
        assert (face.label == ID["inner_mouth"]).any() == (scene.expression.gap > 0)


def test_left_is_the_left_of_the_upright_picture(drawn: list[tuple[faces.FaceScene, DrawnFace]]) -> None:
    for scene, face in drawn:
        roll = np.deg2rad(scene.pose.roll)
        along_the_eyes = np.array([np.cos(roll), np.sin(roll)])
        apart = centroid(face.label, "right_eye") - centroid(face.label, "left_eye")
        assert apart @ along_the_eyes > 0.1 * 96


def test_landmarks_lie_on_their_parts(drawn: list[tuple[faces.FaceScene, DrawnFace]]) -> None:
    parts = {"left_eye": np.r_[66:75], "right_eye": np.r_[75:84]}
    for scene, face in drawn:
        for name, rows in parts.items():
            offset = centroid(face.label, name) - face.landmarks[rows].mean(axis=0)
            hidden = scene.hair.style not in ("bald", "buzz", "afro")  # hair may cover part of an eye
            assert np.hypot(*offset) < (8 if hidden else 3), name
        chin, nose_base, lip = face.landmarks[16], face.landmarks[60], face.landmarks[93]
        down = np.array([-np.sin(np.deg2rad(scene.pose.roll)), np.cos(np.deg2rad(scene.pose.roll))])
        assert nose_base @ down < lip @ down < chin @ down
        x, y = np.rint(face.landmarks[54]).astype(int)
        assert (face.label[y - 1 : y + 2, x - 1 : x + 2] == ID["nose"]).any()


@pytest.mark.parametrize("seed", range(4))
def test_colours_end_where_labels_end(seed: int) -> None:
    """Lips painted in another colour change the pixels labelled lip, and no others of the face."""
    scene = faces.sample_scene(np.random.default_rng(seed))
    plain = replace(scene, light=replace(scene.light, blur=0.0, noise=0.0))
    green, blue = (replace(plain, look=replace(plain.look, lips=np.array(c))) for c in ((0, 255, 0), (0, 0, 255)))
    before, after = faces.render(green, 256), faces.render(blue, 256)
    skin_and_lips = np.isin(before.label, [ID[n] for n in ("skin", "nose", "upper_lip", "lower_lip")])
    lips = np.isin(before.label, (ID["upper_lip"], ID["lower_lip"]))
    changed = (np.abs(before.image.astype(int) - after.image).max(axis=-1) > 40) & skin_and_lips
    # Pixels astride the edge are averages of both sides: about one in five of so small an area.
    assert (changed & lips).sum() > 0.95 * lips.sum()
    assert (changed & lips).sum() > 0.75 * changed.sum()


def build(out: Path, **changes: object) -> None:
    arguments = {"layout": "lapa", "count": 20, "size": 32, "seed": 1, "workers": 1} | changes
    write_drawn_faces(out, **arguments)  # type: ignore[arg-type]


def test_the_layout_is_that_of_lapa(tmp_path: Path) -> None:
    build(tmp_path / "a", workers=2)
    build(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    counts = {s: len(list((tmp_path / "a" / s / "labels").iterdir())) for s in ("train", "val", "test")}
    assert counts == {"train": 16, "val": 2, "test": 2}
    for label_path in (tmp_path / "a").glob("*/labels/*"):
        split = label_path.parent.parent
        label, image = Image.open(label_path), Image.open(split / "images" / f"{label_path.stem}.jpg")
        assert (label.mode, image.mode) == ("L", "RGB")
        assert label.size == image.size == (32, 32)
        lines = (split / "landmarks" / f"{label_path.stem}.txt").read_text().splitlines()
        assert lines[0] == "106"
        assert [len(line.split()) for line in lines[1:]] == [2] * 106
    parameters = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert parameters == {
        "origin": "drawn",
        "layout": "lapa",
        "count": 20,
        "size": 32,
        "seed": 1,
        "generator_version": dataset.GENERATOR_VERSION,
    }


def test_an_interrupted_build_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "whole")
    drawn: list[int] = []
    limit, true_draw = 7, faces.draw_face

    def draw_until_interrupted(rng: np.random.Generator, size: int) -> DrawnFace:
        if len(drawn) == limit:
            raise KeyboardInterrupt
        drawn.append(size)
        return true_draw(rng, size)

    monkeypatch.setattr(faces, "draw_face", draw_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    limit = 20
    build(tmp_path / "cut")
    assert len(drawn) == 20  # the first seven were not drawn again
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert not (tmp_path / "cut.partial").exists()


def test_a_partial_build_of_other_parameters_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "a", seed=9)
    stale = tmp_path / "a.partial" / "train" / "labels" / "drawn_000000.png"
    stale.write_bytes(b"stale")
    build(tmp_path / "a")
    build(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_what_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "a", count=10)
    before = files(tmp_path / "a")
    capsys.readouterr()
    build(tmp_path / "a", count=10)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(DataError, match=r"size=32.*size=48"):
        build(tmp_path / "a", count=10, size=48)
    assert files(tmp_path / "a") == before
    for name in ("foreign", "foreign.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("keep")
        with pytest.raises(DataError, match=name):
            build(tmp_path / "foreign", count=10)
        assert files(tmp_path / name) == {"mine.txt": b"keep"}
        (tmp_path / name / "mine.txt").unlink()
    build(tmp_path / "foreign", count=10)  # empty folders are in nobody's way


def test_telling_that_all_is_there_imports_no_drawing(tmp_path: Path) -> None:
    build(tmp_path / "a", count=10)
    code = (
        "import sys; from pathlib import Path; from datamodules.synthesis.dataset import write_drawn_faces as w;"
        f"w(Path({str(tmp_path / 'a')!r}), layout='lapa', count=10, size=32, seed=1, workers=1);"
        "assert not {'cv2', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("wrong", [{"count": 9}, {"size": 31}, {"seed": -1}, {"workers": 0}, {"layout": "celeba"}])
def test_wrong_arguments_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build(tmp_path / "a", **wrong)
    assert not any(tmp_path.iterdir())
