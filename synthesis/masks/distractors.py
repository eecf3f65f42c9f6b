"""Distractors, which are no face masks: spectacles, a hand or an object at the mouth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synthesis.masks.shapes import Face


@dataclass(frozen=True)
class DistractorLayer:
    """One layer of one colour.

    Args:
        outlines: polygons (N, 2), in pixels; or curves, where ``line`` is above 0.
        colour: float (3,), RGB in 0..255.
        line: width of the curves, in pixels; 0 fills.
        opacity: 0..1.
        rounded: distance over which light falls off to its edges, in pixels; 0 for a flat layer.
        as_seen: whether the colour comes from the image and includes its lighting.
    """

    outlines: list[np.ndarray]
    colour: np.ndarray
    line: float = 0.0
    opacity: float = 1.0
    rounded: float = 0.0
    as_seen: bool = False


def distractor_layers(kind: str, face: Face, image: np.ndarray, rng: np.random.Generator) -> Iterator[DistractorLayer]:
    """The layers of a distractor, from back to front; a hand has the skin's colour in `image` (H, W, 3) uint8."""
    return {"spectacles": _spectacles, "hand": _hand, "object": _object}[kind](face, image, rng)


def _spectacles(face: Face, _: np.ndarray, rng: np.random.Generator) -> Iterator[DistractorLayer]:
    ring, power = np.linspace(0, 2 * np.pi, 33), float(rng.choice([0.5, 0.7, 1.0]))
    c, s = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(ring), np.sin(ring)))
    wide, high = face.width * rng.uniform(0.17, 0.2), face.width * rng.uniform(0.11, 0.15)
    turn = np.cos(face.yaw)
    rims, inner = [], []
    for side, eye in ((-1, slice(36, 42)), (1, slice(42, 48))):
        middle = face.points[eye].mean(axis=0) + 0.02 * face.width * face.down
        near = turn * (1 - 0.25 * side * np.sin(face.yaw))
        rims.append(middle + np.stack([near * wide * c, high * s], axis=-1) @ np.stack([face.across, face.down]))
        inner.append(middle - side * near * wide * face.across)
    temples = [
        np.stack([rim[0 if side > 0 else 16], face.jaw(0, side) - 0.06 * face.width * face.down])
        for side, rim in zip((-1, 1), rims, strict=True)
        if side * face.yaw < 0.45
    ]
    dark = rng.random() < 0.25
    glass = np.array((24, 24, 28) if dark else (235, 240, 245), float)
    yield DistractorLayer(rims, glass, opacity=0.9 if dark else 0.07)
    frame = rng.choice([(24, 22, 24), (70, 46, 32), (150, 150, 156), (120, 30, 40)]).astype(float)
    yield DistractorLayer([*rims, np.array(inner), *temples], frame, line=face.width * rng.uniform(0.012, 0.03))


def _hand(face: Face, image: np.ndarray, rng: np.random.Generator) -> Iterator[DistractorLayer]:
    """Fingers over the mouth, from below and from one side."""
    skin, side, unit = _skin(face, image), int(rng.choice([-1, 1])), face.width
    reach = face.middle(float(rng.uniform(1.3, 2.0)))
    lean = rng.uniform(0.15, 0.9) * side
    along = -(np.cos(lean) * face.down + np.sin(lean) * face.across)  # from the wrist to the finger tips
    sideways = np.array([-along[1], along[0]])
    palm = reach - along * 0.4 * unit
    wrist = palm - along * 0.3 * unit

    def limb(start: np.ndarray, end: np.ndarray, first: float, last: float) -> np.ndarray:
        way = (end - start) / max(float(np.hypot(*(end - start))), 1e-6)
        aside = np.array([-way[1], way[0]])
        turn = np.linspace(-np.pi / 2, np.pi / 2, 9)
        tip = end + last * (np.cos(turn)[:, None] * way + np.sin(turn)[:, None] * aside)
        return np.concatenate([[start - first * aside], tip, [start + first * aside]])

    arm = limb(wrist - along * 1.2 * unit, palm, 0.2 * unit, 0.24 * unit)
    yield DistractorLayer([arm], 0.94 * skin, rounded=0.09 * unit, as_seen=True)
    thumb = limb(
        palm - sideways * 0.2 * unit, palm - sideways * 0.42 * unit + along * 0.22 * unit, 0.07 * unit, 0.055 * unit
    )
    yield DistractorLayer([thumb], 0.96 * skin, rounded=0.03 * unit, as_seen=True)
    lengths = np.array([0.36, 0.44, 0.42, 0.32]) * unit * rng.uniform(0.9, 1.15)
    for place, length in zip(np.linspace(-0.17, 0.17, 4), lengths, strict=True):
        start = palm + sideways * place * unit
        finger = limb(start, start + along * length + sideways * 0.15 * place * unit, 0.055 * unit, 0.045 * unit)
        yield DistractorLayer([finger], skin * rng.uniform(0.96, 1.03), rounded=0.035 * unit, as_seen=True)


def _object(face: Face, _: np.ndarray, rng: np.random.Generator) -> Iterator[DistractorLayer]:
    """A cup, a microphone or a telephone at the mouth."""
    unit, mouth = face.width, face.middle(2.0)
    axes = np.stack([face.across, face.down])
    colour = rng.uniform(20, 235, 3)
    kind = rng.choice(["cup", "microphone", "telephone"])
    if kind == "cup":
        cup = np.array([(-0.24, -0.06), (0.24, -0.06), (0.19, 0.6), (-0.19, 0.6)]) * unit
        yield DistractorLayer([mouth + cup @ axes], colour, rounded=0.08 * unit)
        lid = np.array([(-0.26, -0.1), (0.26, -0.1), (0.26, -0.03), (-0.26, -0.03)]) * unit
        yield DistractorLayer([mouth + lid @ axes], 0.4 * colour + 140, rounded=0.03 * unit)
    elif kind == "microphone":
        side = float(rng.choice([-1, 1]))
        end = mouth + (np.array([0.5 * side, 0.9]) * unit) @ axes
        way = (end - mouth) / np.hypot(*(end - mouth))
        aside = 0.06 * unit * np.array([-way[1], way[0]])
        handle = np.array([mouth - aside, mouth + aside, end + 0.7 * aside, end - 0.7 * aside])
        yield DistractorLayer([handle], 0.3 * colour)
        turn = np.linspace(0, 2 * np.pi, 24)
        ball = mouth + 0.13 * unit * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        yield DistractorLayer([ball], np.array((92.0, 94.0, 98.0)), rounded=0.06 * unit)
    else:
        side, lean = float(rng.choice([-1, 1])), rng.uniform(-0.4, 0.4)
        flat = np.array([(-0.16, -0.34), (0.16, -0.34), (0.16, 0.34), (-0.16, 0.34)]) * unit
        c, s = np.cos(lean), np.sin(lean)
        middle = mouth + (np.array([0.12 * side, 0.05]) * unit) @ axes
        yield DistractorLayer([middle + flat @ np.array([[c, s], [-s, c]]) @ axes], 0.25 * colour)


def _skin(face: Face, image: np.ndarray) -> np.ndarray:
    """The colour of the cheeks, float (3,)."""
    places = [(face.points[a] + face.points[b]) / 2 for a, b in ((2, 31), (14, 35), (41, 31), (46, 35))]
    height, width = image.shape[:2]
    x, y = np.clip(np.rint(places).astype(int), 0, [width - 1, height - 1]).T
    return np.median(image[y, x], axis=0).astype(float)
