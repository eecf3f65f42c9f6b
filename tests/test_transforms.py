"""One warp for image and label, pure in (seed, epoch, position), with left and right exchanged in mirror images."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from datamodules.labels import IGNORE, LAPA
from datamodules.layouts import open_layout
from datamodules.reading import read_image, read_label
from datamodules.transforms import MEAN, STD, A, Augmentation, FaceTransform, affine_matrix, denormalize, normalize

MOVES = Augmentation(rotation=30, scale=(0.75, 1.25), flip=0.5, color=0.5)


def noise_image(height: int = 90, width: int = 70) -> np.ndarray:
    smooth = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_window_fills_the_output() -> None:
    matrix = affine_matrix((100, 200), 50, 0, 1, False, window=(0.25, 0.2, 0.75, 0.7))
    edges = [matrix @ (x - 0.5, y - 0.5, 1) + 0.5 for x, y in ((50, 20), (150, 70))]  # centres of pixels, and edges
    assert np.allclose(edges, [(0, 0), (50, 50)])


@pytest.mark.parametrize("source", [(64, 64), (128, 128), (90, 70), (33, 47)])
def test_still_warp_is_the_resize_that_interpolate_undoes(source: tuple[int, int]) -> None:
    image = noise_image(*source)
    warped = cv2.warpAffine(image, affine_matrix(source, 64, 0, 1, False), (64, 64), borderMode=cv2.BORDER_REPLICATE)
    resized = F.interpolate(torch.from_numpy(image).permute(2, 0, 1)[None].float(), (64, 64), mode="bilinear")
    assert np.abs(warped.transpose(2, 0, 1) - resized[0].numpy()).max() < 3  # cv2 interpolates in steps of 1/32 px


def test_turns_about_the_centre_counter_clockwise() -> None:
    matrix = affine_matrix((100, 100), 100, 90, 1, False)
    assert np.allclose(matrix @ (49.5, 49.5, 1), (49.5, 49.5))
    assert np.allclose(matrix @ (99, 49.5, 1), (49.5, 0)), "the right side turns to the top"


def test_mirror_exchanges_columns() -> None:
    matrix = affine_matrix((10, 10), 10, 0, 1, True)
    assert np.allclose(matrix @ (0, 4, 1), (9, 4))


def test_zoom_enlarges() -> None:
    matrix = affine_matrix((100, 100), 100, 0, 1.25, False)
    assert np.allclose(matrix[:, :2], 1.25 * np.eye(2))


def test_images_are_warped_and_normalised_as_the_libraries_do() -> None:
    """By roads of our own, which are faster, to the same values bit for bit."""
    image = noise_image(203, 301)
    transform = FaceTransform(96, Augmentation(rotation=30, scale=(0.75, 1.25), flip=0.5), LAPA, 0)
    factors = set()
    for position in range(8):
        moved, _ = transform(image, None, 0, position)
        move = {name: transform.warp.params[name] for name in ("angle", "zoom", "mirror")}
        down, across = (int(side / (96 * move["zoom"])) for side in (203, 301))  # as many pixels would become one
        seen = np.asarray(Image.fromarray(image).reduce((across, down)))
        factors.add((down, across))
        matrix = affine_matrix((203 / down, 301 / across), 96, **move)
        border = [round(255 * mean) for mean in MEAN]
        warped = cv2.warpAffine(seen, matrix, (96, 96), borderMode=cv2.BORDER_CONSTANT, borderValue=border)
        assert np.array_equal(moved, A.Normalize(MEAN, STD)(image=warped)["image"].transpose(2, 0, 1))
        assert moved.flags.c_contiguous
    assert {down for down, _ in factors} == {1, 2}
    assert {across for _, across in factors} == {2, 3, 4} or {across for _, across in factors} == {2, 3}


def test_every_byte_is_normalised() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = (image / 255 - MEAN) / STD
    assert np.abs(normalize(image) - expected.transpose(2, 0, 1)).max() < 1e-6
    assert np.array_equal(denormalize(normalize(image)), image)


def test_pure_in_seed_epoch_and_position() -> None:
    image = noise_image()
    label = (image[..., 0] // 24).astype(np.uint8)
    transform, again = (FaceTransform(48, MOVES, LAPA, seed=5) for _ in range(2))
    transform(image, label, 9, 9)  # whatever came before
    for epoch, position in [(0, 0), (0, 1), (1, 0), (3, 7)]:
        first, second = transform(image, label, epoch, position), again(image, label, epoch, position)
        assert np.array_equal(first[0], second[0])
        assert first[1] is not None
        assert second[1] is not None
        assert np.array_equal(first[1], second[1])
    different = [transform(image, label, *place)[0] for place in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    different.append(FaceTransform(48, MOVES, LAPA, seed=6)(image, label, 0, 0)[0])
    for index, one in enumerate(different):
        for other in different[index + 1 :]:
            assert np.abs(one - other).max() > 0.05


@pytest.mark.parametrize(
    "move", [Augmentation(30, (1, 1), 0, 0), Augmentation(0, (0.5, 1.5), 0, 0), Augmentation(0, (1, 1), 0, 1)]
)
def test_each_random_number_depends_on_seed_epoch_and_position(move: Augmentation) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    outputs = [
        np.stack([FaceTransform(48, move, LAPA, seed)(image, None, epoch, start + place)[0] for place in range(6)])
        for seed, epoch, start in ((5, 0, 0), (6, 0, 0), (5, 1, 0), (5, 0, 6))
    ]
    assert all(not np.array_equal(outputs[0], other) for other in outputs[1:])


def test_both_random_streams_depend_on_seed_epoch_and_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Geometry and colour draw from Python's generator, grain from NumPy's."""
    image, drawn = np.zeros((40, 40, 3), np.uint8), []
    for seed, epoch, position in ((5, 0, 0), (6, 0, 0), (5, 1, 0), (5, 0, 1)):
        transform = FaceTransform(48, MOVES, LAPA, seed)

        def record(first: np.random.Generator, second: random.Random) -> None:
            drawn.append((first.random(), second.random()))

        monkeypatch.setattr(transform.compose, "set_random_state", record)
        transform(image, None, epoch, position)
    assert [len(set(stream)) for stream in zip(*drawn, strict=True)] == [4, 4]


def test_image_and_label_move_together() -> None:
    """An image whose brightness is its label map: after the warp, brightness still equals the label."""
    label = np.kron(np.array([[1, 6], [10, 7]], dtype=np.uint8), np.ones((40, 40), dtype=np.uint8))
    image = np.repeat(label[..., None] * 20, 3, axis=2)
    move = Augmentation(rotation=30, scale=(0.75, 1.25), flip=0.5)
    for position in range(12):
        moved, moved_label = FaceTransform(64, move, LAPA, 0)(image, label, 0, position)
        assert moved_label is not None
        brightness = denormalize(moved)[..., 0] / 20
        inside = moved_label != IGNORE
        agree = np.abs(brightness - moved_label)[inside] < 0.6
        assert agree.mean() > 0.93  # the rest are mixed pixels on the seams


def test_a_close_crop_holds_the_face_in_image_and_label() -> None:
    image, label, face = noise_image(200, 160), np.zeros((200, 160), np.uint8), (0.3, 0.4, 0.7, 0.8)
    label[80:160, 48:112] = 1  # the face
    close = FaceTransform(64, Augmentation(crop=1.0, scale=(0.5, 3.0), shift=0.5), LAPA, 0)
    windows = []
    for position in range(40):
        moved, seen = close(image, label, 0, position, face=face)
        assert seen is not None
        move = close.warp.params
        assert (move["zoom"], move["shift"]) == (1.0, (0, 0)), "margins are what zooms and moves"
        window = np.array(move["window"])
        windows.append((window - face) / (-0.4, -0.4, 0.4, 0.4))  # margins, of the face's sides
        left, top, right, bottom = np.round(window * (160, 200, 160, 200)).astype(int)
        if min(left, top) >= 0 and right <= 160 and bottom <= 200:
            share = (label[top:bottom, left:right] == 1).mean()
            assert abs((seen == 1).mean() - share) < 0.03, "the label is cut as the image is"
            resized = cv2.resize(image[top:bottom, left:right], (64, 64), interpolation=cv2.INTER_LINEAR)
            assert np.abs(denormalize(moved).astype(int) - resized).mean() < 6
    margins = np.array(windows)
    assert margins.min() >= -0.05 - 1e-9
    assert margins.max() <= 0.4 + 1e-9
    assert (margins.max(0) - margins.min(0) > 0.3).all(), "each side has a margin of its own"


def test_a_face_without_a_box_is_augmented_without_crops() -> None:
    image = noise_image(120, 100)
    move = Augmentation(rotation=20, scale=(0.8, 1.4), flip=0.5, shift=0.1)
    cropped, plain = (FaceTransform(64, replace(move, crop=crop), LAPA, 0) for crop in (1.0, 0.0))
    for position in range(4):
        assert np.array_equal(cropped(image, None, 0, position)[0], plain(image, None, 0, position)[0])
        assert not np.array_equal(
            cropped(image, None, 0, position, face=(0.2, 0.2, 0.5, 0.6))[0], plain(image, None, 0, position)[0]
        )


def test_angles_and_zooms_cover_the_papers_ranges_and_no_more() -> None:
    transform = FaceTransform(32, Augmentation(rotation=15, scale=(0.8, 1.2)), LAPA, 0)
    warp = transform.compose.transforms[0]
    angles, zooms = [], []
    for position in range(400):
        transform(noise_image(32, 32), None, 0, position)
        angles.append(warp.params["angle"] if hasattr(warp, "params") and warp.params else np.nan)
        zooms.append(warp.params["zoom"] if hasattr(warp, "params") and warp.params else np.nan)
    assert not np.isnan(angles).any()
    assert -15 <= min(angles) < -14
    assert 14 < max(angles) <= 15
    assert 0.8 <= min(zooms) < 0.81
    assert 1.19 < max(zooms) <= 1.2


def centroid(label: np.ndarray, ids: int) -> float:
    return float(np.nonzero(label == ids)[1].mean())


def test_mirror_images_of_real_faces_keep_left_left(face_data: Path) -> None:
    """In both orientations the class called left lies on the viewer's left (LaPa's convention)."""
    layout = open_layout("lapa", face_data / "native" / "LaPa")
    checked = 0
    for sample in layout.samples("train"):
        read = read_image(sample.image)
        image = read.pixels
        assert sample.label is not None
        label = read_label(sample.label, LAPA)
        if not all((label == part).any() for part in (2, 3, 4, 5)):
            continue
        upright = FaceTransform(128, Augmentation(flip=0.0), LAPA, 0)(image, label, 0, 0)
        mirrored = FaceTransform(128, Augmentation(flip=1.0), LAPA, 0)(image, label, 0, 0)
        assert np.abs(upright[0][..., ::-1] - mirrored[0]).max() < 0.15, "the image itself is mirrored"
        assert upright[1] is not None
        assert mirrored[1] is not None
        for left, right in LAPA.mirrored:
            gaps = [centroid(moved, right) - centroid(moved, left) for moved in (upright[1], mirrored[1])]
            assert abs(gaps[0] - gaps[1]) < 1, "what lies left of what stays so"
            if abs(gaps[0]) > 0.1 * 128:  # in a profile both eyes lie on one side, and their order is not defined
                assert min(gaps) > 0
                checked += 1
        assert (LAPA.flip_table[upright[1][:, ::-1]] == mirrored[1]).mean() > 0.999
    assert checked >= 8


def test_flip_table_only_exchanges_pairs() -> None:
    table = LAPA.flip_table
    assert [int(table[i]) for i in range(11)] == [0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10]
    assert table[IGNORE] == IGNORE
    assert np.array_equal(table[table], np.arange(256))


def test_a_degraded_image_stays_where_its_label_is() -> None:
    rows, columns = np.mgrid[:64, :64] - 31.5
    blob = (255 * np.exp(-(rows**2 + columns**2) / 128))[..., None].repeat(3, 2).astype(np.uint8)
    transform = FaceTransform(64, Augmentation(degrade=1.0), LAPA, seed=0)
    centres = []
    for position in range(200):
        seen = denormalize(transform(blob, None, 0, position)[0]).mean(axis=2)
        weights = np.where(seen > 80, seen, 0)
        centres.append([(weights * place).sum() / weights.sum() for place in (rows, columns)])
    assert np.abs(np.mean(centres, axis=0)).max() < 0.05
    assert np.abs(centres).max() < 1
