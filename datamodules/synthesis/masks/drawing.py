"""Lays a mask, or what is no mask, on a photograph: layers from back to front, each with its own opacity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from datamodules.synthesis.masks.choices import FaceMask, MaskChoices
from datamodules.synthesis.masks.cloth import FOLDS, SIDE, relief
from datamodules.synthesis.masks.shapes import COLUMNS, CUTS, ROWS, Face, hanging_grid, laid_grid
from datamodules.synthesis.masks.templates import Template, laid_on, read_templates
from datamodules.synthesis.masks.textures import SIDE as TILE
from datamodules.synthesis.masks.textures import tile
from datamodules.synthesis.masks.things import Thing, things_of

STRAPS = {"ears": 0.007, "head": 0.012, "none": 0.0}
"""Width of straps, in widths of the face."""

ELASTIC = np.array([(226, 228, 228), (40, 40, 44)], np.float32)
RUBBER = np.array([(58, 62, 70), (96, 100, 106), (150, 156, 158)], np.float32)


@dataclass(frozen=True)
class Photograph:
    """What a picture tells of its light and its camera.

    Args:
        gain: float32 (3,): exposure and, in part, the colour of the light.
        slope: by how much the light grows across a face's width, to the right and downwards.
        middle: (2,), where the slope is 0, in pixels.
        grain: standard deviation of its noise, of 255.
    """

    gain: np.ndarray
    slope: np.ndarray
    middle: np.ndarray
    grain: float

    @staticmethod
    def of(image: np.ndarray, face: Face) -> Photograph:
        """Measured on the picture itself, (H, W, 3) uint8."""
        step = max(1, min(image.shape[:2]) // 32)
        small = image[::step, ::step].reshape(-1, 3).astype(np.float32)
        bright = small.mean(axis=1)
        exposure = np.clip(float(np.percentile(bright, 94)) / 215, 0.25, 1.05)
        lit = small[bright >= np.median(bright)].mean(axis=0) + 1
        cast = (lit / lit.mean()) ** 0.35  # in part: most of what is bright is skin
        points = face.points[[*range(1, 16), 27, 29, 31, 35, 41, 46]]
        around = points + 0.12 * (face.points[30] - points)  # off the contour, on skin
        reach = max(1, round(0.06 * face.width))
        low = np.floor(around.min(axis=0)).astype(int) - reach
        high = np.ceil(around.max(axis=0)).astype(int) + reach + 1
        low, high = np.maximum(low, 0), np.minimum(high, image.shape[1::-1])
        if (high - low < 3).any():
            return Photograph(exposure * cast, np.zeros(2), around.mean(axis=0), 0.0)
        grey = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
        smooth = cv2.blur(grey, (2 * reach + 1, 2 * reach + 1))
        x, y = np.clip(np.rint(around - low).astype(int), 0, high - low - 1).T
        level = smooth[y, x].astype(np.float64)
        middle = around.mean(axis=0)
        rows = np.column_stack([(around - middle) / face.width, np.ones(len(around))])
        slope = np.linalg.lstsq(rows, level, rcond=None)[0]
        residue = cv2.absdiff(grey, cv2.blur(grey, (3, 3)))
        return Photograph(exposure * cast, slope[:2] / max(slope[2], 8.0), middle, float(np.clip(residue.mean(), 0, 5)))


def draw_mask(
    image: np.ndarray, landmarks: np.ndarray, mask: FaceMask, choices: MaskChoices
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what a face wears on its photograph.

    The mask's colours are blended by its opacity; the truth is where the opacity of all that hides the face is 0.5 or
    more: cloth, valves and the straps as far as they are seen.

    Args:
        image: (H, W, 3) uint8 RGB; stays as it is.
        landmarks: (68, 2), in pixels, in the order of iBUG and dlib; some may lie outside the picture.
        mask: what is worn, see :func:`~datamodules.synthesis.masks.choices.choose_mask`.
        choices: where templates are, and whether hands and objects hide the face.

    Returns:
        The new picture (H, W, 3) uint8, and the truth (H, W) uint8, 0 or 255. Equal arguments give equal bytes.

    Raises:
        ValueError: for arrays of another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture of shape {image.shape} and type {image.dtype}: has to be (H, W, 3) uint8")
    if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all():
        raise ValueError(f"landmarks of shape {landmarks.shape}: have to be (68, 2), all of them finite")
    picture = image.copy()
    truth = np.zeros(image.shape[:2], np.uint8)
    if mask.type is None and mask.distractor is None:
        return picture, truth
    face, rng = Face.of(landmarks), np.random.default_rng(mask.seed)
    photograph = Photograph.of(image, face)
    if mask.type is not None and choices.templates is not None:
        _lay_template(picture, truth, landmarks, mask, read_templates(choices.templates)[mask.type], photograph)
    elif mask.type is not None:
        _lay_cloth(picture, truth, face, mask, photograph, rng)
    if mask.distractor is not None:
        for thing in things_of(mask.distractor, face, image, rng):
            _lay_thing(picture, truth, thing, photograph, hides=choices.occluders and mask.distractor != "spectacles")
    return picture, truth


def _lay_template(
    picture: np.ndarray,
    truth: np.ndarray,
    landmarks: np.ndarray,
    mask: FaceMask,
    tilts: dict[str, Template],
    photograph: Photograph,
) -> None:
    colours, alpha = laid_on(tilts.get(mask.tilt, tilts["front"]), landmarks, picture.shape[:2])
    lit = np.clip(colours * photograph.gain, 0, 255)
    picture[:] = cv2.blendLinear(picture.astype(np.float32), lit.astype(np.float32), 1 - alpha, alpha).round()
    truth[alpha >= 0.5] = 255


def _lay_cloth(
    picture: np.ndarray, truth: np.ndarray, face: Face, mask: FaceMask, photograph: Photograph, rng: np.random.Generator
) -> None:
    assert mask.type is not None  # noqa: S101 (for the type checker)
    assert mask.style is not None  # noqa: S101
    side = 1 if (face.yaw < 0) ^ (abs(face.yaw) < 0.15 and rng.random() < 0.5) else -1  # the one that is seen better
    cut = CUTS[mask.type]
    if mask.style == "one_ear":
        grid = hanging_grid(face, side, float(rng.uniform(-0.15, 0.25) * side))
        corners = [(grid[0, 1], face.ear(side)), (grid[0, -2], face.ear(side))]
    else:
        grid = laid_grid(face, cut, mask.style, side if rng.random() < 0.5 else -side)
        corners = list(_strap_ends(grid, face, cut.straps))
    straps = [np.array(ends) for ends in corners]
    window = _Window.around(picture, np.concatenate([grid.reshape(-1, 2), *straps]), face.width)
    if window is None:
        return
    blur = float(np.clip(face.width / 420, 0.45, 1.3))
    outline = np.concatenate([grid[0], grid[1:, -1], grid[-1, -2::-1], grid[-2:0:-1, 0]])
    covered = window.filled([outline], blur)
    window.shadow(outline + 0.012 * face.width * face.down, 0.03 * face.width, covered)
    elastic = ELASTIC[int(rng.random() < (0.7 if mask.texture in ("black", "navy") else 0.12))]
    if straps:
        window.lay(window.lines(straps, STRAPS[cut.straps] * face.width, blur), photograph.gain * elastic * 0.92)
    hue = RUBBER[rng.integers(3)] if mask.type == "respirator" and rng.random() < 0.75 else None
    lit = window.light(photograph, face.width)
    lit += 0.012 * photograph.grain * rng.standard_normal(lit.shape, dtype=np.float32)
    shade, colours = _cloth(window.over(grid), grid, mask, hue, rng)
    window.lay(covered, cv2.multiply(colours, _tinted(shade * lit, photograph.gain)))
    for part, colour in _fittings(mask.type, grid, hue, face, rng):
        bulge = window.filled([part], blur)
        round_light = cv2.GaussianBlur(bulge, (0, 0), 0.035 * face.width) * np.float32(0.75) + np.float32(0.4)
        window.lay(bulge, _tinted(lit * round_light, photograph.gain * colour))
    window.put(truth)


def _tinted(light: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Light (h, w) in a colour (3,): float32 (h, w, 3)."""
    return cv2.merge([light * np.float32(part) for part in colour])


def _strap_ends(grid: np.ndarray, face: Face, kind: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Corner of the mask and where its strap ends, for each strap that is seen."""
    for side, column in ((-1, 0), (1, -1)):
        hidden = side * face.yaw > 0.42  # the ear is behind the head
        if kind == "none" or hidden:
            continue
        upper, lower = grid[1, column], grid[-2, column]
        if kind == "ears":
            yield upper, face.ear(side)
            yield lower, face.ear(side, 0.16)
        else:
            outwards = 0.03 * side * face.width * face.across
            yield upper, face.jaw(0, side) + outwards - 0.05 * face.width * face.down
            yield lower, face.jaw(1.8, side) + outwards


def _cloth(
    place: np.ndarray, grid: np.ndarray, mask: FaceMask, hue: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Light (h, w) on the cloth and its colours (h, w, 3) at each pixel's u and v (h, w, 2), both 0 to 1."""
    assert mask.type is not None  # noqa: S101 (for the type checker)
    assert mask.texture is not None  # noqa: S101
    u, v = cv2.split(place)
    folds = relief(mask.type, int(rng.integers(FOLDS)))
    shade = cv2.remap(folds, u * (SIDE - 1), v * (SIDE - 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    shift_u, shift_v, turned = rng.random(3).tolist()
    if hue is not None:
        return shade, _tinted(np.ones_like(u), hue)
    wide = float(np.hypot(*(grid[ROWS // 2, -1] - grid[ROWS // 2, 0])))
    high = float(np.hypot(*(grid[-1, COLUMNS // 2] - grid[0, COLUMNS // 2])))
    times = 2.0, 2.0 * high / max(wide, 1.0)
    pixels = wide / times[0]  # that one tile is seen on
    side = TILE
    while side > 32 and side >= 2 * pixels:
        side //= 2
    x, y = (u * times[0] + shift_u) * side, (v * times[1] + shift_v) * side
    if turned < 0.3:
        x, y = y, x
    picture = tile(mask.texture, side)
    return shade, cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _fittings(
    kind: str, grid: np.ndarray, hue: np.ndarray | None, face: Face, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Outlines and colours of valves and filters."""
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(ring), np.sin(ring)], axis=-1)

    def disc(u: float, v: float, radius: float) -> np.ndarray:
        row, column = v * (ROWS - 1), (u + 1) / 2 * (COLUMNS - 1)
        squeeze = max(0.35, np.cos(face.yaw - 0.9 * u))  # seen from the side
        round_ = circle * (radius * face.width * squeeze, radius * face.width)
        return grid[round(row), round(column)] + round_ @ np.stack([face.across, face.down])

    if kind == "respirator":
        filters = np.array((206, 96, 130) if rng.random() < 0.3 else (196, 196, 190), np.float32)
        rubber = np.array((70, 72, 78), np.float32) if hue is None else hue
        for u in (-0.62, 0.62):
            yield disc(u, 0.6, 0.19), rubber * 0.8
            yield disc(u, 0.6, 0.155), filters
        yield disc(0.0, 0.55, 0.1), rubber * 0.7
    elif kind == "n95" and rng.random() < 0.45:
        place = rng.choice([-0.4, 0.0, 0.4])
        yield disc(place, 0.55, 0.085), np.array((216, 216, 214), np.float32)
        yield disc(place, 0.55, 0.06), np.array((176, 178, 180), np.float32)


def _lay_thing(picture: np.ndarray, truth: np.ndarray, thing: Thing, photograph: Photograph, hides: bool) -> None:
    window = _Window.around(picture, np.concatenate(thing.outlines), thing.unit)
    if window is None:
        return
    blur = float(np.clip(thing.unit / 420, 0.45, 1.3))
    cover = window.lines(thing.outlines, thing.line, blur) if thing.line else window.filled(thing.outlines, blur)
    light = window.light(photograph, thing.unit)
    if thing.rounded:
        light *= cv2.GaussianBlur(cover, (0, 0), thing.rounded) * np.float32(0.6) + np.float32(0.5)
    if not thing.line:
        lower = np.concatenate(thing.outlines) + np.array([0, 0.01 * thing.unit])
        window.shadow(lower, 0.03 * thing.unit, cover)
    gain = np.ones(3, np.float32) if thing.as_seen else photograph.gain
    window.lay(cover * np.float32(thing.opacity), _tinted(light, gain * thing.colour))
    window.put(truth if hides else None)


class _Window:
    """The part of a picture that something is laid on; nothing costs more than its own size.

    Args:
        picture: the whole, (H, W, 3) uint8; changed by :meth:`put`.
        x: left edge.
        y: top edge.
        right: one beyond the right edge.
        low: one beyond the bottom edge.
    """

    def __init__(self, picture: np.ndarray, x: int, y: int, right: int, low: int) -> None:
        self.box = np.s_[y:low, x:right]
        self.corner = np.array([x, y], np.float64)
        self.target = picture[self.box]
        self.rgb: np.ndarray = self.target.astype(np.float32)
        self.shape = self.rgb.shape[:2]
        self.clear = np.ones(self.shape, np.float32)

    @staticmethod
    def around(picture: np.ndarray, points: np.ndarray, unit: float) -> _Window | None:
        """The window around points (N, 2) of something ``unit`` pixels wide; None if that is outside the picture."""
        margin = 3 + 0.06 * unit
        x, y = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int)
        right, low = np.minimum(np.ceil(points.max(axis=0) + margin), picture.shape[1::-1]).astype(int)
        return _Window(picture, x, y, right, low) if right - x >= 2 and low - y >= 2 else None

    def filled(self, outlines: list[np.ndarray], blur: float) -> np.ndarray:
        """Coverage float32 (h, w) in 0..1 of polygons (N, 2), with soft edges."""
        cover = np.zeros(self.shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(cover, [self._fixed(outline)], 255, cv2.LINE_AA, shift=4)
        return cv2.GaussianBlur(cover.astype(np.float32) * np.float32(1 / 255), (0, 0), blur)

    def lines(self, curves: list[np.ndarray], width: float, blur: float) -> np.ndarray:
        """Coverage of curves (N, 2); one thinner than a pixel covers as much less."""
        cover = np.zeros(self.shape, np.uint8)
        for curve in curves:
            cv2.polylines(cover, [self._fixed(curve)], False, 255, max(1, round(width)), cv2.LINE_AA, shift=4)
        share = np.float32(min(1.0, width) / 255)
        return cv2.GaussianBlur(cover.astype(np.float32) * share, (0, 0), 0.7 * blur)

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        # Far outside it makes no difference where, but fixed point has its limits.
        return np.rint(np.clip(points - self.corner, -4000, 8000) * 16).astype(np.int32)

    def shadow(self, outline: np.ndarray, blur: float, cover: np.ndarray) -> None:
        """Darken what lies around something that covers: the shadow that it casts on the face."""
        dark = self.filled([outline], max(blur, 0.5)) * np.float32(0.3)
        self.rgb *= (1 - dark * (1 - cover))[..., None]

    def light(self, photograph: Photograph, unit: float) -> np.ndarray:
        """The photograph's own light over the window, float32 (h, w) around 1."""
        down, across = (np.arange(count, dtype=np.float32) for count in self.shape)
        (slope_x, slope_y), (x, y) = 0.8 * photograph.slope, photograph.middle - self.corner
        field = 1 + (across - x) * (slope_x / unit) + ((down - y) * (slope_y / unit))[:, None]
        return np.clip(field, 0.45, 1.5).astype(np.float32)

    def over(self, grid: np.ndarray) -> np.ndarray:
        """u and v (h, w, 2), both from 0 to 1, at each pixel beneath a grid (ROWS, COLUMNS, 2); 0 elsewhere."""
        middle = grid.mean(axis=(0, 1))
        points = middle + 1.06 * (grid - middle) - self.corner  # a little wider than the outline
        side = max(self.shape)
        raster = np.zeros((side, side, 3), np.float32)
        depth = np.full((side, side), 100, np.float32)
        lens = np.tan(_FIELD / 2) * _DEPTH * 2 / side
        flat = ((points.reshape(-1, 2) - side / 2) * lens * (1, -1)).astype(np.float32)
        seen = np.column_stack([flat, np.full(len(flat), -_DEPTH, np.float32)])
        settings = cv2.TriangleRasterizeSettings()
        settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
        settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
        cv2.triangleRasterize(
            seen, _TRIANGLES, _CORNERS, raster, depth, np.eye(4, dtype=np.float32), _FIELD, 1.0, 100.0, settings
        )
        return raster[: self.shape[0], : self.shape[1], :2]

    def lay(self, opacity: np.ndarray, colours: np.ndarray) -> None:
        """Blend colours (h, w, 3) or (3,) in 0..255 over what is there, by opacity (h, w)."""
        source = np.broadcast_to(colours, self.rgb.shape).astype(np.float32)
        self.rgb = cv2.blendLinear(self.rgb, source, 1 - opacity, opacity)
        self.clear *= 1 - opacity

    def put(self, truth: np.ndarray | None) -> None:
        """Write the window into the picture, and into the truth where what was laid hides half or more.

        What does not hide the face (``truth`` None) leaves the truth as it is.
        """
        self.target[:] = np.clip(np.rint(self.rgb), 0, 255)
        if truth is not None:
            truth[self.box][self.clear <= 0.5] = 255


_FIELD, _DEPTH = 1.0, 30.0


def _grid_triangles() -> np.ndarray:
    place = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = place[:-1, :-1], place[1:, :-1], place[:-1, 1:], place[1:, 1:]
    return np.stack([a, b, c, c, b, d], axis=-1).reshape(-1, 3).astype(np.int32)


_TRIANGLES = _grid_triangles()
_V, _U = np.mgrid[0 : 1 : ROWS * 1j, 0 : 1 : COLUMNS * 1j]
_CORNERS = np.stack([_U, _V, np.ones_like(_U)], axis=-1).reshape(-1, 3).astype(np.float32)
