"""The search for faces: levels, tiles, suppression, small faces, and the boxes that come of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from datamodules.finding import search as searching
from datamodules.finding.finder import BoxFinder, box_finder
from datamodules.finding.libfacedetection import missing
from datamodules.finding.search import OVERLAP, SEARCHED, TILE, level_sizes, search, suppressed, tiles
from datamodules.landmarks import FaceFinder, crop_box, square_around
from synthesis.faces import SyntheticFace, render_random_face
from tests.conftest import skip


@pytest.fixture(scope="module")
def finder() -> BoxFinder:
    if lacking := missing():
        skip(f"libfacedetection: {lacking}")
    return box_finder("libfacedetection")


@pytest.fixture(scope="module")
def faces() -> list[SyntheticFace]:
    return [render_random_face(np.random.default_rng([8, place]), 160) for place in range(8)]


class Squares:
    """Detects the bounding box of white pixels, surely."""

    name = "libfacedetection"

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.sizes.append(image.shape[:2])
        rows, columns = np.nonzero(image[..., 0] > 127)
        if not len(rows):
            return np.zeros((0, 5))
        return np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9]], float)


def test_the_levels_double_from_an_overview_to_the_smallest_faces() -> None:
    assert level_sizes(480, 640, 24)[-1] == (2560, 1920)
    assert level_sizes(480, 640, 96)[-1] == level_sizes(480, 640, None)[0] == (640, 480)
    assert level_sizes(96, 64, 24) == [(64, 96), (128, 192), (256, 384)]
    assert level_sizes(3000, 4000, None) == [(640, 480)]
    assert level_sizes(1, 10_000, None) == [(640, 1)]
    for height, width in ((480, 640), (3000, 4000), (5000, 10_000), (20, 10_000), (7000, 7000)):
        sizes = level_sizes(height, width, 24)
        assert max(sizes[0]) == 256
        assert all(across * down <= 1.001 * SEARCHED for across, down in sizes)
        growth = [later[0] / earlier[0] for earlier, later in pairwise(sizes)]
        assert all(1 < factor < 2.2 for factor in growth)


@pytest.mark.parametrize("shape", [(10, 10), (TILE, TILE), (TILE + 1, 50), (2500, 3100)])
def test_tiles_cover_a_level_and_overlap(shape: tuple[int, int]) -> None:
    level = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(*shape, 1)
    seen = np.zeros(shape, int)
    starts: list[set[int]] = [set(), set()]
    for left, top, tile in tiles(level):
        assert max(tile.shape) <= TILE
        assert tile[0, 0, 0] == level[top, left, 0]
        seen[top : top + tile.shape[0], left : left + tile.shape[1]] += 1
        starts[0].add(top)
        starts[1].add(left)
    assert seen.min() == 1
    for places in starts:
        assert all(low + TILE - high >= OVERLAP for low, high in zip(sorted(places), sorted(places)[1:], strict=False))


def test_a_face_on_the_edge_of_a_tile_is_found_once_and_complete() -> None:
    image = np.zeros((700, 1800, 3), np.uint8)
    image[300:400, 900:1000] = 255  # the first tile ends at 960
    detector = Squares()
    rows = search(image, detector, smallest=96)
    np.testing.assert_allclose(rows[:, :4], [[900, 300, 1000, 400]], atol=2)
    assert max(max(size) for size in detector.sizes) <= TILE
    cut = np.array([[0, 5, 50, 60, 0.9], [900, 5, 960, 60, 0.9], [5, 0, 60, 50, 0.9]], float)
    assert searching._is_cut(cut, (700, 960), 0, 0, (700, 1800)).tolist() == [False, True, False]
    assert searching._is_cut(cut, (700, 960), 840, 0, (700, 1800)).tolist() == [True, False, False]


def test_of_the_boxes_of_one_face_the_most_confident_stays() -> None:
    rows = np.array(
        [
            [10, 10, 110, 110, 0.7],  # one face
            [14, 12, 118, 112, 0.9],  # the same, at another scale
            [40, 60, 90, 110, 0.8],  # a part of it
            [100, 10, 200, 110, 0.6],  # its neighbour
            [300, 10, 300, 90, 0.99],  # of no area
        ]
    )
    assert suppressed(rows)[:, 4].tolist() == [0.9, 0.6]
    assert suppressed(rows[::-1])[:, 4].tolist() == [0.9, 0.6]
    assert suppressed(np.zeros((0, 5))).shape == (0, 5)


def test_a_portrait_is_not_searched_for_smaller_faces() -> None:
    portrait, group = np.zeros((400, 300, 3), np.uint8), np.zeros((400, 300, 3), np.uint8)
    portrait[50:350, 50:250] = group[50:110, 50:90] = 255
    calls = []
    for image in (portrait, group):
        detector = Squares()
        assert len(search(image, detector)) == 1
        calls.append(len(detector.sizes))
    assert calls[0] == 1 < calls[1]


def test_faces_of_24_pixels_are_found_in_a_large_image(finder: BoxFinder, faces: list[SyntheticFace]) -> None:
    canvas = np.random.default_rng(0).normal(120, 6, (330, 2000, 3)).clip(0, 255).astype(np.uint8)
    expected = []
    for place, face in enumerate(faces):
        left, top = 20 + 155 * place, 30 + 200 * (place % 2)
        width = float(np.ptp(face.landmarks_68[:, 0]))
        size = round(160 * 24 / width)
        canvas[top : top + size, left : left + size] = np.asarray(Image.fromarray(face.image).resize((size, size)))
        expected.append(face.landmarks_68.mean(axis=0) * 24 / width + (left, top))
    found = BoxFinder(finder.detector, 48)(canvas)
    middles = [np.add(one.corners[:2], one.corners[2:]) / 2 for one in found]
    assert sum(min(np.hypot(*(middle - point)) for middle in middles) < 8 for point in expected) >= 7
    assert len(found) <= 9
    overview = BoxFinder(finder.detector)
    overview.smallest = None
    assert len(overview(canvas)) < 4, "without tiles, at a third of the size"


def test_the_crop_of_a_box_is_that_of_the_landmarks(finder: BoxFinder, faces: list[SyntheticFace]) -> None:
    overlaps = []
    for face in faces:
        (found,) = finder(face.image)
        assert found.found == "libfacedetection"
        one, other = square_around(found.corners, 0.25), crop_box(face.landmarks_68, 0.25)
        low, high = np.maximum(one[:2], other[:2]), np.minimum(np.add(one[:2], one[2]), np.add(other[:2], other[2]))
        shared = float(np.prod(high - low))
        overlaps.append(shared / (one[2] ** 2 + other[2] ** 2 - shared))
    assert np.mean(overlaps) > 0.8
    assert min(overlaps) > 0.6


def test_dlibs_landmarks_are_right_in_a_converted_box(finder: BoxFinder, faces: list[SyntheticFace]) -> None:
    marks = FaceFinder(fallbacks=(), network=("libfacedetection", finder.hog_boxes))
    marks.detect = lambda *_: []  # what HOG finds in a tight crop
    away = []
    for face in faces:
        (found,) = marks(face.image)
        assert found.found == "libfacedetection"
        eyes = np.hypot(*(face.landmarks_68[36:42].mean(axis=0) - face.landmarks_68[42:48].mean(axis=0)))
        away.append(np.hypot(*(found.landmarks - face.landmarks_68).T).mean() / eyes)
    assert np.median(away) < 0.15


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (19, 300), (20, 9000)])
def test_no_face(finder: BoxFinder, shape: tuple[int, int]) -> None:
    assert BoxFinder(finder.detector, 96)(np.full((*shape, 3), 128, np.uint8)) == []


def test_the_largest_face_comes_first(finder: BoxFinder, faces: list[SyntheticFace]) -> None:
    canvas = np.full((180, 420, 3), 90, np.uint8)
    canvas[10:110, 10:110] = np.asarray(Image.fromarray(faces[0].image).resize((100, 100)))
    canvas[10:170, 200:360] = faces[0].image
    found = BoxFinder(finder.detector, 96)(canvas)
    assert [one.corners[0] > 150 for one in found] == [True, False]
