"""Head pose from 68 landmarks: a rough estimate, for grouping faces."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence

NOSE_TIP, EYE_CORNERS, MOUTH_CORNERS = 30, (36, 45), (48, 54)
DEPTH = 0.6
"""Depth of the nose's tip in front of the outer eye corners, in halves of their distance."""
TIP, RISE = 0.531, 0.422
"""Position of the tip between eyes (0) and mouth (1) in a level face, and its change with the pitch's tangent."""

Point = Sequence[float]


def pose(landmarks: Sequence[Point]) -> tuple[float, float, float]:
    """68 landmarks (x right, y down) -> yaw, pitch and roll in degrees.

    Yaw is positive where the nose points to the image's right, pitch where it points down, roll where the eyes' line
    falls to the right. A weak-perspective estimate from five points of a mean head; good to some ten degrees.
    """
    points = [complex(*landmarks[place]) for place in (*EYE_CORNERS, NOSE_TIP, *MOUTH_CORNERS)]
    roll = cmath.phase(points[1] - points[0])
    first, second, tip, *mouth = (point * cmath.rect(1, -roll) for point in points)
    eyes, lips, half = (first + second) / 2, (mouth[0] + mouth[1]) / 2, max(1e-6, abs(second.real - first.real) / 2)
    yaw = math.atan((tip.real - eyes.real) / half / DEPTH)
    pitch = math.atan(((tip.imag - eyes.imag) / max(1e-6, lips.imag - eyes.imag) - TIP) / RISE)
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def pose_groups(landmarks: Sequence[Point]) -> tuple[str, str, str]:
    """The groups that a face belongs to by its pose: ``yaw/0-15``, ``yaw/15-30`` or ``yaw/30-``, and so on."""
    yaw, pitch, roll = (_bin(angle) for angle in pose(landmarks))
    return f"yaw/{yaw}", f"pitch/{pitch}", f"roll/{roll}"


def _bin(angle: float) -> str:
    size = abs(angle)
    return "0-15" if size < 15 else "15-30" if size < 30 else "30-"
