"""Paints hair in two passes, behind the face and in front of it, and beards."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthesis.canvas import Mask, hull, roughened, rounded
from synthesis.head import face_width, hairline, on_face, skull
from synthesis.portrait import Portrait


def paint_hair_behind(portrait: Portrait) -> None:
    hair, rng = portrait.scene.hair, portrait.rng
    if hair.style == "bald":
        dome = portrait.canvas.mask(hull(portrait.project(skull(-0.02))))
        portrait.canvas.paint(dome, portrait.skin, part="skin")
        return
    if hair.hangs:
        wide, end = 1.0 + hair.thickness, hair.end
        x = np.array([0.75, 0.95 * wide, wide, wide + 0.08, 0.9 * wide, 0.4 * wide])
        y = np.array([-1.35, -0.9, -0.3, 0.7 * end, end, end]) + rng.normal(0, 0.05, (2, 6))
        right, left = (np.stack([s * x, y[max(s, 0)], np.full(6, -0.35)], -1) for s in (1, -1))
        mane = portrait.project(rounded(np.concatenate([right, left[::-1]])))
        mane = roughened(rng, mane, 0.6 * hair.roughness)
        mask = portrait.canvas.mask(mane) | _strands(portrait, mane)
        portrait.canvas.paint(mask, portrait.hair, part="hair", gain=0.72)
    crown = min(hair.thickness, 0.25 + 0.3 * hair.thickness)  # hanging hair is wider than the top
    cap = roughened(rng, hull(portrait.project(skull(crown))), hair.roughness)
    portrait.canvas.paint(portrait.canvas.mask(cap) | _strands(portrait, cap), portrait.hair, part="hair")


def paint_hair_in_front(portrait: Portrait) -> None:
    """Locks over the hairline, a fringe, and the side hair of bob and long hair."""
    hair, rng, shape, n = portrait.scene.hair, portrait.rng, portrait.scene.shape, 22
    if hair.style == "bald":
        return
    x = np.linspace(-0.86, 0.86, n) + rng.uniform(-0.03, 0.03, n)
    swept = np.clip((x - hair.parting) * (-1 if hair.parting > 0 else 1), 0, 1)  # to the wider side
    reach: dict[str, Any] = {"none": 0.05, "side": 0.75 * swept**0.7, "full": rng.uniform(0.3, 0.62)}
    # Shorter towards the temples, where the hairline is low already.
    fall = 0.04 + reach[hair.fringe] * (1 - (x / 0.9) ** 4)
    drift = 0.0 if hair.fringe == "full" else 0.7 * (x - hair.parting) * fall
    sheet = np.stack([x + drift, hairline(shape, x) + 0.8 * fall], -1)  # combed hair has a common edge
    sheet = np.concatenate([sheet, np.stack([x, hairline(shape, x) - 0.14], -1)[::-1]])
    fall *= rng.uniform(0.8, 1.1, n)
    half = rng.uniform(0.03, 0.09, n)
    across = np.stack([x - half, x + half, x + 0.6 * drift + 0.8 * half, x + drift, x + 0.6 * drift - 0.8 * half], -1)
    down = (hairline(shape, x) + np.stack([-0.14 + 0 * x, -0.14 + 0 * x, 0.6 * fall, fall, 0.6 * fall])).T
    locks = _on_forehead(portrait, across, down) + _on_forehead(portrait, *sheet.T[:, None])
    if hair.style in ("short", "afro", "buzz"):
        locks += [_sideburn(portrait, s) for s in (-1, 1) if s * portrait.scene.pose.yaw < 10]
    if hair.hangs:
        locks += [_curtain(portrait, s) for s in (-1, 1)]
    x = np.linspace(-1, 1, 15)
    roots = np.concatenate([np.stack([x, hairline(shape, x) + 0.05], -1), [(1.0, -1.4), (-1.0, -1.4)]])
    scalp = portrait.project(on_face(shape, *roots.T))
    # Hair thins out towards the face; its label has a hard edge.
    portrait.canvas.paint(portrait.face, portrait.hair, alpha=0.7 * portrait.soft(scalp, 0.05))
    occluded = portrait.canvas.parts.keys() - {"hair", "l_ear", "r_ear"}
    turned, far = np.sign(portrait.scene.pose.yaw), 0.8 - 0.015 * abs(portrait.scene.pose.yaw)
    x = turned * np.linspace(-0.8, far, 22)  # none on the side that is turned away
    roots = portrait.project(on_face(shape, x, hairline(shape, x), 0.05))
    mask = portrait.canvas.mask(*locks) | _baby_hair(portrait, roots)
    portrait.canvas.paint(mask, portrait.hair, part="hair", occludes=occluded)


def _on_forehead(portrait: Portrait, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Outlines x, y (K, N) that stay within the face, on the canvas: K times (N, 2)."""
    edge = 0.97 * face_width(portrait.scene.shape, y)
    return list(portrait.project(on_face(portrait.scene.shape, np.clip(x, -edge, edge), y, 0.06)))


def _strands(portrait: Portrait, edge: np.ndarray) -> Mask:
    """Single hairs that stand out from the outline (N, 2) of the hair, as a mask."""
    hair, rng = portrait.scene.hair, portrait.rng
    count = int(70 + 160 * hair.curl)
    start = edge[rng.integers(0, len(edge), count)] + rng.normal(0, 0.02 * portrait.unit, (count, 2))
    outward = start - edge.mean(axis=0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
    tangent = outward[:, ::-1] * (1, -1) * rng.choice([-1, 1], (count, 1))
    length = portrait.unit * rng.uniform(0.05, 0.12 + 6 * hair.roughness, (count, 1))
    low = np.array([0, 1.0])
    middle = start + length * (0.5 * tangent + 0.25 * outward + 0.3 * low)
    end = start + length * (rng.normal(0.9, 0.4, (count, 1)) * tangent + 0.2 * outward + 0.6 * low)
    return portrait.canvas.lines(np.stack([start, middle, end], axis=1), 0.007 * portrait.unit)


def _sideburn(portrait: Portrait, side: int) -> np.ndarray:
    """Hair before an ear, (N, 2) on the canvas."""
    low, shape = portrait.rng.uniform(-0.25, 0.35), portrait.scene.shape
    y = np.array([-1.0, -0.65, -0.2, low, low, -1.0])
    edge = face_width(shape, y)
    x = np.array([0.7, 0.84, 0.9, 0.94, 1.06, 1.08]) * edge
    return portrait.project(rounded(on_face(shape, side * x, y, 0.03), 1))


def _baby_hair(portrait: Portrait, roots: np.ndarray) -> Mask:
    """Short hairs about the hairline (N, 2), as a mask."""
    start = roots[portrait.rng.integers(0, len(roots), 90)] + portrait.rng.normal(0, 0.02 * portrait.unit, (90, 2))
    end = start + portrait.unit * portrait.rng.normal(0, 1, (90, 2)) * (0.05, 0.03) + (0, 0.05 * portrait.unit)
    return portrait.canvas.lines(np.stack([start, end], axis=1), 0.007 * portrait.unit)


def _curtain(portrait: Portrait, side: int) -> np.ndarray:
    """Side hair from the parting past temple and cheek down to its end, (N, 2) on the canvas."""
    hair, rng = portrait.scene.hair, portrait.rng
    cover, t, end = hair.overlap + rng.uniform(0, 0.06), hair.thickness, hair.end + rng.uniform(-0.2, 0.1)
    inner_x = (0.3, 0.72, 0.95 - 0.6 * cover, 1.0 - cover, 1.0 - 0.8 * cover, 1.02 - 0.5 * cover)
    inner_y = (-1.1, -0.75, -0.3, 0.3, 0.6 * end + 0.2, end)
    outer_x = (1.1 + t, 1.16 + t, 1.04 + t, 0.75 + 0.6 * t, 0.3)
    outer_y = (end - 0.05, 0.6 * end, -0.3, -1.1, -1.4)
    x, y = np.array([*inner_x, *outer_x]), np.array([*inner_y, *outer_y])
    z = np.array([0.75, 0.6, 0.4, 0.25, 0.2, 0.2] + 5 * [-0.05])
    points = np.stack([side * x, y + rng.normal(0, 0.03, 11), z], axis=-1)
    return roughened(rng, portrait.project(rounded(points)), 0.5 * hair.roughness)


def paint_beard(portrait: Portrait) -> None:
    look, shape = portrait.scene.look, portrait.scene.shape
    if look.beard == 0:
        return
    nose, chin = shape.nose_length, shape.chin
    x = np.array([-1.1, -0.9, -0.5, -0.4, 0, 0.4, 0.5, 0.9, 1.1, 0.8, 0, -0.8])
    lip = [nose + 0.36, nose + 0.14, nose + 0.1, nose + 0.14, nose + 0.36]
    y = np.array([0.1, 0.7, *lip, 0.7, 0.1, chin - 0.01, chin, chin - 0.01])
    edge = face_width(shape, y)
    area = portrait.project(on_face(shape, np.clip(x, -edge, edge), y) + (0, 0.1, 0) * (y[:, None] > chin - 0.1))
    density = look.beard * portrait.soft(area, 0.06) * np.clip(0.85 + 0.25 * portrait.stubble, 0.3, 1.1)
    portrait.canvas.paint(portrait.face, portrait.hair, alpha=np.minimum(density, 0.95), gain=0.9)
