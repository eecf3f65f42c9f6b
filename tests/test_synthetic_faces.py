"""Synthetic faces: images agree with labels and landmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datamodules.labels import LAPA
from synthesis import faces
from synthesis.faces import SyntheticFace, render_random_face

ID = {name: i for i, name in enumerate(LAPA.classes)}


@pytest.fixture(scope="module")
def rendered() -> list[tuple[faces.FaceScene, SyntheticFace]]:
    scenes = [faces.sample_scene(np.random.default_rng(seed)) for seed in range(40)]
    return [(scene, faces.render(scene, 96)) for scene in scenes]


def centroid(label: np.ndarray, name: str) -> np.ndarray:
    return np.argwhere(label == ID[name])[:, ::-1].mean(axis=0)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (render_random_face(np.random.default_rng(seed), 64) for seed in (3, 3, 4))
    for name in ("image", "label", "landmarks"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
        assert getattr(first, name).tobytes() != getattr(other, name).tobytes()


@pytest.mark.parametrize("size", [32, 33, 97])
def test_shapes_types_and_ids(size: int) -> None:
    face = render_random_face(np.random.default_rng(size), size)
    assert face.image.shape == (size, size, 3)
    assert face.label.shape == (size, size)
    assert face.image.dtype == face.label.dtype == np.uint8
    assert face.landmarks.shape == (106, 2)
    assert face.landmarks.dtype == np.float32
    assert face.label.max() < len(LAPA)


def test_every_class_is_visible_in_most_faces(rendered: list[tuple[faces.FaceScene, SyntheticFace]]) -> None:
    share = np.mean([[(face.label == i).any() for i in range(len(LAPA))] for _, face in rendered], axis=0)
    inner_mouth = share[ID["inner_mouth"]]
    assert np.delete(share, ID["inner_mouth"]).min() > 0.85
    assert 0.3 < inner_mouth < 0.7
    for scene, face in rendered:
        assert (face.label == ID["inner_mouth"]).any() == (scene.expression.gap > 0)


def test_left_is_the_left_of_the_upright_image(rendered: list[tuple[faces.FaceScene, SyntheticFace]]) -> None:
    for scene, face in rendered:
        roll = np.deg2rad(scene.pose.roll)
        along_the_eyes = np.array([np.cos(roll), np.sin(roll)])
        apart = centroid(face.label, "right_eye") - centroid(face.label, "left_eye")
        assert apart @ along_the_eyes > 0.1 * 96


def test_landmarks_lie_on_their_parts(rendered: list[tuple[faces.FaceScene, SyntheticFace]]) -> None:
    parts = {"left_eye": np.r_[66:75], "right_eye": np.r_[75:84]}
    for scene, face in rendered:
        for name, rows in parts.items():
            offset = centroid(face.label, name) - face.landmarks[rows].mean(axis=0)
            covered = scene.hair.style not in ("bald", "buzz", "afro")  # hair may cover part of an eye
            assert np.hypot(*offset) < (8 if covered else 3), name
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
