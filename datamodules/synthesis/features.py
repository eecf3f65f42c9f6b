"""What a face consists of: ears, eyes, brows, mouth and nose."""

from __future__ import annotations

import numpy as np

from datamodules.synthesis.canvas import hull, rounded
from datamodules.synthesis.head import on_face
from datamodules.synthesis.portrait import Portrait


def paint_ears(portrait: Portrait) -> None:
    if portrait.scene.hair.hangs and portrait.scene.hair.overlap > 0.02:
        return
    flare = portrait.scene.shape.ear
    x = np.array([0.9, 0.98 + flare, 1.02 + flare, 0.98 + 0.6 * flare, 0.92, 0.88])
    y, z = (-0.2, -0.22, 0.1, 0.42, 0.5, 0.2), (0.0, -0.22, -0.3, -0.2, -0.05, 0.1)
    for s in (-1, 1):
        ear = portrait.project(rounded(np.stack([s * x, y, z], axis=-1)))
        mask, middle = portrait.canvas.mask(ear), ear.mean(axis=0)
        part = "r_ear" if s < 0 else "l_ear"
        portrait.canvas.paint(mask, portrait.skin, part=part, hides=("hair", "neck"), gain=0.92)
        hollow = portrait.canvas.mask(middle + 0.5 * (ear - middle))
        portrait.canvas.paint(hollow, portrait.skin, alpha=0.5, gain=0.6)
        rim = portrait.canvas.lines([middle + 0.6 * (ear - middle)], 0.04 * portrait.unit, closed=True)
        portrait.canvas.paint(rim & mask, portrait.skin, alpha=0.6, gain=0.7)


def paint_eye(portrait: Portrait, side: int) -> None:
    canvas, look, face = portrait.canvas, portrait.scene.look, portrait.face
    upper, lower, _ = portrait.seen.eyes[side > 0]
    pupil = portrait.features.eyes[side > 0][2]
    opening = canvas.mask(np.concatenate([upper, lower[-2:0:-1]])) & face
    canvas.paint(opening, (228, 220, 214), part="r_eye" if side < 0 else "l_eye", gain=portrait.half_shade)
    inner = upper[-1] if side < 0 else upper[0]
    tear = inner + 0.035 * portrait.unit * np.array([[-1, 0], [0, -1], [1, 0], [0, 1]])
    canvas.paint(canvas.mask(tear) & opening, (200, 130, 120), alpha=0.7, gain=portrait.half_shade)
    ring = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    disc = 0.088 * np.stack([np.cos(ring), np.sin(ring), 0 * ring], axis=-1)
    for radius, colour in (
        (1.0, 0.45 * look.iris),
        (0.84, 0.9 * look.iris),
        (0.62, 1.2 * look.iris),
        (0.4, (10, 10, 10)),
    ):
        canvas.paint(canvas.mask(portrait.project(pupil + radius * disc)) & opening, colour)
    cast = canvas.lines([np.add(upper, (0, 0.02 * portrait.unit))], 0.05 * portrait.unit) & opening
    canvas.paint(cast, (40, 30, 28), alpha=0.45)  # the upper lid's shadow on the ball
    glint = pupil + (0.03 * np.sign(portrait.scene.light.direction[0]), -0.03, 0) + 0.22 * disc
    canvas.paint(canvas.mask(portrait.project(glint)) & opening, (245, 245, 245), alpha=0.85)
    lashes = canvas.lines([upper], (0.025 + 0.03 * look.make_up) * portrait.unit) & face
    canvas.paint(lashes, np.minimum(0.4 * look.brow, 0.35 * look.skin), alpha=0.9)
    canvas.paint(canvas.lines([lower], 0.015 * portrait.unit) & face, portrait.skin, alpha=0.4, gain=0.6)
    crease = canvas.lines([upper[1:-1] - (0, 0.055 * portrait.unit)], 0.015 * portrait.unit) & face
    canvas.paint(crease, portrait.skin, alpha=0.6, gain=0.6)


def paint_brow(portrait: Portrait, side: int) -> None:
    top, bottom = portrait.seen.brows[side > 0]
    mask = portrait.canvas.mask(rounded(np.concatenate([top, bottom[::-1]]), 1)) & portrait.face
    strength = portrait.scene.look.brow_strength
    base = np.clip(0.65 * strength * (1 + 0.3 * portrait.grain), 0.15, 0.85)
    part = "r_brow" if side < 0 else "l_brow"
    portrait.canvas.paint(mask, portrait.scene.look.brow, part=part, alpha=base, gain=portrait.half_shade)
    along = portrait.rng.uniform(0, 4, 70)
    step = np.minimum(along + 0.7, 4) if side > 0 else np.maximum(along - 0.7, 0)  # hairs lie outwards
    low, high = (np.stack([np.interp(at, range(5), axis) for axis in edge.T], -1)
                 for at, edge in ((along, bottom), (step, top)))  # fmt: skip
    inset = portrait.rng.uniform(0, 0.5, (70, 1))
    hairs = portrait.canvas.lines(np.stack([low + inset * (high - low), high], axis=1), 0.012 * portrait.unit) & mask
    portrait.canvas.paint(hairs, portrait.scene.look.brow, alpha=strength, gain=0.75 * portrait.half_shade)


def paint_mouth(portrait: Portrait) -> None:
    canvas, act, lips = portrait.canvas, portrait.scene.expression, portrait.scene.look.lips
    up_out, up_in, low_in, low_out = portrait.seen.lips
    gain = portrait.shade * (1 + 0.06 * portrait.grain)
    canvas.paint(canvas.mask(np.concatenate([low_out, low_in[::-1]])), 1.06 * lips, part="l_lip", gain=gain)
    canvas.paint(canvas.mask(np.concatenate([up_out, up_in[::-1]])), 0.92 * lips, part="u_lip", gain=gain)
    shine = canvas.lines([0.5 * (low_in[3:6] + low_out[5:8])], 0.04 * portrait.unit)
    canvas.paint(shine, 1.2 * lips + 14, alpha=0.5, gain=gain)
    if act.gap == 0:
        canvas.paint(canvas.lines([up_in], 0.02 * portrait.unit), 0.4 * lips, alpha=0.85, gain=gain)
        return
    inner = canvas.mask(np.concatenate([up_in, low_in[-2:0:-1]]))
    canvas.paint(inner, (58, 22, 24), part="mouth")
    tongue = np.concatenate([low_in[2:7], (0.6 * low_in + 0.4 * up_in)[6:1:-1]])
    canvas.paint(canvas.mask(rounded(tongue, 1)) & inner, (140, 70, 72), gain=portrait.half_shade)
    if act.teeth:
        reach = min(1.0, 0.11 / act.gap)
        bite = (1 - reach) * up_in + reach * low_in
        teeth = canvas.mask(np.concatenate([up_in[1:-1], bite[-2:0:-1]])) & inner
        canvas.paint(teeth, (232, 226, 212), gain=0.95 * portrait.half_shade)
        gaps = [np.stack([up_in[k] * (1 - f) + up_in[k + 1] * f, bite[k] * (1 - f) + bite[k + 1] * f])
                for k in range(1, 7) for f in (0.0, 0.5)]  # fmt: skip
        canvas.paint(canvas.lines(gaps, 0.012 * portrait.unit) & teeth, (120, 96, 84), alpha=0.35)


def paint_nose(portrait: Portrait) -> None:
    canvas, shape = portrait.canvas, portrait.scene.shape
    ridge, bridge, base = portrait.seen.nose
    parts = [hull(np.concatenate([bridge, ridge])), rounded(hull(np.concatenate([base, ridge[3:]])), 1)]
    nose = canvas.mask(*parts)
    canvas.paint(nose, portrait.skin, part="nose")
    w, ring = shape.nose_width, np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for s in (-1, 1):
        x, y = w * (0.48 * s + 0.24 * np.cos(ring)), shape.nose_length + 0.005 + 0.035 * np.sin(ring)
        nostril = canvas.mask(portrait.project(on_face(shape, x, y, 0.45 * shape.nose_depth))) & nose
        canvas.paint(nostril, portrait.skin, alpha=0.85, gain=0.35)
    canvas.paint(canvas.lines([base[:4], base[7:]], 0.025 * portrait.unit) & nose, portrait.skin, alpha=0.7, gain=0.68)
    tip = canvas.lines([base[3:8]], 0.02 * portrait.unit) & nose
    canvas.paint(tip, portrait.skin, alpha=0.6, gain=0.7)
