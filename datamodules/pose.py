"""Head pose from 68 landmarks: a rough estimate, for grouping faces."""

from __future__ import annotations

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
    left, right = (landmarks[place] for place in EYE_CORNERS)
    roll = math.atan2(right[1] - left[1], right[0] - left[0])
    upright = [_turned(landmarks[place], -roll) for place in (*EYE_CORNERS, NOSE_TIP, *MOUTH_CORNERS)]
    first, second, tip, *mouth = upright
    middle, half = (first[0] + second[0]) / 2, max(1e-6, abs(second[0] - first[0]) / 2)
    yaw = math.atan((tip[0] - middle) / half / DEPTH)
    eyes, lips = (first[1] + second[1]) / 2, (mouth[0][1] + mouth[1][1]) / 2
    pitch = math.atan(((tip[1] - eyes) / max(1e-6, lips - eyes) - TIP) / RISE)
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def pose_groups(landmarks: Sequence[Point]) -> tuple[str, str, str]:
    """The groups that a face belongs to by its pose: ``yaw/0-15``, ``yaw/15-30`` or ``yaw/30-``, and so on."""
    yaw, pitch, roll = (_bin(angle) for angle in pose(landmarks))
    return f"yaw/{yaw}", f"pitch/{pitch}", f"roll/{roll}"


def _bin(angle: float) -> str:
    size = abs(angle)
    return "0-15" if size < 15 else "15-30" if size < 30 else "30-"


def _turned(point: Point, angle: float) -> tuple[float, float]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * point[0] - sine * point[1], sine * point[0] + cosine * point[1]
