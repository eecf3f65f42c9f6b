"""Part masks, landmarks and rarities of synthetic faces: each on its part, each as often as in CelebAMask-HQ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datamodules.labels import LAPA
from synthesis.faces import FaceScene, SyntheticFace, render, sample_scene
from synthesis.scene import Pose

ID = {name: i for i, name in enumerate(LAPA.classes)}
SAME_PART = {  # LaPa names sides as the viewer sees them, CelebAMask-HQ as the person would
    "left_eyebrow": "r_brow",
    "right_eyebrow": "l_brow",
    "left_eye": "r_eye",
    "right_eye": "l_eye",
    "nose": "nose",
    "upper_lip": "u_lip",
    "inner_mouth": "mouth",
    "lower_lip": "l_lip",
    "hair": "hair",
}
PART_NAMES = {*SAME_PART.values(), "skin", "eye_g", "l_ear", "r_ear", "hat", "ear_r", "neck_l", "neck", "cloth"}


def scene_of(seed: int) -> FaceScene:
    return sample_scene(np.random.default_rng([77, seed]))


def wearing(scene: FaceScene, **changes: object) -> FaceScene:
    return replace(scene, look=replace(scene.look, **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rendered() -> list[tuple[FaceScene, SyntheticFace]]:
    return [(scene, render(scene, 128)) for scene in map(scene_of, range(40))]


def test_part_masks_agree_with_the_label_map(rendered: list[tuple[FaceScene, SyntheticFace]]) -> None:
    for _, face in rendered:
        assert set(face.parts) <= PART_NAMES
        assert all(mask.dtype == bool and mask.shape == (128, 128) and mask.any() for mask in face.parts.values())
        for name, part in SAME_PART.items():
            labelled = face.label == ID[name]
            if labelled.sum() < 30:
                continue
            both = (labelled & face.parts[part]).sum()
            assert both > 0.9 * labelled.sum(), (name, "is labelled beyond its part mask")


def test_eyes_behind_dark_glasses_are_not_labelled() -> None:
    scene = replace(scene_of(0), hair=replace(scene_of(0).hair, fringe="none"))
    clear, dark = (
        render(wearing(scene, glasses="square", sunglasses=dark_lenses), 128) for dark_lenses in (False, True)
    )
    eyes = (ID["left_eye"], ID["right_eye"])
    assert np.isin(clear.label, eyes).any()
    assert not np.isin(dark.label, eyes).any()
    assert {"l_eye", "r_eye"} <= set(clear.parts)
    assert not {"l_eye", "r_eye"} & set(dark.parts)


def test_skin_continues_beneath_the_features_and_neck_beneath_a_necklace() -> None:
    face = render(wearing(scene_of(0), glasses="none", necklace="pearls"), 128)
    for part in ("nose", "u_lip", "l_lip", "r_eye", "l_eye"):
        assert (face.parts[part] & face.parts["skin"]).sum() > 0.95 * face.parts[part].sum(), part
    assert (face.parts["neck_l"] & (face.parts["neck"] | face.parts["cloth"])).any()


def test_the_person_s_left_is_the_right_of_the_image(rendered: list[tuple[FaceScene, SyntheticFace]]) -> None:
    for _, face in rendered:
        if {"l_eye", "r_eye"} <= set(face.parts):
            left, right = (np.argwhere(face.parts[part]).mean(0)[1] for part in ("l_eye", "r_eye"))
            assert left > right


def test_68_landmarks_lie_on_their_parts(rendered: list[tuple[FaceScene, SyntheticFace]]) -> None:
    for scene, face in rendered:
        if scene.hand != "none" or scene.hair.fringe != "none":
            continue
        points, apart = face.landmarks_68, 128 * scene.pose.scale
        for part, rows in {"r_eye": np.r_[36:42], "l_eye": np.r_[42:48], "nose": np.r_[27:36]}.items():
            if part not in face.parts:
                continue
            middle = np.argwhere(face.parts[part]).mean(0)[::-1]
            assert np.hypot(*(points[rows].mean(0) - middle)) < 0.25 * apart, part
        down = np.array([-np.sin(np.deg2rad(scene.pose.roll)), np.cos(np.deg2rad(scene.pose.roll))])
        assert points[33] @ down < points[51] @ down <= points[62] @ down <= points[66] @ down
        assert points[66] @ down < points[57] @ down < points[8] @ down


@pytest.mark.slow
def test_rarities_are_as_rare_as_in_celebamask_hq() -> None:
    scenes = [scene_of(seed) for seed in range(3000)]
    shares = {
        "necklace": np.mean([scene.look.necklace != "none" for scene in scenes]),
        "ear-rings": np.mean([scene.look.ear_rings != "none" for scene in scenes]),
        "glasses": np.mean([scene.look.glasses != "none" for scene in scenes]),
        "hat": np.mean([scene.hair.hat for scene in scenes]),
    }
    # In 30,000 published faces: 6, 27, 5 and 4 %; some more glasses and hats help those who train on these alone.
    assert 0.04 < shares["necklace"] < 0.09
    assert 0.2 < shares["ear-rings"] < 0.36
    assert 0.03 < shares["glasses"] < 0.11
    assert 0.02 < shares["hat"] < 0.1
    necklaces = [render(s, 128).parts.get("neck_l") for s in scenes[:600] if s.look.necklace != "none"]
    pixels = sum(int(mask.sum()) for mask in necklaces if mask is not None) / (600 * 128 * 128)
    assert 0.0001 < pixels < 0.001  # 0.04 % of all pixels there


def test_one_face_with_and_without_accessories() -> None:
    bare = wearing(scene_of(3), glasses="none", sunglasses=False, ear_rings="none", necklace="none")
    bare = replace(bare, pose=Pose(yaw=8, pitch=0, roll=0, scale=0.2, centre=(0.5, 0.4)))
    before = render(bare, 128)
    accessories = {
        "eye_g": {"glasses": "round"},
        "ear_r": {"ear_rings": "hoops"},
        "neck_l": {"necklace": "pearls"},
    }
    for part, changes in accessories.items():
        after = render(wearing(bare, **changes), 128)
        changed = np.abs(after.image.astype(int) - before.image).max(-1) > 12
        near = np.zeros((128, 128), bool)
        for dy in range(-4, 5):
            for dx in range(-4, 5):
                near |= np.roll(after.parts[part], (dy, dx), (0, 1))
        assert changed.any()
        assert (changed & ~near).sum() == 0, part


def test_a_pose_can_be_set() -> None:
    scene = scene_of(5)
    left, right = (render(replace(scene, pose=replace(scene.pose, yaw=yaw)), 96) for yaw in (-30.0, 30.0))
    tips = [face.landmarks_68[30, 0] - face.landmarks_68[[36, 45], 0].mean() for face in (left, right)]
    assert tips[0] < 0 < tips[1]
