"""Paints accessories: necklace, hat, glasses, ear-rings."""

from __future__ import annotations

import numpy as np

from synthesis.canvas import hull, noise
from synthesis.head import Projection, skull
from synthesis.portrait import Portrait
from synthesis.scene import any_colour


def paint_necklace(portrait: Portrait, trunk: Projection, neck: float, base: float) -> None:
    """A chain or a row of pearls; the neck's own mask continues beneath it, as in human annotations."""
    canvas, rng, pearls = portrait.canvas, portrait.own_random("necklace"), portrait.scene.look.necklace == "pearls"
    t = np.linspace(-1, 1, 33)
    drop, bead, width = rng.uniform(0.15, 0.5), rng.uniform(0.03, 0.06), rng.uniform(0.02, 0.06)
    curve = trunk(np.stack([t * (neck + 0.12), base - 0.1 + drop * (1 - t**2) ** 0.8, 0.1 + 0 * t], axis=-1))
    if pearls:
        mask = canvas.ellipses([(middle, bead * portrait.unit, bead * portrait.unit) for middle in curve])
    else:
        mask = canvas.lines([curve], width * portrait.unit)
    metal = (236, 228, 214) if pearls else ((212, 176, 92) if rng.random() < 0.6 else (200, 202, 208))
    canvas.paint(mask, metal, part="neck_l", gain=portrait.half_shade * np.exp(0.25 * portrait.grain))


def paint_hat(portrait: Portrait) -> None:
    """A cap over the skull, in some scenes with a peak; it occludes the hair and is labelled background."""
    hair, look = portrait.scene.hair, portrait.scene.look
    if not hair.hat:
        return
    x, y, z = skull(hair.thickness + 0.12).T
    parts = [hull(portrait.project(np.column_stack([x, np.minimum(y, -0.62 + 0.12 * z), z])))]
    if hair.parting > 0:
        peak = np.array([[0.8, -0.55, 0.6], [0.55, -0.5, 1.35], [-0.55, -0.5, 1.35], [-0.8, -0.55, 0.6]])
        parts.append(hull(portrait.project(np.concatenate([peak, peak - (0, 0.12, 0)]))))
    weave = portrait.half_shade * np.exp(
        0.06 * noise(portrait.own_random("hat"), 20, portrait.canvas.size) + 0.05 * portrait.grain
    )
    for part, gain in zip(parts, (1.0, 0.75), strict=False):
        occluded = ("hair", "skin", "l_brow", "r_brow", "l_ear", "r_ear")
        portrait.canvas.paint(portrait.canvas.mask(part), gain * look.hat, part="hat", occludes=occluded, gain=weave)


def paint_glasses(portrait: Portrait) -> None:
    """Rims and lenses. Parts seen through lenses keep their labels; behind dark lenses, eyes are labelled skin."""
    look, e = portrait.scene.look, portrait.scene.shape.eye_spacing
    if look.glasses == "none":
        return
    lenses: list[np.ndarray] = []
    ring, power = np.linspace(0, 2 * np.pi, 33), 1.0 if look.glasses == "round" else 0.5
    c, s = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(ring), np.sin(ring)))
    curves = [np.array([[0.33 - e, 0, 1.03], [0, -0.04, 1.08], [e - 0.33, 0, 1.03]])]
    for side in (-1, 1):
        x = side * e + 0.33 * c
        curves.append(np.stack([x, 0.05 + 0.25 * s, 1.05 - 0.1 * np.abs(x)], axis=-1))
        lenses.append(portrait.project(curves[-1]))
        curves.append(np.array([[side * (e + 0.33), 0, 0.97], [side * 1.0, -0.03, 0.1]]))
    rims = portrait.canvas.lines([portrait.project(curve) for curve in curves], 0.03 * portrait.unit)
    canvas, frame, glass = portrait.canvas, 0.35 * look.hat, portrait.canvas.mask(*lenses)
    if look.sunglasses:
        occluded = ("l_eye", "r_eye", "l_brow", "r_brow")
        canvas.paint(glass & portrait.face, portrait.skin, part="skin", occludes=occluded)
        dark = 0.1 * look.hat + 12
        canvas.paint(glass, dark, part="eye_g", alpha=0.93, gain=0.6 + 0.8 * portrait.half_shade)
    else:
        canvas.paint(glass, (255, 255, 255), part="eye_g", alpha=0.05)
    canvas.paint(rims, frame, part="eye_g", alpha=0.9, gain=0.7 + 0.5 * portrait.shade)


def paint_ear_rings(portrait: Portrait) -> None:
    kind, rng = portrait.scene.look.ear_rings, portrait.own_random("ear-rings")
    if kind == "none":
        return
    size = portrait.unit * (rng.uniform(0.05, 0.16) if kind != "studs" else 0.035)
    lobes = [portrait.project(np.array([[s, 0.55, -0.05]]))[0] for s in (-1, 1) if s * portrait.scene.pose.yaw <= 20]
    width, height, rim = (0.75, 1.1, 0.03 * portrait.unit) if kind == "hoops" else (0.5, 1.0, None)
    boxes = [(lobe + np.array([0, size]), width * size, height * size) for lobe in lobes]
    mask = portrait.canvas.ellipses(boxes, rim) - portrait.face
    metal = ((218, 182, 96), (206, 208, 214), any_colour(rng))[rng.integers(3)]
    portrait.canvas.paint(mask, metal, part="ear_r", gain=portrait.half_shade * np.exp(0.3 * portrait.grain))
