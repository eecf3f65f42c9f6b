"""The landmarks of a drawn face, in the two orders that the field uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datamodules.synthesis.head import Features, Projection, face_width, on_face
from datamodules.synthesis.scene import FaceScene


def landmarks_106(scene: FaceScene, features: Features, project: Projection) -> np.ndarray:
    """The 106 landmarks (106, 2), in canvas pixels and LaPa's order (see `faces.DrawnFace`)."""
    shape = scene.shape
    left, right = _contour(scene, -0.1 + (shape.chin + 0.1) * np.sin(np.linspace(0, np.pi / 2, 17)))
    brows = [np.concatenate([top, bottom[3::-1]]) for top, bottom in features.brows]
    ridge, _, base = features.nose
    eyes = [part for up, low, _ in features.eyes for part in (up[::2], low[-3:0:-2], (up + low)[4:5] / 2)]
    pupils = [pupil for _, _, pupil in features.eyes]
    up_out, up_in, low_in, low_out = features.lips
    mouth = [up_out[::2], low_out[-3:0:-2], up_in[::2], low_in[-3:0:-2]]
    chin = on_face(shape, [0.0], shape.chin)
    parts = [left[:16], chin, right[15::-1], *brows, ridge, base, *eyes, *mouth, *pupils]
    return project(np.concatenate(parts))


def landmarks_68(scene: FaceScene, features: Features, project: Projection) -> np.ndarray:
    """The 68 landmarks (68, 2) of iBUG and dlib, in canvas pixels (see `faces.DrawnFace`)."""
    # The spacing that annotators of 300-W choose, measured with dlib on frontal photographs.
    left, right = _contour(scene, scene.shape.chin * np.array((0, 0.16, 0.323, 0.483, 0.635, 0.767, 0.881, 0.96)))
    contour = [left, on_face(scene.shape, [0.0], scene.shape.chin), right[::-1]]
    brows = [0.65 * top + 0.35 * bottom for top, bottom in features.brows]
    ridge, _, base = features.nose

    def ring(upper: np.ndarray, lower: np.ndarray, places: Sequence[float]) -> np.ndarray:
        """Points at the places (fractions of the way) of the upper curve, then of the lower one backwards."""
        at = np.linspace(0, 1, len(upper))
        up, low = (np.stack([np.interp(places, at, axis) for axis in curve.T], -1) for curve in (upper, lower))
        return np.concatenate([up, low[-2:0:-1]])

    eyes = [ring(up, low, (0, 0.32, 0.68, 1)) for up, low, _ in features.eyes]
    up_out, up_in, low_in, low_out = features.lips
    outer, inner = (
        ring(up_out, low_out, (0, 0.18, 0.36, 0.5, 0.64, 0.82, 1)),
        ring(up_in, low_in, (0, 0.34, 0.5, 0.66, 1)),
    )
    return project(np.concatenate([*contour, *brows, ridge, base[3:8], *eyes, outer, inner]))


def _contour(scene: FaceScene, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outermost points (N, 3) that the viewer sees left and right at heights y (N,) of the upright head."""
    rows = on_face(scene.shape, np.linspace(-1, 1, 41) * face_width(scene.shape, y[:, None]), y[:, None])
    seen = Projection.of(replace(scene.pose, roll=0), 1)(rows.reshape(-1, 3))[:, 0].reshape(rows.shape[:2])
    left, right = (rows[np.arange(len(y)), outermost] for outermost in (seen.argmin(1), seen.argmax(1)))
    return left, right
