"""Paints neck, shoulders and clothes, and in some scenes a hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from synthesis.accessories import paint_necklace
from synthesis.canvas import hull, noise, rounded
from synthesis.head import Projection, face_mesh
from synthesis.portrait import Portrait
from synthesis.scene import Pose


def paint_body(portrait: Portrait) -> None:
    """Neck and clothes; the trunk follows the head's turns only in part."""
    canvas, pose, rng, look = portrait.canvas, portrait.scene.pose, portrait.rng, portrait.scene.look
    trunk = Projection.of(Pose(0.4 * pose.yaw, 0, 0.3 * pose.roll, pose.scale, (0, 0)), portrait.canvas.side)
    joint = np.array([[0, 0.9, -0.3]])
    trunk = replace(trunk, origin=(portrait.project(joint) - trunk(joint))[0])

    def outline(half: Sequence[tuple[float, float]]) -> np.ndarray:
        right = np.column_stack([half, np.full(len(half), -0.3)])
        return trunk(rounded(np.concatenate([right, (right * (-1, 1, 1))[::-1]])))

    n, base, cut = rng.uniform(0.52, 0.72), portrait.scene.shape.chin + rng.uniform(0.15, 0.5), rng.uniform(0, 0.7)
    neck = canvas.mask(outline([(n, 0.3), (n, base - 0.2), (n + 0.7, base + 1.2)]))
    canvas.paint(neck, portrait.skin, part="neck", occludes=("hair",), gain=0.85)
    below = hull(portrait.project(np.add(face_mesh(portrait.scene.shape), (0, 0.12, 0))))
    canvas.paint(neck, portrait.skin, alpha=portrait.soft(below, 0.08), gain=0.55)  # the head's shadow
    shirt = [(0.3, base + cut), (n + 0.05, base - 0.15), (2.0, base + 0.25), (2.6, base + 0.6), (3.0, 6.0)]
    weave = np.exp(0.12 * noise(rng, 9, 128) + 0.04 * noise(rng, 60, 128))
    folds = portrait.half_shade * cv2.resize(weave, (portrait.canvas.size, portrait.canvas.size))
    clothes = canvas.mask(outline(shirt))
    canvas.paint(clothes, look.clothes, part="cloth", occludes=("hair", "neck"), gain=folds)
    collar = canvas.lines([outline(shirt)[: 2 * len(shirt)]], 0.03 * portrait.unit) & clothes
    canvas.paint(collar, look.clothes, alpha=0.6, gain=0.6)
    if look.necklace != "none":
        paint_necklace(portrait, trunk, n, base)


def paint_hand(portrait: Portrait) -> None:
    """A hand in front of the face: it occludes all parts behind it and is labelled background."""
    where, rng = portrait.scene.hand, portrait.own_random("hand")
    if where == "none":
        return
    s, u = rng.choice([-1, 1]), portrait.unit
    x, y = (0.85 * s, 0.75) if where == "cheek" else (0.25 * s, portrait.scene.shape.chin - 0.05)
    tip = portrait.project(np.array([[x, y, 0.8]]))[0]
    lean = np.deg2rad(rng.uniform(-25, 10)) * s
    along, across = np.array([np.sin(lean), -np.cos(lean)]), np.array([np.cos(lean), np.sin(lean)])
    parts, edges = [], []
    for k, reach in enumerate((0.8, 1.0, 0.95, 0.75)):
        base = tip + u * across * (k - 1.5) * 0.21
        top, end = base + u * along * 0.35 * reach, base - u * along * 0.45
        half = 0.1 * u * across
        finger = np.stack([end - half, top - half, top - 0.6 * half + 0.09 * u * along,
                           top + 0.6 * half + 0.09 * u * along, top + half, end + half])  # fmt: skip
        parts.append(rounded(finger, 1))
        edges.append(np.stack([top + half, end + half]))
    palm = tip - u * along * 0.35
    wrist = palm - u * along * 2.2
    parts.append(np.stack([palm - 0.43 * u * across, palm + 0.43 * u * across,
                           wrist + 0.35 * u * across, wrist - 0.35 * u * across]))  # fmt: skip
    mask = portrait.canvas.mask(*parts)
    colour = portrait.scene.look.skin * (0.92, 0.86, 0.84)
    light = (0.35 + 0.65 * portrait.half_shade) * (1 + 0.05 * portrait.grain)
    portrait.canvas.paint(mask, colour, part="hand", occludes=tuple(portrait.canvas.parts), gain=light)
    portrait.canvas.paint(portrait.canvas.lines(edges, 0.025 * u) & mask, 0.5 * colour, alpha=0.6)
