"""Surfaces: the light on the head, and skin and hair as they look in it, over the whole canvas."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from datamodules.synthesis.canvas import SOFTNESS, SoftGrid, noise
from datamodules.synthesis.head import Projection, on_face
from datamodules.synthesis.scene import FaceScene


def shading(scene: FaceScene, project: Projection, grid: SoftGrid) -> np.ndarray:
    """Light on an egg-shaped head, a field (cells, cells) on the grid, about 0.4 .. 1.05."""
    light, at = scene.light, (np.arange(grid.cells) + 0.5) * SOFTNESS
    centre = project(np.array([[0, 0.25, 0]]))[0]
    across, down = (at - centre[0]) / project.scale, (at[:, None] - centre[1]) / project.scale
    roll = np.deg2rad(scene.pose.roll)
    c, s = np.cos(roll), np.sin(roll)
    u, v = (c * across + s * down) / 1.25, (c * down - s * across) / 1.9
    far = np.maximum(np.hypot(u, v), 1)
    u, v = u / far, v / far
    x, y, z = light.direction
    facing = u * (c * x + s * y) + v * (c * y - s * x) + np.sqrt(np.maximum(1 - u**2 - v**2, 0)) * z
    # The light wraps a little round to the dark side, as it does on skin.
    return light.ambient + (1.05 - light.ambient) * np.maximum((facing + 0.25) / 1.25, 0)


def lit_skin(
    scene: FaceScene, project: Projection, grid: SoftGrid, shade: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Skin as lit: tone, light, mottling, and the relief of sockets, cheeks, nose and lips.

    Args:
        scene: what is drawn.
        project: head space -> canvas.
        grid: the coarse grid of the canvas.
        shade: light (cells, cells) on the grid, as from `shading`.
        rng: gives the mottling.

    Returns:
        Float32 (side, side, 3), RGB in 0..255, over the whole canvas.
    """
    shape, look, act = scene.shape, scene.look, scene.expression
    slant = float(scene.light.direction[0])
    n, w, e = shape.nose_length, shape.nose_width, shape.eye_spacing
    m = n + 0.36 + act.gap  # the lower lip's inner edge
    chin, dark = m + shape.lower_lip, 1.25 - scene.light.ambient
    away = -1.0 if slant > 0 else 1.0
    # x, y of a polygon; on both sides?; blur; log gain, per channel where it tints
    relief: list[tuple[Any, Any, bool, float, Any]] = [
        ((e - 0.27, e, e + 0.25, e), (0, -0.2, -0.02, 0.1), True, 0.06, -0.3 * dark),  # socket
        ((e - 0.2, e, e + 0.25, e), (0, -0.2, -0.06, -0.02), True, 0.04, -look.make_up * np.array([0.7, 1, 0.7])),
        ((e - 0.15, e + 0.2, e), (0.14, 0.14, 0.24), True, 0.05, -0.12 * dark),  # under the eye
        (np.multiply(away, (0.05, 0.12, w, 0.6 * w)), (-0.1, 0, n, n), False, 0.06, -(0.3 + abs(slant)) * dark),
        ((0.09, 0.13, 0.8 * w, 0.55 * w), (-0.1, 0.2, n - 0.15, n - 0.2), True, 0.06, -0.2 * dark),
        ((-0.04, 0.04, 0.07, -0.07), (0, 0, n - 0.05, n - 0.05), False, 0.05, 0.16),  # ridge
        ((-w, w, 0.6 * w, -0.6 * w), (n + 0.02, n + 0.02, n + 0.12, n + 0.12), False, 0.05, -0.4 * dark),
        ((-0.2, 0.2, 0.12, -0.12), (chin, chin, chin + 0.12, chin + 0.12), False, 0.05, -0.4 * dark),
        ((w, w + 0.06, 0.5, 0.46), (n - 0.1, n - 0.12, m, m), True, 0.03, -0.07 - 0.15 * max(act.smile, 0)),
        ((0.45, 0.7, 0.7, 0.5), (0.3, 0.25, 0.55, 0.65), True, 0.13, 0.05 - look.blush * np.array([0, 2, 2])),
    ]
    if scene.hair.fringe != "none":  # the fringe's shadow
        relief.append(((-0.8, 0.8, 0.8, -0.8), (-0.9, -0.9, -0.3, -0.3), False, 0.1, -0.2))
    total = cv2.merge([0.05 * noise(rng, 14, grid.cells)] * 3)
    for x, y, both, blur, gain in relief:
        sides = (-1, 1) if both else (1,)
        areas = [project(on_face(shape, np.multiply(s, x), y, 0.05)) for s in sides]
        area = grid.area(areas, blur * project.scale)
        total = total + cv2.merge([area * np.float32(g) for g in np.broadcast_to(gain, 3)])
    return grid.enlarge(np.exp(total) * shade[..., None] * look.skin)


def lit_hair(
    scene: FaceScene, project: Projection, grid: SoftGrid, shade: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Hair as lit: strands that fan out from above the parting, mixed with curls.

    Args:
        scene: what is drawn.
        project: head space -> canvas.
        grid: the coarse grid of the canvas.
        shade: light (side, side) on the canvas, scattered as hair scatters it.
        rng: gives strands and curls.

    Returns:
        Float32 (side, side, 3), RGB in 0..255, over the whole canvas.
    """
    hair, look = scene.hair, scene.look
    root = project(np.array([[hair.parting, -2.1, 0.2]]))[0]
    at = np.arange(grid.side, dtype=np.float32)
    across, down = np.meshgrid((at - root[0]) / project.scale, (at - root[1]) / project.scale)
    radius, angle = cv2.cartToPolar(across, down)
    bins = np.arange(1024)
    strands = np.zeros(len(bins), np.float32)
    for count, weight in ((40, 0.5), (140, 0.7), (400, 0.5)):  # locks, strands, single hairs
        values = weight * rng.standard_normal(count)
        strands += np.interp(bins, np.linspace(0, len(bins), count), values).astype(np.float32)
    bend = noise(rng, 4, grid.side) * np.float32(8 + 30 * hair.curl)
    place = (angle * np.float32(len(bins) / (2 * np.pi)) + bend).astype(np.int32) & (len(bins) - 1)
    mixed = strands[place] * np.float32(1 - 0.8 * hair.curl)
    if hair.curl > 0:
        cells = int(np.clip(9 / scene.pose.scale, 20, 60))
        mixed += (noise(rng, cells, grid.side) + 0.5 * noise(rng, cells // 4, grid.side)) * np.float32(hair.curl)
    shine = 0.3 * (1 - hair.curl) * grid.enlarge(np.exp(-(((radius[::SOFTNESS, ::SOFTNESS] - 1.0) / 0.22) ** 2)))
    gain = np.exp(0.17 * mixed + shine * (1 + 0.5 * mixed)) * shade
    return cv2.merge([gain * np.float32(c) + 8 * shine for c in look.hair])
