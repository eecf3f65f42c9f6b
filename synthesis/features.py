"""Paints the facial features: ears, eyes, brows, mouth and nose."""

from __future__ import annotations

import numpy as np

from synthesis.canvas import Mask, hull, rounded
from synthesis.head import on_face
from synthesis.portrait import Portrait

_RING = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_DISC = np.stack([np.cos(_RING), np.sin(_RING), 0 * _RING], axis=-1)
_DIAMOND = np.array([[-1, 0], [0, -1], [1, 0], [0, 1]])


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
        portrait.canvas.paint(mask, portrait.skin, part=part, occludes=("hair", "neck"), gain=0.92)
        hollow = portrait.canvas.mask(middle + 0.5 * (ear - middle))
        portrait.canvas.paint(hollow, portrait.skin, alpha=0.5, gain=0.6)
        rim = portrait.canvas.lines([middle + 0.6 * (ear - middle)], 0.04 * portrait.unit, closed=True)
        portrait.canvas.paint(rim & mask, portrait.skin, alpha=0.6, gain=0.7)


def paint_eyes(portrait: Portrait) -> None:
    canvas, look, face, unit = portrait.canvas, portrait.scene.look, portrait.face, portrait.unit
    upper, lower = zip(*(eye[:2] for eye in portrait.seen.eyes), strict=True)
    pupils = [pupil for _, _, pupil in portrait.features.eyes]
    for part, up, low in zip(("r_eye", "l_eye"), upper, lower, strict=True):
        canvas.keep(canvas.mask(np.concatenate([up, low[-2:0:-1]])) & face, part)
    opening = canvas.parts["r_eye"] | canvas.parts["l_eye"]
    canvas.paint(opening, (228, 220, 214), gain=portrait.half_shade)
    tears = [inner + 0.035 * unit * _DIAMOND for inner in (upper[0][-1], upper[1][0])]
    canvas.paint(canvas.mask(*tears) & opening, (200, 130, 120), alpha=0.7, gain=portrait.half_shade)

    def discs(radius: float, offset: tuple[float, float, float] = (0, 0, 0)) -> Mask:
        disc = radius * _DISC + offset
        return canvas.mask(*portrait.project(np.stack([pupil + disc for pupil in pupils]))) & opening

    for radius, gain in ((0.088, 0.45), (0.074, 0.9), (0.0546, 1.2)):
        canvas.paint(discs(radius), gain * look.iris)
    canvas.paint(discs(0.0352), (10, 10, 10))
    cast = canvas.lines([np.add(up, (0, 0.02 * unit)) for up in upper], 0.05 * unit) & opening
    canvas.paint(cast, (40, 30, 28), alpha=0.45)  # the upper lid's shadow on the ball
    glint = discs(0.0194, (0.03 * np.sign(portrait.scene.light.direction[0]), -0.03, 0))
    canvas.paint(glint, (245, 245, 245), alpha=0.85)
    lashes = canvas.lines(upper, (0.025 + 0.03 * look.make_up) * unit) & face
    canvas.paint(lashes, np.minimum(0.4 * look.brow, 0.35 * look.skin), alpha=0.9)
    canvas.paint(canvas.lines(lower, 0.015 * unit) & face, portrait.skin, alpha=0.4, gain=0.6)
    creases = canvas.lines([up[1:-1] - (0, 0.055 * unit) for up in upper], 0.015 * unit) & face
    canvas.paint(creases, portrait.skin, alpha=0.6, gain=0.6)


def paint_brows(portrait: Portrait) -> None:
    canvas, look, rng = portrait.canvas, portrait.scene.look, portrait.rng
    hairs = []
    for part, (top, bottom) in zip(("r_brow", "l_brow"), portrait.seen.brows, strict=True):
        canvas.keep(canvas.mask(rounded(np.concatenate([top, bottom[::-1]]), 1)) & portrait.face, part)
        along = rng.uniform(0, 4, 70)
        step = np.minimum(along + 0.7, 4) if part == "l_brow" else np.maximum(along - 0.7, 0)  # hairs lie outwards
        low, high = (np.stack([np.interp(at, range(5), axis) for axis in edge.T], -1)
                     for at, edge in ((along, bottom), (step, top)))  # fmt: skip
        hairs.append(np.stack([low + rng.uniform(0, 0.5, (70, 1)) * (high - low), high], axis=1))
    brows = canvas.parts["r_brow"] | canvas.parts["l_brow"]
    base = np.clip(0.65 * look.brow_strength * (1 + 0.3 * portrait.grain), 0.15, 0.85)
    canvas.paint(brows, look.brow, alpha=base, gain=portrait.half_shade)
    strokes = canvas.lines(np.concatenate(hairs), 0.012 * portrait.unit) & brows
    canvas.paint(strokes, look.brow, alpha=look.brow_strength, gain=0.75 * portrait.half_shade)


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
    x = shape.nose_width * (0.24 * np.cos(_RING) + [[-0.48], [0.48]])
    y = shape.nose_length + 0.005 + 0.035 * np.sin(_RING)
    nostrils = canvas.mask(*portrait.project(on_face(shape, x, y, 0.45 * shape.nose_depth))) & nose
    canvas.paint(nostrils, portrait.skin, alpha=0.85, gain=0.35)
    canvas.paint(canvas.lines([base[:4], base[7:]], 0.025 * portrait.unit) & nose, portrait.skin, alpha=0.7, gain=0.68)
    tip = canvas.lines([base[3:8]], 0.02 * portrait.unit) & nose
    canvas.paint(tip, portrait.skin, alpha=0.6, gain=0.7)
