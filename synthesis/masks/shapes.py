"""The shape of each mask type on a face: a grid of points over the fabric, placed by the 68 landmarks.

Columns of the grid run from one side of the fabric to the other (u, -1 to 1), rows from its top edge to its bottom edge
(v, 0 to 1). The far side of a turned head is foreshortened; parts off the face, as a cup, shift with the yaw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline

ROWS, COLUMNS = 9, 13
_THIRDS = np.linspace(0, 1, 4)

HEIGHTS = np.array([0.0, 1.0, 1.25, 1.6, 2.0, 2.4, 3.0])
"""Heights along the middle line of the face: nose ridge, its tip, its base, upper lip, mouth, lower lip, chin;
extrapolated beyond the chin."""

TIP, MOUTH, CHIN = 1.0, 2.0, 3.0


@dataclass(frozen=True)
class Cut:
    """The shape of a mask type; lengths in widths of the face.

    Args:
        top: height of the top edge in the middle, see :data:`HEIGHTS`.
        bottom: height of the bottom edge in the middle.
        sides: the points of the jaw (0 to 16, here of the left half) that the upper and the lower corner lie on.
        reach: angle from the middle of the face to the side edge, in degrees about the head's axis.
        sag: how far the top edge hangs between nose and corner.
        margin: how far the bottom edge lies outside the jaw.
        stand_off: distance of the fabric from the face in its middle.
        aside: offset of the lower corners, outwards from the jaw and downwards.
        spread: exponent of that offset on the way down; 1 is linear.
        straps: ``ears``, ``head`` or none.
    """

    top: float
    bottom: float
    sides: tuple[float, float]
    reach: float = 66.0
    sag: float = 0.02
    margin: float = 0.035
    stand_off: float = 0.04
    aside: tuple[float, float] = (0.0, 0.0)
    spread: float = 1.5
    straps: str = "none"


CUTS = {
    "surgical": Cut(0.42, 3.25, (1.9, 4.2), 68, sag=0.03, stand_off=0.05, straps="ears"),
    "n95": Cut(0.5, 3.2, (2.6, 4.0), 60, sag=0.015, stand_off=0.12, straps="head"),
    "kn95": Cut(0.45, 3.25, (2.2, 4.0), 65, sag=0.02, stand_off=0.15, straps="ears"),
    "cloth": Cut(0.5, 3.2, (1.8, 4.4), 70, sag=0.035, margin=0.025, straps="ears"),
    "respirator": Cut(0.55, 3.15, (3.0, 4.8), 52, sag=0.0, stand_off=0.17, straps="head"),
    "handkerchief": Cut(0.5, 4.6, (0.9, 3.2), 88, sag=0.02, stand_off=0.05, margin=0.05),
    "scarf": Cut(0.7, 4.5, (1.2, 5.4), 90, sag=0.04, stand_off=0.09, margin=0.14, aside=(0.16, 0.12)),
    "niqab": Cut(0.4, 5.2, (0.6, 3.0), 86, sag=0.0, stand_off=0.06, margin=0.2, aside=(0.5, 1.1), spread=2.2),
}


ONE_PIECE = Cut(0.5, 3.2, (2.2, 4.6), 54, sag=0.01, margin=0.045, stand_off=0.05)
"""A cloth mask in one piece with its ear loops: narrower, since the loops continue to the ear."""


@dataclass(frozen=True)
class Face:
    """Geometry of a face, from its landmarks.

    Args:
        points: float64 (68, 2), in pixels.
        across: unit vector (2,) from the left of the face to its right, in the image.
        down: unit vector (2,) from eyes to chin.
        width: of the face seen from the front, in pixels.
        yaw: how far the face is turned to the right of the image, in radians.
    """

    points: np.ndarray
    across: np.ndarray
    down: np.ndarray
    width: float
    yaw: float

    @staticmethod
    def of(landmarks: np.ndarray) -> Face:
        """The face that has these landmarks (68, 2)."""
        points = np.asarray(landmarks, np.float64)
        eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
        across = (eyes[1] - eyes[0]) / max(float(np.hypot(*(eyes[1] - eyes[0]))), 1e-6)
        down = np.array([-across[1], across[0]])
        length = float(np.hypot(*(points[8] - points[27])))
        width = max(float(np.hypot(*(points[16] - points[0]))), 1.05 * length, 1.0)
        left, right = float((points[30] - points[2]) @ across), float((points[14] - points[30]) @ across)
        yaw = float(np.arcsin(np.clip(0.8 * (left - right) / max(abs(left) + abs(right), 1e-6), -0.95, 0.95)))
        return Face(points, across, down, width, yaw)

    def middle(self, height: float) -> np.ndarray:
        """The point (2,) of the middle line at a height, see :data:`HEIGHTS`."""
        p = self.points
        knots = np.array([p[27], p[30], p[33], p[51], (p[62] + p[66]) / 2, p[57], p[8]])
        if height > CHIN:
            return p[8] + (height - CHIN) * 0.45 * (p[8] - p[33])
        return np.array([np.interp(height, HEIGHTS, knots[:, axis]) for axis in (0, 1)])

    def jaw(self, index: float, side: int) -> np.ndarray:
        """The point (2,) of the contour, counted from the ear of a side (-1 left, 1 right); extrapolated below 0."""
        index = index if side < 0 else 16 - index
        if index < 0 or index > 16:
            near, next_ = (0, 2) if index < 0 else (16, 14)
            beyond = -index if index < 0 else index - 16
            return self.points[near] + beyond * 0.5 * (self.points[near] - self.points[next_])
        low = min(int(index), 15)
        return self.points[low] + (index - low) * (self.points[low + 1] - self.points[low])

    def share(self, reach: float, side: int) -> float:
        """Position of an angle of ``reach`` degrees in the image, as a share of the way from middle to contour."""
        turn = -side * self.yaw  # above 0 for the side that is turned to the viewer

        def seen(angle: float) -> float:
            return np.sin(turn) + np.sin(min(angle - turn, np.pi / 2))

        return float(np.clip(seen(np.radians(reach)) / max(seen(np.radians(80)), 1e-3), 0.2, 1.15))

    def ear(self, side: int, down: float = 0.0) -> np.ndarray:
        """The end of straps: the root of the ear of a side, moved down by ``down`` widths of the face."""
        return self.jaw(0.6, side) + self.width * (0.012 * side * self.across + down * self.down)


def tailored(cut: Cut, rng: np.random.Generator) -> Cut:
    """The cut with random changes of size and fit."""
    top, bottom, upper, lower, reach, sag, margin, loose = rng.uniform(-1, 1, 8).tolist()
    return replace(
        cut,
        top=cut.top + 0.04 + 0.14 * top,
        bottom=cut.bottom + 0.12 * bottom,
        sides=(cut.sides[0] + 0.5 * upper, cut.sides[1] + 0.5 * lower),
        reach=cut.reach + 5 + 9 * reach,
        sag=cut.sag + 0.02 * sag,
        margin=cut.margin + 0.015 + 0.02 * margin,
        stand_off=cut.stand_off * (1 + 0.4 * loose),
    )


def style_cut(cut: Cut, style: str) -> Cut:
    """The cut in a wearing style other than ``one_ear``, for which see :func:`hanging_grid`."""
    if style == "below_nose":
        return replace(cut, top=1.45, sides=(cut.sides[0] + 0.9, cut.sides[1] + 0.5), bottom=cut.bottom + 0.15)
    if style == "chin":
        low = (max(cut.sides[0], 2.5) + 1.6, cut.sides[1] + 2.0)
        return replace(cut, top=2.55, bottom=cut.bottom + 0.45, sides=low, sag=-0.03, margin=cut.margin + 0.05)
    if style == "half_pulled":
        return replace(cut, top=1.5, bottom=cut.bottom + 0.1)
    return cut


def laid_grid(face: Face, cut: Cut, style: str, side: int) -> np.ndarray:
    """The fabric on the face: points (ROWS, COLUMNS, 2) in the image, in pixels.

    Args:
        cut: see :data:`CUTS`.
        style: wearing style, but not ``one_ear``.
        side: of ``half_pulled``: the side (-1 left, 1 right) on which it has slipped.
    """
    cut = style_cut(cut, style)
    heights = cut.top + (cut.bottom - cut.top) * _THIRDS
    slipped = {side: (1.7, 1.0)} if style == "half_pulled" else {}
    middle = np.array([face.middle(height) for height in heights])
    up_front = np.sin(face.yaw) * face.across
    raised = np.array([0.25, 1.0, 1.0, 0.45])[:, None] * cut.stand_off * face.width * up_front
    control = np.empty((4, 5, 2))
    control[:, 2] = middle + raised
    for column, direction in ((0, -1), (4, 1)):
        upper, lower = np.add(cut.sides, slipped.get(direction, (0.0, 0.0)))
        contour = np.array([face.jaw(index, direction) for index in upper + (lower - upper) * _THIRDS])
        edge = middle + face.share(cut.reach, direction) * (contour - middle)
        edge += (
            _THIRDS[:, None] ** cut.spread
            * face.width
            * (cut.aside[0] * direction * face.across + cut.aside[1] * face.down)
        )
        # In profile nose and lips reach beyond the far side of the face: the fabric goes around them.
        outermost = direction * (middle + raised) @ face.across
        if heights[0] < TIP:
            outermost[:2] = np.maximum(outermost[:2], direction * face.points[30] @ face.across)
        beyond = direction * edge @ face.across - outermost
        edge += (np.maximum(0.09 * face.width - beyond, 0) * direction)[:, None] * face.across
        half = face.share(cut.reach / 2, direction) / face.share(cut.reach, direction)
        quarter = middle + half * (edge - middle) + 0.7 * raised
        quarter[0] += cut.sag * face.width * face.down
        under = face.jaw((lower + 8) / 2 + 0.3, direction)  # the bottom edge follows the jaw
        outwards = under - face.middle(MOUTH)
        under = under + cut.margin * face.width * outwards / max(float(np.hypot(*outwards)), 1e-6)
        if cut.bottom > 3.6:  # loose fabric hangs straight down
            under = (quarter[3] + under) / 2 if cut.aside == (0.0, 0.0) else quarter[3]
        quarter[1:] += np.array([0.15, 0.5, 1.0])[:, None] * (under - quarter[3])
        control[:, column], control[:, 1 if direction < 0 else 3] = edge, quarter
    return np.einsum("rk,klc,sl->rsc", _DOWN, control, _ACROSS)


def ear_loop(grid: np.ndarray, face: Face, side: int) -> np.ndarray | None:
    """Ear loop of a mask in one piece: the fabric from its side edge to the ear, around the ear's hole.

    Returns:
        Outline (N, 2) in pixels, outer edge and hole in one; None where the mask itself reaches the ear.
    """
    edge = grid[:, 0 if side < 0 else -1]
    out, down = 0.02 * side * face.width * face.across, face.width * face.down
    ear = np.array([face.ear(side) + out - 0.04 * down, face.ear(side, 0.2) + out])
    long = ear.mean(axis=0) - edge.mean(axis=0)
    if float(long @ face.across) * side < 0.05 * face.width:
        return None
    high = (ear[1] - ear[0] + edge[-1] - edge[0]) / 2
    turn = np.linspace(0, 2 * np.pi, 21)[:, None]
    hole = edge.mean(axis=0) + (0.6 + 0.3 * np.cos(turn)) * long + 0.27 * np.sin(turn) * high
    return np.concatenate([edge, ear[::-1], edge[:1], hole])


def hanging_grid(face: Face, side: int, sway: float) -> np.ndarray:
    """A mask that hangs from one ear (-1 left, 1 right): points (ROWS, COLUMNS, 2)."""
    width = face.width * (0.1 + 0.14 * face.share(45, side))
    top = face.ear(side, 0.24) - 0.02 * side * face.width * face.across
    fall = face.down * np.cos(sway) + face.across * np.sin(sway)
    wide = face.across * np.cos(sway) - face.down * np.sin(sway)
    u, v = np.linspace(-1, 1, COLUMNS), np.linspace(0, 1, ROWS)[:, None]
    bow = 0.03 * np.sin(3 * v + 1)
    return (
        top
        + (v * 0.62 * face.width)[..., None] * fall
        + ((u * (1 - 0.12 * np.cos(np.pi * v)) * width) + bow * face.width)[..., None] * wide
    )


def _spline(knots: int, places: int) -> np.ndarray:
    """Matrix (places, knots): values at evenly spaced knots -> a smooth curve through them."""
    at = np.linspace(0, 1, knots)
    return CubicSpline(at, np.eye(knots), bc_type="natural")(np.linspace(0, 1, places))


_DOWN, _ACROSS = _spline(4, ROWS), _spline(5, COLUMNS)
