"""Renders a face mask or a distractor on a photograph: layers from back to front, each with its own opacity."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from synthesis.canvas import recorded_noise
from synthesis.masks.choices import FaceMask, MaskChoices
from synthesis.masks.distractors import DistractorLayer, distractor_layers
from synthesis.masks.folds import FOLDS, SIDE, relief
from synthesis.masks.lighting import Lighting
from synthesis.masks.shapes import (
    COLUMNS,
    CUTS,
    ONE_PIECE,
    ROWS,
    Face,
    ear_loop,
    hanging_grid,
    laid_grid,
    tailored,
)
from synthesis.masks.templates import laid_on, read_templates
from synthesis.masks.textures import PLAIN, tile
from synthesis.masks.textures import SIDE as TILE
from synthesis.masks.window import Window

STRAPS = {"ears": 0.007, "head": 0.012, "none": 0.0}
"""Width of straps, in widths of the face."""

IN_ONE_PIECE = 0.6
"""Share of plain cloth masks that form one piece with their ear loops."""

ELASTIC = np.array([(226, 228, 228), (40, 40, 44)], np.float32)
RUBBER = np.array([(58, 62, 70), (96, 100, 106), (150, 156, 158)], np.float32)


def render_mask(
    image: np.ndarray, landmarks: np.ndarray, mask: FaceMask, choices: MaskChoices
) -> tuple[np.ndarray, np.ndarray]:
    """Render a face mask and a distractor on a photograph.

    Colours are blended by their opacity. The ground truth is where the total opacity of the occluding layers is 0.5 or
    more: fabric, valves and the visible straps.

    Args:
        image: (H, W, 3) uint8 RGB; not modified.
        landmarks: (68, 2), in pixels, in the order of iBUG and dlib; some may lie outside the image.
        mask: the face mask, see :func:`~synthesis.masks.choices.choose_mask`.
        choices: folder of the templates, and whether hands and objects count as occlusion.

    Returns:
        The new image (H, W, 3) uint8, and the ground truth (H, W) uint8, 0 or 255. Equal arguments give equal bytes.

    Raises:
        ValueError: for arrays of another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype}: must be (H, W, 3) uint8")
    if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all():
        raise ValueError(f"landmarks of shape {landmarks.shape}: must be (68, 2), all of them finite")
    photo = image.copy()
    ground_truth = np.zeros(image.shape[:2], np.uint8)
    if mask.type is None and mask.distractor is None:
        return photo, ground_truth
    face, rng = Face.of(landmarks), np.random.default_rng(mask.seed)
    lighting = Lighting.of(image, face)
    if mask.type is not None and choices.templates is not None:
        tilts = read_templates(choices.templates)[mask.type]
        colours, alpha = laid_on(tilts.get(mask.tilt, tilts["front"]), face, image.shape[:2])
        lit = np.clip(colours * lighting.gain, 0, 255).astype(np.float32)
        photo[:] = cv2.blendLinear(photo.astype(np.float32), lit, 1 - alpha, alpha).round()
        ground_truth[alpha >= 0.5] = 255
    elif mask.type is not None:
        _lay_mask(photo, ground_truth, face, mask, lighting, rng)
    if mask.distractor is not None:
        occludes = choices.occluders and mask.distractor != "spectacles"
        for layer in distractor_layers(mask.distractor, face, image, rng):
            _lay_distractor(photo, ground_truth if occludes else None, face, layer, lighting)
    return photo, ground_truth


def _lay_mask(
    image: np.ndarray,
    ground_truth: np.ndarray,
    face: Face,
    mask: FaceMask,
    lighting: Lighting,
    rng: np.random.Generator,
) -> None:
    assert mask.type is not None  # noqa: S101 (for the type checker)
    grid, straps, strap, loops = _laid(face, mask, rng)
    window = Window.around(image, np.concatenate([grid.reshape(-1, 2), *straps, *loops]), face.width)
    if window is None:
        return
    outline = np.concatenate([grid[0], grid[1:, -1], grid[-1, -2::-1], grid[-2:0:-1, 0]])
    covered = window.filled([outline])
    window.shadow(outline + 0.012 * face.width * face.down, 0.03 * face.width, covered)
    elastic = ELASTIC[int(rng.random() < (0.7 if mask.texture in ("black", "navy") else 0.12))]
    if straps:
        window.lay(window.lines(straps, strap * face.width), lighting.gain * elastic * 0.92)
    hue = RUBBER[rng.integers(3)] if mask.type == "respirator" and rng.random() < 0.75 else None
    lit = window.light(lighting)
    lit += np.float32(0.012 * lighting.grain) * recorded_noise(rng, *lit.shape)
    shade, colours = _textured(*window.over(grid), grid, mask, hue, rng)
    if loops:
        mean = np.array(cv2.mean(colours, (covered > 0.5).astype(np.uint8))[:3], np.float32)
        window.lay(window.filled(loops), _tinted(lit, 0.85 * lighting.gain * mean))
    window.lay(covered, cv2.multiply(colours, _tinted(shade * lit, lighting.gain)))
    for part, colour in _fittings(mask.type, grid, hue, face, rng):
        bulge = window.filled([part])
        round_light = cv2.GaussianBlur(bulge, (0, 0), 0.035 * face.width) * np.float32(0.75) + np.float32(0.4)
        window.lay(bulge, _tinted(lit * round_light, lighting.gain * colour))
    window.put(ground_truth)


def _laid(
    face: Face, mask: FaceMask, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray], float, list[np.ndarray]]:
    """A mask in the image: grid points of its fabric (ROWS, COLUMNS, 2); straps (2, 2) and their width, in widths of
    the face; fabric ear loops (N, 2)."""
    assert mask.type is not None  # noqa: S101 (for the type checker)
    assert mask.style is not None  # noqa: S101
    side = 1 if (face.yaw < 0) ^ (abs(face.yaw) < 0.15 and rng.random() < 0.5) else -1  # the nearer side
    cut = CUTS[mask.type]
    if mask.style == "one_ear":
        grid = hanging_grid(face, side, float(rng.uniform(-0.15, 0.25) * side))
        ear = face.ear(side)
        return grid, [np.array([grid[0, 1], ear]), np.array([grid[0, -2], ear])], STRAPS[cut.straps], []
    one_piece = mask.type == "cloth" and mask.texture in PLAIN and rng.random() < IN_ONE_PIECE
    cut = tailored(ONE_PIECE if one_piece else cut, rng)
    grid = laid_grid(face, cut, mask.style, side if rng.random() < 0.5 else -side)
    straps = [np.array(ends) for ends in _strap_ends(grid, face, cut.straps)]
    loops = [ear_loop(grid, face, ear) for ear in _ears(face)] if one_piece else []
    return grid, straps, STRAPS[cut.straps], [loop for loop in loops if loop is not None]


def _tinted(light: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Light (h, w) times a colour (3,): float32 (h, w, 3)."""
    return cv2.merge([light * np.float32(part) for part in colour])


def _ears(face: Face) -> list[int]:
    """Sides (-1 left, 1 right) whose ear is visible."""
    return [side for side in (-1, 1) if side * face.yaw <= 0.42]


def _strap_ends(grid: np.ndarray, face: Face, kind: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both ends of each visible strap: a corner of the mask, and a point at the ear or jaw."""
    for side in _ears(face) if kind != "none" else ():
        column = 0 if side < 0 else -1
        upper, lower = grid[1, column], grid[-2, column]
        if kind == "ears":
            yield upper, face.ear(side)
            yield lower, face.ear(side, 0.16)
        else:
            outwards = 0.03 * side * face.width * face.across
            yield upper, face.jaw(0, side) + outwards - 0.05 * face.width * face.down
            yield lower, face.jaw(1.8, side) + outwards


def _textured(
    u: np.ndarray, v: np.ndarray, grid: np.ndarray, mask: FaceMask, hue: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shading (h, w) and colours (h, w, 3) of the fabric at each pixel's u and v (h, w), both 0 to 1."""
    assert mask.type is not None  # noqa: S101 (for the type checker)
    assert mask.texture is not None  # noqa: S101
    folds = relief(mask.type, int(rng.integers(FOLDS)))
    shade = cv2.remap(folds, u * (SIDE - 1), v * (SIDE - 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    shift_u, shift_v, turned = rng.random(3).tolist()
    if hue is not None:
        return shade, _tinted(np.ones_like(u), hue)
    wide = float(np.hypot(*(grid[ROWS // 2, -1] - grid[ROWS // 2, 0])))
    high = float(np.hypot(*(grid[-1, COLUMNS // 2] - grid[0, COLUMNS // 2])))
    side = TILE
    while side > 32 and side >= wide:  # a tile is half as wide as the mask
        side //= 2
    x, y = (u * 2 + shift_u) * side, (v * (2 * high / max(wide, 1.0)) + shift_v) * side
    if turned < 0.3:
        x, y = y, x
    return shade, cv2.remap(tile(mask.texture, side), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


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


def _lay_distractor(
    image: np.ndarray, ground_truth: np.ndarray | None, face: Face, layer: DistractorLayer, lighting: Lighting
) -> None:
    window = Window.around(image, np.concatenate(layer.outlines), face.width)
    if window is None:
        return
    cover = window.lines(layer.outlines, layer.line) if layer.line else window.filled(layer.outlines)
    light = window.light(lighting)
    if layer.rounded:
        light *= cv2.GaussianBlur(cover, (0, 0), layer.rounded) * np.float32(0.6) + np.float32(0.5)
    if not layer.line:
        lower = np.concatenate(layer.outlines) + np.array([0, 0.01 * face.width])
        window.shadow(lower, 0.03 * face.width, cover)
    gain = np.ones(3, np.float32) if layer.as_seen else lighting.gain
    window.lay(cover * np.float32(layer.opacity), _tinted(light, gain * layer.colour))
    window.put(ground_truth)
