"""Head space: the surface of the head, the curves of its features, and their projection to the canvas.

The origin lies between the eyes, x points to the right of the image, y down, z towards the viewer; the unit is half
the width of the face. All points pass through one rotation, so a turn of the head moves near and far parts by
different amounts, as in photographs. Curves run from left to right in the image unless documented otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np

from synthesis.scene import FaceScene, Pose, Shape


@dataclass(frozen=True)
class Projection:
    """Head space -> canvas: rotation (3, 3), scale in canvas pixels per unit, origin (2,) in canvas pixels."""

    rotation: np.ndarray
    scale: float
    origin: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) -> canvas positions (..., 2), in canvas pixels; nearer points are seen a little larger."""
        turned = points @ self.rotation.T
        return self.origin + self.scale * turned[..., :2] * (1 + 0.06 * turned[..., 2:])

    @staticmethod
    def of(pose: Pose, side: int) -> Projection:
        """How a head in this pose appears on a canvas `side` pixels wide."""
        (a, b, c), (p, q, r) = (f(np.deg2rad((pose.yaw, pose.pitch, pose.roll))) for f in (np.cos, np.sin))
        yaw = np.array([[a, 0, p], [0, 1, 0], [-p, 0, a]])
        pitch = np.array([[1, 0, 0], [0, b, q], [0, -q, b]])
        roll = np.array([[c, -r, 0], [r, c, 0], [0, 0, 1]])
        return Projection(roll @ pitch @ yaw, pose.scale * side, np.array(pose.centre) * side)


def face_width(shape: Shape, y: np.ndarray) -> np.ndarray:
    """Half the width of the face at heights y, of any shape: a superellipse above, another below the cheekbones."""
    below = np.clip((y - 0.1) / (shape.chin - 0.1), 0, 1)
    above = np.maximum(0.1 - y, 0) / 1.8
    return np.sqrt(np.maximum(1 - below**shape.jaw - above**2.6, 1e-6))


def on_face(shape: Shape, x: Any, y: Any, lift: Any = 0.0) -> np.ndarray:
    """Points (..., 3) of the face's surface at x and y, which broadcast, raised by `lift` towards the viewer."""
    y = np.asarray(y, np.result_type(y, np.float32))
    front = 0.95 - 0.12 * np.maximum(-0.2 - y, 0) ** 2
    edge = 0.75 * (np.maximum(y - 0.2, 0) / (shape.chin - 0.2)) ** 1.5  # the jaw comes forward to the chin
    across = np.sqrt(np.maximum(1 - (x / face_width(shape, y)) ** 2, 0))
    z = edge + (front - edge) * across + lift
    points = np.empty((*z.shape, 3), z.dtype)
    points[..., 0], points[..., 1], points[..., 2] = x, y, z
    return points


def face_mesh(shape: Shape, top: float | None = None) -> np.ndarray:
    """Points (N, 3) of the face from the hairline, or from height `top`, to the chin."""
    start = shape.hairline if top is None else top
    y = start + (shape.chin - start) * np.sin(np.linspace(0, np.pi / 2, 25))[:, None]  # dense where the chin rounds
    x = np.linspace(-1, 1, 17) * face_width(shape, y)
    return on_face(shape, x, y if top is not None else np.maximum(y, hairline(shape, x))).reshape(-1, 3)


def hairline(shape: Shape, x: np.ndarray) -> np.ndarray:
    """Heights (y) of the hairline at x, of any shape."""
    temple = np.maximum(np.abs(x) - 0.55, 0)
    return shape.hairline + shape.hairline_bend * x**2 + 1.6 * temple**2


def skull(thickness: float) -> np.ndarray:
    """Points (N, 3) of the cranium, grown by `thickness` of hair."""
    height = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 17))[:, None]
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.sqrt(1 - height**2)
    ball = np.stack([ring * np.cos(angle), height + 0 * angle, ring * np.sin(angle)], -1).reshape(-1, 3)
    return np.array([0, -0.5, -0.2]) + ball * (np.array([0.99, 1.1, 1.05]) + thickness)


_EYE, _BROW, _LIP = np.linspace(-1, 1, 9), np.linspace(0, 1, 5), np.linspace(-1, 1, 13)  # brows from the nose outwards


def eye_curves(scene: FaceScene, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper and lower lid (9, 3), and the pupil (1, 3); `side` is -1 (left of the image) or 1."""
    shape, act, s = scene.shape, scene.expression, _EYE
    x = side * shape.eye_spacing + shape.eye_width * s
    middle = -shape.eye_tilt * s * side
    bow = np.sqrt(1 - np.abs(s + 0.15 * side * (1 - s**2)) ** 2.2)  # the lid peaks towards the nose
    low = middle + shape.eye_height * (0.55 - 0.15 * max(act.smile, 0)) * (1 - s**2)
    high = middle - shape.eye_height * (1.2 * act.lids - 0.2) * bow
    # Even closed lids leave the slit that LaPa labels as eye.
    upper, lower = on_face(shape, x, np.minimum(high, low - 0.03 * (1 - s**2))), on_face(shape, x, low)
    return upper, lower, (0.55 * upper[4] + 0.45 * lower[4] + (*act.gaze, 0.0))[None]


def brow_curves(scene: FaceScene, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Top and bottom edge (5, 3) of a brow; `side` is -1 (left of the image) or 1."""
    shape, s = scene.shape, _BROW
    x = side * (shape.eye_spacing - 0.29 + 0.68 * s)
    y = -shape.brow_height - scene.expression.brow_raise - shape.brow_arch * np.sin(np.pi * s**1.4) + 0.06 * s**2
    half = 0.5 * shape.brow_thickness * np.array([0.75, 1.0, 0.95, 0.7, 0.2])
    return on_face(shape, x, y - half)[::side], on_face(shape, x, y + half)[::side]


@dataclass(frozen=True)
class Features:
    """The curves of a scene's features; eyes and brows are those left and right in the image."""

    eyes: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    brows: tuple[tuple[np.ndarray, np.ndarray], ...]
    lips: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    nose: tuple[np.ndarray, np.ndarray, np.ndarray]

    def seen(self, project: Projection) -> Features:
        """The same curves (..., 2) on the canvas."""
        curves = [*chain(*self.eyes), *chain(*self.brows), *self.lips, *self.nose]
        flat = iter(np.split(project(np.concatenate(curves)), np.cumsum([len(curve) for curve in curves])[:-1]))
        take = partial(islice, flat)
        eyes, brows = (tuple(tuple(take(count)) for _ in range(2)) for count in (3, 2))
        return Features(eyes, brows, tuple(take(4)), tuple(take(3)))


def features_of(scene: FaceScene) -> Features:
    """The curves of eyes, brows, lips and nose of a scene, see `eye_curves` and the others."""
    eyes = tuple(eye_curves(scene, side) for side in (-1, 1))
    brows = tuple(brow_curves(scene, side) for side in (-1, 1))
    return Features(eyes, brows, lip_curves(scene), nose_curves(scene.shape))


def mouth_level(scene: FaceScene) -> float:
    """Height (y) at which closed lips meet."""
    return scene.shape.nose_length + 0.27


def lip_curves(scene: FaceScene) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Upper outer (13, 3), upper inner (9, 3), lower inner (9, 3), lower outer (13, 3)."""
    shape, act = scene.shape, scene.expression
    outer, inner = _LIP, 0.88 * _EYE
    level, laugh = mouth_level(scene) + 0.5 * act.gap, max(act.smile, 0)
    width = shape.mouth_width * (1 + 0.2 * laugh - 0.25 * max(act.gap - 0.15, 0))
    corners, inner_corners = -0.12 * act.smile * outer**2, -0.12 * act.smile * inner**2
    part, inner_part = (0.5 * act.gap * np.maximum(1 - (s / 0.88) ** 2, 0) ** 0.7 for s in (outer, inner))
    peak = 1 - np.abs(outer) ** 1.5
    bow = peak * (1 - 0.2 * np.exp(-((outer / 0.17) ** 2))) * (1 - 0.25 * laugh)
    swell = shape.lower_lip * (1 - outer**2) ** 0.75
    return (
        on_face(shape, width * outer, level + corners - part - shape.upper_lip * bow, 0.05),
        on_face(shape, width * inner, level + inner_corners - inner_part, 0.06),
        on_face(shape, width * inner, level + inner_corners + inner_part, 0.06),
        on_face(shape, width * outer, level + corners + part + swell, 0.05),
    )


def nose_curves(shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge (4, 3) downwards; sides of the bridge (8, 3), left then right; wings and base (11, 3)."""
    length, width, depth, t = shape.nose_length, shape.nose_width, shape.nose_depth, np.linspace(0, 1, 4)
    ridge = on_face(shape, 0.0, -0.06 + (length - 0.08) * t, 0.06 + depth * t**1.3)
    reach = shape.bridge_width + (0.62 * width - shape.bridge_width) * t**1.5
    bridge = on_face(shape, np.stack([-reach, reach]), -0.06 + (length - 0.1) * t, 0.02 + 0.25 * depth * t)
    half = np.array([[0.78, 1.0, 0.97, 0.72, 0.36], [-0.21, -0.12, -0.03, 0.03, 0.035], [0.25, 0.2, 0.2, 0.3, 0.5]])
    left, right = half * [[-1], [1], [1]], half[:, ::-1]
    x, y, lift = np.concatenate([left, [[0], [0.06], [0.62]], right], axis=1)
    return ridge, bridge.reshape(-1, 3), on_face(shape, width * x, length + y, depth * lift)


def relief(scene: FaceScene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far brow, sockets, cheeks, nose, lips and chin stand out of the egg, in head units.

    x is (rows, columns) and y (rows, 1), both float32; so is what is returned, (rows, columns).
    """
    shape, act, look = scene.shape, scene.expression, scene.look
    n, w, d, e, m = shape.nose_length, shape.nose_width, shape.nose_depth, shape.eye_spacing, mouth_level(scene)
    aside, laugh, low = np.abs(x), max(act.smile, 0), m + act.gap

    def bump(height: float, across: Any, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
        return np.exp(-(((across - np.float32(cx)) * np.float32(1 / sx)) ** 2)) * (
            height * np.exp(-(((y - cy) / sy) ** 2))
        )

    z = bump(0.025 + 0.045 * look.masculine, aside, e - 0.12, -0.24, 0.3, 0.1)  # brow ridge
    z += bump(-0.1, aside, e, -0.03, 0.24, 0.14) + bump(-0.07, aside, 0.2, -0.02, 0.08, 0.12)  # sockets
    z += bump(0.1, aside, e, -0.01, 0.16, 0.1)  # eyeballs under their lids
    z += bump(-0.022 - 0.03 * look.age, aside, e, 0.16, 0.2, 0.045)  # under the eyes
    z += bump(0.08 + 0.05 * laugh, aside, 0.58, 0.36, 0.22, 0.18)  # cheekbones
    z += bump(-0.05 - 0.04 * look.age + 0.06 * laugh, aside, 0.66, 0.85, 0.2, 0.25)  # hollows of the cheeks
    t = np.clip((y + 0.16) / (n + 0.05), 0, 1)
    fall = 1 / (1 + np.exp((y - n - 0.015) / 0.022))
    half = 0.07 + (0.34 * w - 0.02) * t**3
    z += d * (0.06 + 0.94 * t**1.3) * np.clip(t * 6, 0, 1) * fall * np.exp(-((aside / half) ** 2.2))  # bridge and tip
    z += bump(0.55 * d, aside, 0.7 * w, n - 0.07, 0.36 * w, 0.085) * (0.3 + 0.7 * fall)  # wings
    z += bump(0.09, x, 0, m, 0.44, 0.28) + bump(-0.03, x, 0, n + 0.12, 0.045, 0.06)  # muzzle, philtrum
    plump = np.clip(1 - (aside / (1.05 * shape.mouth_width)) ** 2, 0, 1)
    z += plump * bump(0.06, x, 0, m - 0.55 * shape.upper_lip, 9, 0.6 * shape.upper_lip)
    z += plump * bump(0.085, x, 0, low + 0.5 * shape.lower_lip, 9, 0.6 * shape.lower_lip)
    z += bump(-0.06, x, 0, low + shape.lower_lip + 0.09, 0.24, 0.06)  # fold above the chin
    z += bump(0.1 + 0.04 * look.masculine, x, 0, shape.chin - 0.2, 0.22, 0.15)
    x0, y0, x1, y1 = w + 0.04, n - 0.12, shape.mouth_width + 0.12, m + 0.04
    along = ((aside - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) * (1 / ((x1 - x0) ** 2 + (y1 - y0) ** 2))
    along = np.clip(along, 0, 1)
    from_fold = (aside - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2
    z -= (0.012 + 0.035 * look.age + 0.04 * laugh) * np.exp(-from_fold / 0.045**2)  # from nose to mouth
    z += bump(-0.06, aside, 0.98, -0.35, 0.2, 0.3)  # temples
    lines = np.sin(2 * np.pi * (y + 0.05 * np.cos(3 * x)) / 0.13) * bump(1, x, 0, -0.62, 0.5, 0.2)
    return z + max(look.age - 0.35, 0) * 0.01 * lines  # wrinkles of the forehead
