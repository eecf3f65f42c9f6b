"""The landmarks of a synthetic face, in the orders of LaPa and of iBUG and dlib."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datamodules.landmarks import INNER_LIP_PLACES, LID_PLACES, OUTER_LIP_PLACES, ring
from synthesis.head import Features, Projection, face_width, on_face
from synthesis.scene import FaceScene


def landmarks(scene: FaceScene, seen: Features, project: Projection) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks of a face in canvas pixels: LaPa's (106, 2), iBUG's and dlib's (68, 2); see `faces.SyntheticFace`.

    `seen` are the face's features on the canvas.
    """
    chin = scene.shape.chin
    heights = np.concatenate([-0.1 + (chin + 0.1) * _ROUND, chin * _SPACED])
    left, right = (project(side) for side in _contour(scene, heights))
    lowest = project(on_face(scene.shape, np.zeros(1), chin))
    n = len(_ROUND)
    (ridge, _, base), (up_out, up_in, low_in, low_out) = seen.nose, seen.lips
    brows = [np.concatenate([top, bottom[3::-1]]) for top, bottom in seen.brows]
    eyes = [part for up, low, _ in seen.eyes for part in (up[::2], low[-3:0:-2], (up + low)[4:5] / 2)]
    lips = up_out[::2], low_out[-3:0:-2], up_in[::2], low_in[-3:0:-2]
    pupils = [pupil for _, _, pupil in seen.eyes]
    points_106 = [left[: n - 1], lowest, right[n - 2 :: -1], *brows, ridge, base, *eyes, *lips, *pupils]
    brows = [0.65 * top + 0.35 * bottom for top, bottom in seen.brows]
    eyes = [ring(up, low, LID_PLACES) for up, low, _ in seen.eyes]
    rings = ring(up_out, low_out, OUTER_LIP_PLACES), ring(up_in, low_in, INNER_LIP_PLACES)
    points_68 = [left[n:], lowest, right[: n - 1 : -1], *brows, ridge, base[3:8], *eyes, *rings]
    return np.concatenate(points_106), np.concatenate(points_68)


_ROUND = np.sin(np.linspace(0, np.pi / 2, 17))
# The spacing that annotators of 300-W choose, measured with dlib on frontal photographs.
_SPACED = np.array((0, 0.16, 0.323, 0.483, 0.635, 0.767, 0.881, 0.96))


def _contour(scene: FaceScene, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outermost points (N, 3) that the viewer sees left and right at heights y (N,) of the upright head."""
    rows = on_face(scene.shape, np.linspace(-1, 1, 41) * face_width(scene.shape, y[:, None]), y[:, None])
    seen = Projection.of(replace(scene.pose, roll=0), 1)(rows.reshape(-1, 3))[:, 0].reshape(rows.shape[:2])
    left, right = (rows[np.arange(len(y)), outermost] for outermost in (seen.argmin(1), seen.argmax(1)))
    return left, right
