"""Face masks on photographs: their position, the area that they occlude, and exact ground truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.landmarks import FaceFinder
from foundation.errors import BrokenFileError, ConfigError
from synthesis.faces import SyntheticFace, render, sample_scene
from synthesis.masks.choices import (
    DISTRACTORS,
    MASK_TYPES,
    STYLES,
    TYPES_OF_STYLE,
    FaceMask,
    MaskChoices,
    choose_mask,
    tilt_of,
)
from synthesis.masks.rendering import render_mask
from synthesis.masks.shapes import Face
from synthesis.masks.templates import laid_on, read_templates
from synthesis.masks.textures import PLAIN, TEXTURES, tile
from synthesis.masks.window import Window

CHOICES = MaskChoices()
NOSE_TIP, MOUTH, CHIN, BROWS = 30, slice(48, 68), 8, slice(17, 27)


def face_turned(yaw: float, size: int = 192, seed: int = 5) -> SyntheticFace:
    scene = sample_scene(np.random.default_rng(seed))
    pose = dataclasses.replace(scene.pose, yaw=yaw, pitch=0.0, roll=0.0, centre=(0.5, 0.45), scale=0.2)
    return render(dataclasses.replace(scene, pose=pose), size=size)


@pytest.fixture(scope="module")
def face() -> SyntheticFace:
    return face_turned(0.0)


def face_mask(kind: str | None, style: str | None = "proper", seed: int = 1, **changes: Any) -> FaceMask:
    plain = FaceMask(kind, "white" if kind else None, style if kind else None, "front", None, seed)
    return dataclasses.replace(plain, **changes)


def rendered(face: SyntheticFace, mask: FaceMask, choices: MaskChoices = CHOICES) -> tuple[np.ndarray, np.ndarray]:
    return render_mask(face.image, face.landmarks_68, mask, choices)


def occlusion(ground_truth: np.ndarray, points: np.ndarray) -> float:
    """Share of points (N, 2) that the ground truth covers."""
    x, y = np.clip(np.rint(points).astype(int), 0, len(ground_truth) - 1).reshape(-1, 2).T
    return float((ground_truth[y, x] > 0).mean())


@pytest.mark.parametrize("yaw", [-45.0, 0.0, 30.0])
@pytest.mark.parametrize("kind", MASK_TYPES)
def test_a_proper_mask_occludes_nose_mouth_and_chin_but_not_the_eyes(kind: str, yaw: float) -> None:
    face = face_turned(yaw)
    points = face.landmarks_68
    _, ground_truth = rendered(face, face_mask(kind))
    assert occlusion(ground_truth, points[NOSE_TIP]) == 1
    assert occlusion(ground_truth, points[MOUTH]) == 1
    assert occlusion(ground_truth, points[CHIN] - (0, 2)) == 1
    assert occlusion(ground_truth, points[BROWS]) == 0
    assert occlusion(ground_truth, points[36:48]) <= 0.2, "a niqab's edge may touch a lower lid"


@pytest.mark.parametrize(("style", "kind"), [(style, kind) for style in STYLES for kind in TYPES_OF_STYLE[style]])
def test_each_wearing_style(face: SyntheticFace, style: str, kind: str) -> None:
    image, ground_truth = rendered(face, face_mask(kind, style))
    points, nose = face.landmarks_68, occlusion(ground_truth, face.landmarks_68[NOSE_TIP])
    assert 0.005 < (ground_truth > 0).mean() < 0.75
    assert nose == (1.0 if style == "proper" else 0.0)
    if style == "below_nose":
        assert occlusion(ground_truth, points[[57, 66, 8]]) == 1
    if style in ("chin", "one_ear"):
        assert occlusion(ground_truth, points[60:68]) == 0
    assert occlusion(ground_truth, points[BROWS]) == 0
    assert (image[ground_truth == 0] != face.image[ground_truth == 0]).mean() < 0.2, "shadows and soft edges alone"


def test_masks_of_a_type_differ_in_size(face: SyntheticFace) -> None:
    areas = [(rendered(face, face_mask("n95", seed=seed))[1] > 0).sum() for seed in range(8)]
    assert np.std(areas) / np.mean(areas) > 0.03


def test_some_plain_cloth_masks_are_in_one_piece_around_the_ears_hole() -> None:
    face = face_turned(25.0)

    def holes(texture: str) -> list[float]:
        """Area of the largest hole of each mask, in pixels."""
        found = []
        for seed in range(12):
            _, ground_truth = rendered(face, face_mask("cloth", texture=texture, seed=seed))
            contours, levels = cv2.findContours(ground_truth, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            inner = [cv2.contourArea(one) for one, level in zip(contours, levels[0], strict=True) if level[3] >= 0]
            found.append(max(inner, default=0.0))
        return found

    assert 3 <= sum(area > 20 for area in holes("black")) <= 11
    assert max(holes("camouflage_green")) < 10, "printed textures have straps"


def test_a_mask_on_one_ear_hangs_from_a_strap(face: SyntheticFace, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[float] = []
    lines = Window.lines

    def noted(window: Window, curves: list[np.ndarray], width: float) -> np.ndarray:
        widths.append(width)
        return lines(window, curves, width)

    monkeypatch.setattr(Window, "lines", noted)
    for seed in range(12):
        rendered(face, face_mask("cloth", "one_ear", seed=seed, texture="black"))
    assert len(widths) == 12
    assert min(widths) > 0


def test_the_ground_truth_is_where_the_mask_is_at_least_half_opaque(face: SyntheticFace) -> None:
    # On black and on white the same mask differs by its transparency.
    mask = face_mask("cloth", texture="olive")
    points = face.landmarks_68
    black, white = (np.full_like(face.image, value) for value in (0, 255))
    dark, ground_truth = render_mask(black, points, mask, CHOICES)
    light, same = render_mask(white, points, mask, CHOICES)
    assert np.array_equal(ground_truth, same)
    assert set(np.unique(ground_truth)) == {0, 255}
    assert dark[ground_truth == 0].max() < 200, "light falls on what is laid on alone"
    outside = np.abs(light[ground_truth == 0].astype(int) - 255).max(axis=1)
    inside = light[ground_truth > 0].astype(int).max(axis=1)
    assert (outside < 140).mean() > 0.97
    assert (inside < 250).mean() > 0.97


def test_edges_are_soft_but_neither_bright_nor_dark(face: SyntheticFace) -> None:
    grey = np.full_like(face.image, 120)
    image, ground_truth = render_mask(grey, face.landmarks_68, face_mask("n95", texture="grey"), CHOICES)
    assert image.max() < 190, "MaskTheFace adds mask and photograph at the edge"
    assert image.min() > 30
    assert (ground_truth > 0).any()


def test_without_mask_and_distractor_nothing_changes(face: SyntheticFace) -> None:
    image, ground_truth = rendered(face, face_mask(None))
    assert np.array_equal(image, face.image)
    assert image is not face.image
    assert not ground_truth.any()


@pytest.mark.parametrize("distractor", DISTRACTORS)
def test_distractors_count_as_occlusion_only_if_requested(face: SyntheticFace, distractor: str) -> None:
    bare = face_mask(None, distractor=distractor)
    image, ground_truth = rendered(face, bare)
    assert not ground_truth.any()
    assert (image != face.image).any(axis=2).sum() > 100
    _, counted = rendered(face, bare, MaskChoices(occluders=True))
    assert bool(counted.any()) == (distractor != "spectacles")
    if distractor != "spectacles":
        assert occlusion(counted, face.landmarks_68[60:68]) > 0.3, "at the mouth"
    with_mask, both = rendered(face, face_mask("n95", distractor="spectacles"))
    assert np.array_equal(both, rendered(face, face_mask("n95"))[1])
    assert not np.array_equal(with_mask, rendered(face, face_mask("n95"))[0])


def test_equal_arguments_give_equal_bytes_and_another_seed_another_mask(face: SyntheticFace) -> None:
    for kind in MASK_TYPES:
        first, again, other = (rendered(face, face_mask(kind, seed=seed)) for seed in (1, 1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert not np.array_equal(first[0], other[0])


def test_a_mask_is_as_dark_as_its_photograph(face: SyntheticFace) -> None:
    night = (face.image * 0.3).astype(np.uint8)
    bright, ground_truth = rendered(face, face_mask("surgical"))
    dark, same = render_mask(night, face.landmarks_68, face_mask("surgical"), CHOICES)
    assert np.array_equal(ground_truth, same)
    assert dark[ground_truth > 0].mean() < 0.6 * bright[ground_truth > 0].mean()


@pytest.mark.parametrize("size", [48, 64, 1024])
def test_any_size(size: int) -> None:
    face = face_turned(10.0, size)
    for kind in MASK_TYPES:
        image, ground_truth = rendered(face, face_mask(kind))
        assert image.shape == (size, size, 3)
        assert 0.03 < (ground_truth > 0).mean() < 0.75


def test_landmarks_may_lie_outside_the_image(face: SyntheticFace) -> None:
    for shift in ((-90, 0), (0, 60), (400, 0), (0, -5000)):
        image, ground_truth = render_mask(face.image, face.landmarks_68 + shift, face_mask("scarf"), CHOICES)
        assert image.shape == face.image.shape
        assert ground_truth.any() == (max(np.abs(shift)) < 300)


def test_invalid_images_and_landmarks_are_rejected(face: SyntheticFace) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        render_mask(face.image[..., 0], face.landmarks_68, face_mask("n95"), CHOICES)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        render_mask(face.image / 255, face.landmarks_68, face_mask("n95"), CHOICES)
    with pytest.raises(ValueError, match="landmarks"):
        render_mask(face.image, face.landmarks_68[:5], face_mask("n95"), CHOICES)
    with pytest.raises(ValueError, match="finite"):
        render_mask(face.image, face.landmarks_68 * np.nan, face_mask("n95"), CHOICES)


def test_shares_are_kept(face: SyntheticFace) -> None:
    choices = MaskChoices(bare=0.25, distractors=0.3)
    rng = np.random.default_rng(0)
    masks = [choose_mask(rng, face.landmarks_68, choices) for _ in range(4000)]
    distracted = [mask for mask in masks if mask.distractor]
    assert len(distracted) / 4000 == pytest.approx(0.3, abs=0.03)
    assert all(mask.type is None for mask in distracted if mask.distractor != "spectacles")
    assert any(mask.type for mask in distracted)
    without = sum(mask.type is None for mask in masks if mask.distractor not in ("hand", "object"))
    assert without / sum(mask.distractor not in ("hand", "object") for mask in masks) == pytest.approx(0.25, abs=0.03)
    clothed = [mask for mask in masks if mask.type]
    for style, share in choices.styles.items():
        assert sum(mask.style == style for mask in clothed) / len(clothed) == pytest.approx(share, abs=0.03)
        assert {mask.type for mask in clothed if mask.style == style} == set(TYPES_OF_STYLE[style])
    assert {mask.texture for mask in clothed} == set(TEXTURES)
    medical = [mask for mask in clothed if mask.type in ("surgical", "n95")]
    assert sum(mask.texture in PLAIN for mask in medical) / len(medical) == pytest.approx(0.83, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"types": ("surgical", "fur")}, "types: fur does not exist(.|\n)*surgical, n95"),
        ({"textures": ()}, "textures is empty"),
        ({"styles": {"proper": 1.0, "upside_down": 1.0}}, "styles: upside_down does not exist"),
        ({"styles": {"proper": 0.0}}, "one of them above 0"),
        ({"styles": {"proper": -1.0, "chin": 2.0}}, "at least 0"),
        ({"types": ("niqab",), "styles": {"chin": 1.0}}, "chin does not go with types niqab(.|\n)*surgical"),
        ({"bare": 1.5}, "bare=1.5"),
        ({"distractors": -0.1}, "distractors=-0.1"),
        ({"templates": Path("nowhere")}, "masks.cfg does not exist"),
    ],
)
def test_invalid_choices_are_one_message(settings: dict, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        MaskChoices(**settings)


def test_tilt_is_where_the_nose_points() -> None:
    assert [tilt_of(face_turned(yaw).landmarks_68) for yaw in (-50.0, 0.0, 50.0)] in (
        ["left", "front", "right"],
        ["right", "front", "left"],
    )
    points = face_turned(0.0).landmarks_68.copy()
    points[30] += (-0.5 * (points[30] - points[27])[1], 0)
    assert tilt_of(points) == "left"


def test_there_are_thirty_seamless_textures() -> None:
    assert len(TEXTURES) == 30
    assert len({tile(name).tobytes() for name in TEXTURES}) == 30
    for name in TEXTURES:
        image = tile(name)
        assert image.shape == (256, 256, 3)
        assert 0 <= image.min() <= image.max() <= 255
        for axis in (0, 1):
            across = np.abs(np.take(image, 0, axis) - np.take(image, -1, axis)).mean()
            inside = np.abs(np.diff(image, axis=axis)).mean(axis=(1 - axis, 2)).max()
            assert across <= 1.5 * inside + 6, (name, axis)


def templates(folder: Path, points: str = "10, 10") -> Path:
    (folder / "masks" / "templates").mkdir(parents=True)
    image = np.zeros((80, 100, 4), np.uint8)
    image[5:75, 5:95] = (200, 30, 30, 255)
    Image.fromarray(image).save(folder / "masks" / "templates" / "red.png")
    (folder / "masks" / "masks.cfg").write_text(
        f"[red]\ntemplate: masks/templates/red.png\nmask_a: {points}\nmask_b: 50, 5\nmask_c: 90, 10\n"
        "mask_d: 15, 55\nmask_e: 50, 75\nmask_f: 85, 55\n\n[empty]\ntemplate: masks/templates/none.png\n"
    )
    return folder / "masks"


def test_templates_of_masktheface_have_no_bright_edges(face: SyntheticFace, tmp_path: Path) -> None:
    choices = MaskChoices(templates=templates(tmp_path))
    assert choices.types == ("red",)
    mask = choose_mask(np.random.default_rng(0), face.landmarks_68, choices)
    assert (mask.type, mask.texture, mask.style) == ("red", None, "proper")
    image, ground_truth = rendered(face, mask, choices)
    assert occlusion(ground_truth, face.landmarks_68[MOUTH]) == 1
    assert occlusion(ground_truth, face.landmarks_68[36:48]) == 0
    changed = (image != face.image).any(axis=2)
    assert image[changed & (ground_truth == 0)].max() <= face.image.max(), "blended, not added"
    with pytest.raises(BrokenFileError, match=r"section red(.|\n)*mask_a"):
        MaskChoices(templates=templates(tmp_path / "broken", points="10"))


def test_large_templates_are_averaged_onto_small_faces(face: SyntheticFace, tmp_path: Path) -> None:
    def laid(enlarged: int) -> tuple[np.ndarray, np.ndarray]:
        folder = templates(tmp_path / str(enlarged))
        file = folder / "templates" / "red.png"
        image = Image.open(file).resize((100 * enlarged, 80 * enlarged), Image.Resampling.NEAREST)
        image.save(file)
        template = read_templates(folder)["red"]["front"]
        points = (template.points + 0.5) * enlarged - 0.5
        template = dataclasses.replace(template, points=points.astype(np.float32))
        return laid_on(template, Face.of(face.landmarks_68 / 4), (64, 64))

    (small, alpha), (large, averaged) = laid(1), laid(16)
    assert 0.05 < (alpha > 0.5).mean() < 0.6
    assert np.abs(alpha - averaged).mean() < 0.01
    assert ((averaged > 0.05) & (averaged < 0.95)).sum() > 40, "edges are soft"
    assert np.abs(small - large)[alpha > 0.99].max() < 3


def test_the_templates_of_masktheface_themselves(face_data: Path, face: SyntheticFace) -> None:
    choices = MaskChoices(templates=face_data / "native" / "MaskTheFace" / "masks")
    assert {"surgical", "N95", "KN95", "cloth", "gas"} <= set(choices.types)
    assert "empty" not in choices.types
    for kind in choices.types:
        _, ground_truth = rendered(face, FaceMask(kind, None, "proper", "front", None, 0), choices)
        assert occlusion(ground_truth, face.landmarks_68[MOUTH]) == 1, kind


def test_real_faces(face_data: Path) -> None:
    finder = FaceFinder()
    rng = np.random.default_rng(0)
    found = 0
    for path in sorted((face_data / "native" / "CelebA" / "img_align_celeba").iterdir()):
        image = np.asarray(Image.open(path))
        for one in finder(image)[:1]:
            mask = choose_mask(rng, one.landmarks, MaskChoices(styles={"proper": 1.0}))
            drawn_on, ground_truth = render_mask(image, one.landmarks, mask, CHOICES)
            assert drawn_on.shape == image.shape
            assert occlusion(ground_truth, one.landmarks[MOUTH]) == 1
            assert occlusion(ground_truth, one.landmarks[BROWS]) == 0
            found += 1
    assert found >= 28
