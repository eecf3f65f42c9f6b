"""Thirty textures as seamless tiles: plain ones, stripes, checks, flowers, camouflage, knit, prints."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import cv2
import numpy as np

SIDE = 256
"""Width and height of a tile, in pixels; one tile is as wide as half a face."""

Colour = tuple[int, int, int]

PLAIN: dict[str, Colour] = {
    "white": (238, 240, 240),
    "light_blue": (150, 190, 216),
    "mint": (162, 208, 190),
    "black": (30, 30, 33),
    "navy": (34, 44, 78),
    "grey": (128, 130, 134),
    "beige": (208, 188, 160),
    "pink": (228, 168, 180),
    "red": (160, 32, 40),
    "olive": (92, 98, 62),
}


@cache
def tile(name: str, side: int = SIDE) -> np.ndarray:
    """A texture, float32 (side, side, 3), RGB in 0..255; cached and read-only.

    Args:
        name: of :data:`TEXTURES`.
        side: a power of two up to :data:`SIDE`; smaller tiles are averaged.

    Raises:
        KeyError: for an unknown name.
    """
    if side < SIDE:
        image = cv2.resize(tile(name), (side, side), interpolation=cv2.INTER_AREA)
    else:
        rng = np.random.default_rng([len(name), *name.encode()])  # one random stream per texture
        image = TEXTURES_BY_NAME[name](rng).astype(np.float32)
    image.flags.writeable = False
    return image


def _plain(colour: Colour, _: object = None) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), colour, np.float32)


def _stripes(*bands: tuple[Colour, int]) -> np.ndarray:
    """Vertical bands of colours and widths, repeated."""
    row = np.concatenate([np.full((width, 3), colour, np.float32) for colour, width in bands])
    return np.tile(np.resize(row, (SIDE, 3))[None], (SIDE, 1, 1))


def _checks(base: Colour, colour: Colour, width: int) -> np.ndarray:
    """Gingham: bands both ways, darkest where they cross."""
    band = (np.arange(SIDE) // width % 2 == 0).astype(np.float32)
    share = (band[:, None] + band)[..., None] / 2
    return np.array(base, np.float32) * (1 - share) + np.array(colour, np.float32) * share


def _tartan(base: Colour, second: Colour, line: Colour) -> np.ndarray:
    sett = np.tile(np.array(base, np.float32), (SIDE, 1))
    for start, width, colour in ((20, 44, second), (36, 4, line), (140, 18, second), (176, 3, line), (210, 3, line)):
        sett[start : start + width] = colour
    return (sett[:, None] + sett[None]) / 2


def _scattered(
    rng: np.random.Generator, base: Colour, count: int, paint: Callable[[np.ndarray, tuple[int, int]], None]
) -> np.ndarray:
    """A motif painted at `count` places with gaps; it continues across the tile's edges."""
    wide = np.full((3 * SIDE, 3 * SIDE, 3), base, np.uint8)
    places: list[np.ndarray] = []
    for _ in range(40 * count):
        place = rng.integers(0, SIDE, 2)
        gaps = (np.abs((place - other + SIDE // 2) % SIDE - SIDE // 2) for other in places)
        if len(places) < count and all(np.hypot(*gap) > 0.62 * SIDE / count**0.5 for gap in gaps):
            places.append(place)
    for place in places:
        kept = rng.bit_generator.state
        for right in (0, SIDE, 2 * SIDE):
            for down in (0, SIDE, 2 * SIDE):
                rng.bit_generator.state = kept  # the same flower in every copy
                paint(wide, (int(place[0]) + right, int(place[1]) + down))
    return wide[SIDE : 2 * SIDE, SIDE : 2 * SIDE]


def _floral(base: Colour, petals: tuple[Colour, ...], leaf: Colour, rng: np.random.Generator) -> np.ndarray:
    def flower(image: np.ndarray, place: tuple[int, int]) -> None:
        size, turn = int(rng.integers(11, 19)), rng.uniform(0, 72)
        colour = petals[rng.integers(len(petals))]

        def ellipse(far: float, angle: float, axes: tuple[int, int], colour: Colour) -> None:
            middle = np.add(place, far * size * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]))
            _ellipse(image, middle, axes, angle, colour)

        for angle in (turn + 20, turn + 190):
            ellipse(1.7, angle, (size, size // 3), leaf)
        for angle in turn + np.arange(0, 360, 72):
            ellipse(0.75, angle, (int(0.75 * size), int(0.5 * size)), colour)
        ellipse(0, 0, (size // 3, size // 3), (236, 196, 84))

    return _scattered(rng, base, 14, flower)


def _ellipse(image: np.ndarray, middle: np.ndarray, axes: tuple[int, int], angle: float, colour: Colour) -> None:
    cv2.ellipse(image, (int(middle[0]), int(middle[1])), axes, angle, 0, 360, colour, -1, cv2.LINE_AA)


def _blots(rng: np.random.Generator, colours: tuple[Colour, ...], blur: float) -> np.ndarray:
    """Camouflage: each colour covers the area where its own smooth noise is high."""
    image = _plain(colours[0])
    for colour in colours[1:]:
        field: np.ndarray = rng.standard_normal((3 * SIDE, 3 * SIDE)).astype(np.float32)
        field[:SIDE] = field[SIDE : 2 * SIDE] = field[2 * SIDE :]
        field[:, :SIDE] = field[:, SIDE : 2 * SIDE] = field[:, 2 * SIDE :]
        field = cv2.GaussianBlur(field, (0, 0), blur)[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
        image[field > 0.45 * field.std()] = colour
    return image


def _knit(colour: Colour) -> np.ndarray:
    """Rows of V-shaped stitches."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    column = np.abs((x % 16) - 8) / 8  # 0 in the middle of a stitch, 1 at its edges
    stitch = np.cos(2 * np.pi * (y + 7 * column) / 16)
    light = 0.86 + 0.14 * stitch - 0.22 * (column > 0.86) - 0.12 * (column < 0.12)
    return light[..., None] * np.array(colour, np.float32)


def _dots() -> np.ndarray:
    image = np.full((SIDE, SIDE, 3), (44, 62, 104), np.uint8)
    for row, y in enumerate(range(16, SIDE, 32)):
        for x in range(16 + 16 * (row % 2), SIDE + 16, 32):
            for copy in (x, x - SIDE):
                cv2.circle(image, (copy, y), 7, (238, 236, 230), -1, cv2.LINE_AA)
    return image


def _hearts(rng: np.random.Generator) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 32)
    shape = np.stack(
        [16 * np.sin(t) ** 3, -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)], axis=-1
    )

    def heart(image: np.ndarray, place: tuple[int, int]) -> None:
        cv2.fillPoly(image, [(shape + place).astype(np.int32)], (206, 44, 70), cv2.LINE_AA)

    return _scattered(rng, (246, 238, 236), 18, heart)


def _leopard(rng: np.random.Generator) -> np.ndarray:
    def spot(image: np.ndarray, place: tuple[int, int]) -> None:
        axes, turn = (int(rng.integers(8, 14)), int(rng.integers(6, 11))), rng.uniform(0, 180)
        _ellipse(image, np.asarray(place), axes, turn, (168, 112, 60))
        gap = rng.uniform(0, 360)
        cv2.ellipse(image, place, axes, turn, gap, gap + 250, (52, 36, 28), 5, cv2.LINE_AA)

    return _scattered(rng, (208, 164, 108), 40, spot)


def _tie_dye() -> np.ndarray:
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2) / SIDE
    far = np.hypot(x, y)
    wave = far * 5 + 0.16 * np.sin(5 * np.arctan2(y, x)) * np.minimum(far * 8, 1)
    palette = np.array([(70, 60, 160), (64, 158, 190), (222, 208, 90), (226, 106, 90), (176, 66, 140)], np.float32)
    place = wave % len(palette)
    low = place.astype(int)
    share = (place - low)[..., None]
    inner = palette[low] * (1 - share) + palette[(low + 1) % len(palette)] * share
    rim = np.clip((np.maximum(np.abs(x), np.abs(y)) - 0.4) / 0.1, 0, 1)[..., None]  # one colour at the edges
    return inner * (1 - rim) + palette[2] * rim


def _denim(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    twill = ((x + 2 * y) % 8 < 3) * 14.0
    threads = rng.normal(0, 9, SIDE)[None] + rng.normal(0, 5, SIDE)[:, None]
    return np.array((66, 88, 126), np.float32) + (twill + threads)[..., None]


TEXTURES_BY_NAME: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    **{name: partial(_plain, colour) for name, colour in PLAIN.items()},
    "stripes_navy": lambda _: _stripes(((236, 236, 232), 16), ((38, 50, 92), 16)),
    "stripes_red": lambda _: _stripes(((240, 236, 230), 24), ((176, 40, 46), 8)),
    "stripes_pastel": lambda _: _stripes(((244, 214, 206), 16), ((206, 226, 214), 16), ((214, 214, 238), 32)),
    "checks_red": lambda _: _checks((244, 240, 236), (186, 30, 40), 16),
    "checks_blue": lambda _: _checks((242, 242, 240), (62, 96, 160), 16),
    "tartan_green": lambda _: _tartan((28, 70, 52), (24, 36, 70), (226, 200, 90)),
    "tartan_red": lambda _: _tartan((162, 28, 34), (30, 48, 46), (236, 232, 224)),
    "floral_pink": partial(_floral, (246, 226, 226), ((222, 104, 130), (240, 160, 160)), (118, 154, 104)),
    "floral_blue": partial(_floral, (226, 234, 242), ((70, 104, 176), (130, 160, 212)), (104, 146, 132)),
    "floral_dark": partial(_floral, (28, 30, 44), ((214, 76, 84), (236, 214, 200), (222, 150, 70)), (74, 112, 76)),
    "camouflage_green": lambda rng: _blots(rng, ((106, 112, 70), (62, 72, 44), (86, 66, 46), (30, 32, 28)), 11),
    "camouflage_desert": lambda rng: _blots(rng, ((206, 184, 142), (168, 138, 98), (122, 96, 66)), 13),
    "knit_grey": lambda _: _knit((132, 134, 140)),
    "knit_cream": lambda _: _knit((222, 210, 188)),
    "knit_burgundy": lambda _: _knit((112, 36, 48)),
    "dots": lambda _: _dots(),
    "hearts": _hearts,
    "leopard": _leopard,
    "tie_dye": lambda _: _tie_dye(),
    "denim": _denim,
}

TEXTURES = tuple(TEXTURES_BY_NAME)
