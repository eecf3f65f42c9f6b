"""Head space: the surface of the head, the curves of its features, their landmarks, and the way to the canvas.

The origin lies between the eyes, x points to the right of the picture, y down, z towards the viewer; the unit is half
the width of the face. All points pass through one rotation, so a turn of the head moves near and far parts by
different amounts, as in photographs. Curves run from left to right in the picture unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datamodules.synthesis.scene import FaceScene, Pose, Shape


@dataclass(frozen=True)
class Projection:
    """Head space -> canvas: rotation (3, 3), scale in canvas pixels per unit, origin (2,) in canvas pixels."""

    rotation: np.ndarray
    scale: float
    origin: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) -> canvas positions (N, 2), in canvas pixels; nearer points are seen a little larger."""
        turned = points @ self.rotation.T
        return self.origin + self.scale * turned[:, :2] * (1 + 0.06 * turned[:, 2:])

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
    below = np.maximum(y - 0.1, 0) / (shape.chin - 0.1)
    above = np.maximum(0.1 - y, 0) / 1.75
    return np.sqrt(np.maximum(1 - below**shape.jaw - above**2.4, 1e-6))


def on_face(shape: Shape, x: Any, y: Any, lift: Any = 0.0) -> np.ndarray:
    """Points (..., 3) of the face's surface at x and y, which broadcast, raised by `lift` towards the viewer."""
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    front = 0.95 - 0.12 * np.maximum(-0.2 - y, 0) ** 2
    edge = 0.75 * (np.maximum(y - 0.2, 0) / (shape.chin - 0.2)) ** 1.5  # the jaw comes forward to the chin
    across = np.sqrt(np.maximum(1 - (x / face_width(shape, y)) ** 2, 0))
    return np.stack([x, y, edge + (front - edge) * across + lift], axis=-1)


def face_mesh(shape: Shape, top: float | None = None) -> np.ndarray:
    """Points (N, 3) of the face from the hairline, or from height `top`, to the chin."""
    y = np.linspace(shape.hairline if top is None else top, shape.chin, 25)[:, None]
    x = np.linspace(-1, 1, 17) * face_width(shape, y)
    return on_face(shape, x, y if top is not None else np.maximum(y, hairline(shape, x))).reshape(-1, 3)


def hairline(shape: Shape, x: np.ndarray) -> np.ndarray:
    """Heights (y) of the hairline at x, of any shape."""
    return shape.hairline + shape.hairline_bend * x**2


def skull(thickness: float) -> np.ndarray:
    """Points (N, 3) of the cranium, grown by `thickness` of hair."""
    height = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 17))[:, None]
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.sqrt(1 - height**2)
    ball = np.stack([ring * np.cos(angle), height + 0 * angle, ring * np.sin(angle)], -1).reshape(-1, 3)
    return np.array([0, -0.45, -0.2]) + ball * (np.array([1.0, 1.08, 1.05]) + thickness)


def eye_curves(scene: FaceScene, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper and lower lid (9, 3), and the pupil (1, 3); `side` is -1 (left of the picture) or 1."""
    shape, act, s = scene.shape, scene.expression, np.linspace(-1, 1, 9)
    x = side * shape.eye_spacing + shape.eye_width * s
    middle = -shape.eye_tilt * s * side
    bow = np.sqrt(1 - np.abs(s + 0.15 * side * (1 - s**2)) ** 2.2)  # the lid peaks towards the nose
    low = middle + shape.eye_height * (0.55 - 0.15 * max(act.smile, 0)) * (1 - s**2)
    high = middle - shape.eye_height * (1.2 * act.lids - 0.2) * bow
    # Even closed lids leave the slit that LaPa labels as eye.
    upper, lower = on_face(shape, x, np.minimum(high, low - 0.03 * (1 - s**2))), on_face(shape, x, low)
    return upper, lower, (0.55 * upper[4] + 0.45 * lower[4] + (*act.gaze, 0.0))[None]


def brow_curves(scene: FaceScene, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Top and bottom edge (5, 3) of a brow; `side` is -1 (left of the picture) or 1."""
    shape, s = scene.shape, np.linspace(0, 1, 5)  # from the nose outwards
    x = side * (shape.eye_spacing - 0.29 + 0.68 * s)
    y = -shape.brow_height - scene.expression.brow_raise - shape.brow_arch * np.sin(np.pi * s**1.4) + 0.06 * s**2
    half = 0.5 * shape.brow_thickness * np.array([0.75, 1.0, 0.95, 0.7, 0.2])
    return on_face(shape, x, y - half)[::side], on_face(shape, x, y + half)[::side]


def lip_curves(scene: FaceScene) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Upper outer (13, 3), upper inner (9, 3), lower inner (9, 3), lower outer (13, 3)."""
    shape, act = scene.shape, scene.expression
    outer, inner = np.linspace(-1, 1, 13), np.linspace(-0.88, 0.88, 9)
    level, laugh = shape.nose_length + 0.36 + 0.5 * act.gap, max(act.smile, 0)
    width = shape.mouth_width * (1 + 0.2 * laugh - 0.25 * max(act.gap - 0.15, 0))
    corners, inner_corners = -0.12 * act.smile * outer**2, -0.12 * act.smile * inner**2
    part, inner_part = (0.5 * act.gap * np.maximum(1 - (s / 0.88) ** 2, 0) ** 0.7 for s in (outer, inner))
    bow = np.sqrt(1 - outer**2) * (1 - 0.22 * np.exp(-((outer / 0.16) ** 2))) * (1 - 0.25 * laugh)
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


def landmarks_of(scene: FaceScene, project: Projection) -> np.ndarray:
    """The 106 landmarks (106, 2), in canvas pixels and LaPa's order (see `faces.DrawnFace`)."""
    shape = scene.shape
    # The contour is what the viewer sees of the face: at each height the outermost point of the upright head.
    y = -0.1 + (shape.chin + 0.1) * np.sin(np.linspace(0, np.pi / 2, 17))[:, None]
    rows = on_face(shape, np.linspace(-1, 1, 41) * face_width(shape, y), y)
    seen = Projection.of(replace(scene.pose, roll=0), 1)(rows.reshape(-1, 3))[:, 0].reshape(rows.shape[:2])
    left, right = (rows[np.arange(17), outermost] for outermost in (seen.argmin(1), seen.argmax(1)))
    brows = [np.concatenate([top, bottom[3::-1]]) for top, bottom in (brow_curves(scene, s) for s in (-1, 1))]
    ridge, _, base = nose_curves(shape)
    lids_and_pupils = [eye_curves(scene, s) for s in (-1, 1)]
    eyes = [part for up, low, _ in lids_and_pupils for part in (up[::2], low[-3:0:-2], (up + low)[4:5] / 2)]
    pupils = [pupil for _, _, pupil in lids_and_pupils]
    up_out, up_in, low_in, low_out = lip_curves(scene)
    mouth = [up_out[::2], low_out[-3:0:-2], up_in[::2], low_in[-3:0:-2]]
    chin = on_face(shape, [0.0], shape.chin)
    parts = [left[:16], chin, right[15::-1], *brows, ridge, base, *eyes, *mouth, *pupils]
    return project(np.concatenate(parts))
