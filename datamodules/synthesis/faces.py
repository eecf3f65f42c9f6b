"""Draws labelled faces: a head described in numbers, seen by a camera, with the exact label of every pixel.

`sample_scene` chooses a face, `render` draws it; everything random in the picture follows from the scene. The
scene lives in head space: the origin lies between the eyes, x points to the right of the picture, y down, z
towards the viewer; the unit is half the width of the face. All points pass through one rotation, so a turn of the
head moves near and far parts by different amounts, as in photographs.

Each part is rasterised once, unsmoothed, on a canvas `SUPERSAMPLING` times as wide as the picture, and that one mask
sets colours and labels alike. In the end colours are averaged down and labels put to the vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import cv2
import numpy as np

from datamodules.labels import LAPA

SUPERSAMPLING = 2
SOFTNESS = 4  # light, relief and beards are smooth: they are computed on a grid this many times coarser

BACKGROUND, SKIN, LEFT_BROW, RIGHT_BROW, LEFT_EYE, RIGHT_EYE = range(6)
NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = range(6, len(LAPA))

# Ten tones after the Monk scale, light to dark (sRGB), so that faces of the whole world are drawn.
_light = [(244, 214, 196), (240, 206, 184), (234, 194, 166), (224, 180, 146), (206, 160, 122)]
_dark = [(172, 124, 90), (138, 95, 68), (108, 73, 54), (82, 57, 45), (60, 44, 37)]
SKIN_TONES = np.array([*_light, *_dark])
# Black, browns, red, blonds, greys; the first three are the world's most frequent.
_full = [(24, 20, 20), (38, 28, 24), (64, 44, 32), (96, 64, 42), (128, 66, 38), (150, 112, 72), (200, 164, 110)]
HAIR_COLOURS = np.array([*_full, (222, 196, 150), (128, 126, 124), (206, 204, 200)])
IRIS_COLOURS = np.array([(62, 40, 26), (46, 32, 24), (80, 52, 30), (98, 116, 128), (96, 104, 72), (110, 130, 150)])
HAIR_STYLES: dict[str, tuple[float, float, float]] = {  # share, least and greatest thickness in head units
    "bald": (0.05, 0.0, 0.0),
    "buzz": (0.07, 0.02, 0.05),
    "short": (0.24, 0.06, 0.24),
    "afro": (0.09, 0.2, 0.6),
    "bob": (0.2, 0.12, 0.4),
    "long": (0.35, 0.12, 0.55),
}


@dataclass(frozen=True)
class DrawnFace:
    """One picture with its labels.

    Args:
        image: RGB, uint8 (size, size, 3).
        label: LaPa class ids (`datamodules.labels.LAPA`), uint8 (size, size); "left" is the left of the picture.
        landmarks: float32 (106, 2), x and y in pixels (pixel centres are whole numbers; points may lie outside the
            picture or under hair), in LaPa's order: 0-32 face contour from left to right over the chin;
            33-41 left and 42-50 right brow (five along the top, then four back along the bottom); 51-54 nose
            ridge downwards; 55-65 sides and base of the nose from left to right; 66-73 left eye (clockwise from
            its left corner), 74 the middle of its opening; 75-83 right eye alike; 84-95 outer lips (clockwise
            from the left corner); 96-103 inner lips alike; 104, 105 left and right pupil.
    """

    image: np.ndarray
    label: np.ndarray
    landmarks: np.ndarray


# ---------------------------------------------------------------------------------------------- the scene


def _range(low: float, high: float) -> Any:
    """A dataclass field that `_uniform` draws evenly from low .. high."""
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Pose:
    """Where the head is and where it looks: degrees; scale and centre in picture widths."""

    yaw: float  # positive turns the face to the right of the picture
    pitch: float  # positive looks down
    roll: float  # positive tilts clockwise
    scale: float  # half the width of the face
    centre: tuple[float, float]  # of the eyes


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The person's bones and features, in head units."""

    chin: float = _range(1.45, 1.8)  # below the eyes; an open mouth takes it further
    jaw: float = _range(1.8, 3.1)  # exponent: pointed .. square
    hairline: float = _range(-1.12, -0.78)  # its middle (negative: above the eyes)
    hairline_bend: float = _range(0.1, 0.5)  # its fall towards the temples
    ear: float = _range(0.08, 0.2)
    eye_spacing: float = _range(0.42, 0.5)  # centre of the face to the centre of an eye
    eye_width: float = _range(0.165, 0.215)  # half of it
    eye_height: float = _range(0.055, 0.095)
    eye_tilt: float = _range(-0.02, 0.04)  # outer corners up
    brow_height: float = _range(0.24, 0.36)
    brow_arch: float = _range(0.02, 0.1)
    brow_thickness: float = _range(0.055, 0.13)
    nose_length: float = _range(0.58, 0.76)
    nose_width: float = _range(0.2, 0.32)  # half of it, as below
    bridge_width: float = _range(0.09, 0.13)
    nose_depth: float = _range(0.22, 0.42)
    mouth_width: float = _range(0.3, 0.4)
    upper_lip: float = _range(0.05, 0.12)
    lower_lip: float = _range(0.09, 0.19)


@dataclass(frozen=True, kw_only=True)
class Expression:
    """What the face does, in head units where it is a distance."""

    lids: float  # 0 closed .. 1 open
    gaze: tuple[float, float]
    gap: float  # between the lips; 0 is a closed mouth
    teeth: bool
    brow_raise: float = _range(-0.04, 0.06)
    smile: float = _range(-0.4, 1.0)  # corners of the mouth down .. up


@dataclass(frozen=True, kw_only=True)
class Hair:
    """Style (a key of HAIR_STYLES) and measures in head units."""

    style: str
    fringe: str  # "none", "side" or "full"
    thickness: float
    end: float  # height (y) at which bob and long hair end
    roughness: float
    curl: float  # 0 straight .. 1 curls
    hat: bool
    overlap: float = _range(-0.05, 0.2)  # how far side hair covers the face
    parting: float = _range(-0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours (RGB, 0..255) and surface; strengths 0..1."""

    skin: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    clothes: np.ndarray
    hat: np.ndarray
    beard: float  # 0 none, about 0.3 stubble, 0.85 full; it is labelled skin
    make_up: float
    glasses: str  # "none", "round" or "square"
    brow_strength: float = _range(0.6, 0.95)
    blush: float = _range(0.0, 0.1)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light and camera."""

    direction: np.ndarray  # (3,) unit vector towards the light; it stays where it is when the head turns
    tint: np.ndarray  # (3,) gain per channel
    blur: float  # standard deviation in 1/256 of the picture's width
    ambient: float = _range(0.4, 0.85)
    contrast: float = _range(0.85, 1.12)
    noise: float = _range(0.5, 6.0)  # standard deviation in grey levels


@dataclass(frozen=True)
class FaceScene:
    """Everything that determines a picture; `texture_seed` fixes strands of hair, clutter, sensor noise."""

    pose: Pose
    shape: Shape
    expression: Expression
    hair: Hair
    look: Look
    light: Light
    texture_seed: int


Part = TypeVar("Part")


def _uniform(kind: type[Part], rng: np.random.Generator, **given: Any) -> Part:
    """A part of the scene: `given` fields as they are, the others even within their ranges."""
    ranges = {f.name: f.metadata["range"] for f in fields(kind) if f.name not in given}  # type: ignore[arg-type]
    return kind(**given, **{name: rng.uniform(*ends) for name, ends in ranges.items()})


def _bell(rng: np.random.Generator, mean: float, deviation: float, limit: float) -> float:
    return mean + float(np.clip(rng.normal(0, deviation), -limit, limit))


def draw_face(rng: np.random.Generator, size: int = 256) -> DrawnFace:
    """A face drawn at random; the same state of the generator gives the same bytes. `size` in pixels."""
    return render(sample_scene(rng), size)


def sample_scene(rng: np.random.Generator) -> FaceScene:
    """Draws the parameters of one face."""
    pose = Pose(
        yaw=_bell(rng, 0, 15, 36),
        pitch=_bell(rng, 0, 7, 16),
        roll=_bell(rng, 0, 10, 25),
        scale=_bell(rng, 0.275, 0.03, 0.07),
        centre=(_bell(rng, 0.5, 0.04, 0.1), _bell(rng, 0.46, 0.035, 0.09)),
    )
    closed, opened, wide = rng.random(3) < (0.05, 0.5, 0.15)
    expression = _uniform(
        Expression,
        rng,
        lids=rng.uniform(0.0, 0.2) if closed else float(np.clip(rng.normal(0.9, 0.2), 0.4, 1.3)),
        gaze=(_bell(rng, 0, 0.04, 0.08), _bell(rng, 0, 0.015, 0.03)),
        gap=rng.uniform(0.06, 0.18) + 0.2 * wide if opened else 0.0,
        teeth=bool(rng.random() < 0.8),
    )
    shape = _uniform(Shape, rng)
    shape = replace(shape, chin=shape.chin + 0.5 * expression.gap)
    hair = _sample_hair(rng)
    look, light = _sample_look(rng, hair), _sample_light(rng)
    return FaceScene(pose, shape, expression, hair, look, light, int(rng.integers(2**31)))


def _sample_hair(rng: np.random.Generator) -> Hair:
    style = str(rng.choice(list(HAIR_STYLES), p=[share for share, _, _ in HAIR_STYLES.values()]))
    thickness = rng.uniform(*HAIR_STYLES[style][1:])
    combed = style in ("short", "bob", "long")
    hat = bool(rng.random() < 0.07)
    return _uniform(
        Hair,
        rng,
        style=style,
        fringe=str(rng.choice(["none", "side", "full"], p=[0.45, 0.3, 0.25])) if combed else "none",
        thickness=min(thickness, 0.15) if hat else thickness,
        end=rng.uniform(0.9, 1.6) if style == "bob" else rng.uniform(1.9, 3.0),
        roughness=0.005 if style == "buzz" else rng.uniform(0.01, 0.05),
        curl=1.0 if style == "afro" else rng.uniform(0.2, 0.9) * (rng.random() < 0.25),
        hat=hat,
    )


def _sample_look(rng: np.random.Generator, hair: Hair) -> Look:
    tone, steps = (len(SKIN_TONES) - 1) * rng.beta(1.0, 1.2), np.arange(len(SKIN_TONES))
    skin = np.array([np.interp(tone, steps, channel) for channel in SKIN_TONES.T])
    skin = np.clip(skin * rng.normal(1, 0.02, 3) * (1, 1, rng.uniform(0.9, 1.06)), 0, 250)
    rare = rng.random()
    colour = HAIR_COLOURS[rng.integers(3 if tone > 3.5 and rare > 0.15 else len(HAIR_COLOURS))]
    if rare > 0.96:  # dyed
        colour = rng.uniform(30, 210, 3)
    elif rare > 0.88:  # as bright as the skin: colour alone must not tell the two apart
        colour = skin * rng.uniform(0.75, 1.05)
    colour = np.clip(colour * rng.uniform(0.85, 1.15) * rng.normal(1, 0.03, 3), 8, 240)
    natural = skin * (0.9, 0.68, 0.68) * rng.uniform(0.85, 1.1) + (12, 2, 4)
    painted = rng.uniform((90, 20, 30), (210, 80, 100))
    bearded = hair.style not in ("bob", "long") and rng.random() < 0.45
    return _uniform(
        Look,
        rng,
        skin=skin,
        hair=colour,
        brow=np.clip(np.minimum(colour, 0.85 * skin) * rng.uniform(0.6, 1.0), 8, 200),
        lips=np.clip(painted if rng.random() < 0.25 else natural, 8, 250),
        iris=IRIS_COLOURS[rng.integers(2 if tone > 5 else len(IRIS_COLOURS))],
        clothes=_any_colour(rng),
        hat=_any_colour(rng),
        beard=rng.uniform(0.12, 0.85) * bearded,
        make_up=rng.uniform(0.2, 0.6) * (not bearded and rng.random() < 0.3),
        glasses=str(rng.choice(["none", "round", "square"], p=[0.86, 0.07, 0.07])),
    )


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour, (3,), but seldom a loud one."""
    return np.clip(rng.uniform(5, 245) + rng.normal(0, 1, 3) * rng.choice([4, 20, 60]), 2, 252)


def _sample_light(rng: np.random.Generator) -> Light:
    direction = np.array([rng.normal(0, 0.6), -abs(rng.normal(0.35, 0.35)), rng.uniform(0.5, 1.1)])
    return _uniform(
        Light,
        rng,
        direction=direction / np.linalg.norm(direction),
        tint=rng.uniform(0.9, 1.12) * (1 + rng.normal(0, 1) * np.array([0.05, 0.0, -0.06])),
        blur=float(rng.choice([0.3, 0.8, 1.3, 2.0])),
    )


# ---------------------------------------------------------------------------------------------- head space


@dataclass(frozen=True)
class Projection:
    """Head space -> canvas: rotation (3, 3), scale in canvas pixels per unit, origin (2,) in canvas pixels."""

    rotation: np.ndarray
    scale: float
    origin: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) -> canvas positions (N, 2); nearer points are seen a little larger."""
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
    """Half the width of the face at height y: a superellipse above, another below the cheekbones."""
    below = np.maximum(y - 0.1, 0) / (shape.chin - 0.1)
    above = np.maximum(0.1 - y, 0) / 1.75
    return np.sqrt(np.maximum(1 - below**shape.jaw - above**2.4, 1e-6))


def on_face(shape: Shape, x: Any, y: Any, lift: Any = 0.0) -> np.ndarray:
    """Points (..., 3) of the face's surface at (x, y), raised by `lift` towards the viewer."""
    x, y = np.asarray(x, float) + 0 * np.asarray(y), np.asarray(y, float) + 0 * np.asarray(x)
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
    """Height (y) of the hairline at x."""
    return shape.hairline + shape.hairline_bend * x**2


def skull(thickness: float) -> np.ndarray:
    """Points (N, 3) of the cranium, grown by `thickness` of hair."""
    height = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 17))[:, None]
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.sqrt(1 - height**2)
    ball = np.stack([ring * np.cos(angle), height + 0 * angle, ring * np.sin(angle)], -1).reshape(-1, 3)
    return np.array([0, -0.45, -0.2]) + ball * (np.array([1.0, 1.08, 1.05]) + thickness)


def eye_curves(scene: FaceScene, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper and lower lid (9, 3) from left to right, and the pupil (1, 3); side is -1 (left of the picture) or 1."""
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
    """Top and bottom edge (5, 3) of a brow, both from left to right."""
    shape, s = scene.shape, np.linspace(0, 1, 5)  # from the nose outwards
    x = side * (shape.eye_spacing - 0.29 + 0.68 * s)
    y = -shape.brow_height - scene.expression.brow_raise - shape.brow_arch * np.sin(np.pi * s**1.4) + 0.06 * s**2
    half = 0.5 * shape.brow_thickness * np.array([0.75, 1.0, 0.95, 0.7, 0.2])
    return on_face(shape, x, y - half)[::side], on_face(shape, x, y + half)[::side]


def lip_curves(scene: FaceScene) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Upper outer (13, 3), upper inner (9, 3), lower inner (9, 3), lower outer (13, 3), each from left to right."""
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
    """Ridge (4, 3) downwards; sides of the bridge (8, 3), left then right; wings and base (11, 3) left to right."""
    length, width, depth, t = shape.nose_length, shape.nose_width, shape.nose_depth, np.linspace(0, 1, 4)
    ridge = on_face(shape, 0.0, -0.06 + (length - 0.08) * t, 0.06 + depth * t**1.3)
    reach = shape.bridge_width + (0.62 * width - shape.bridge_width) * t**1.5
    bridge = on_face(shape, np.stack([-reach, reach]), -0.06 + (length - 0.1) * t, 0.02 + 0.25 * depth * t)
    half = np.array([[0.78, 1.0, 0.97, 0.72, 0.36], [-0.21, -0.12, -0.03, 0.03, 0.035], [0.25, 0.2, 0.2, 0.3, 0.5]])
    left, right = half * [[-1], [1], [1]], half[:, ::-1]
    x, y, lift = np.concatenate([left, [[0], [0.06], [0.62]], right], axis=1)
    return ridge, bridge.reshape(-1, 3), on_face(shape, width * x, length + y, depth * lift)


def landmarks_of(scene: FaceScene, project: Projection) -> np.ndarray:
    """The 106 landmarks on the canvas, (106, 2), in the order `DrawnFace` states."""
    shape = scene.shape
    # The contour is what the viewer sees of the face: at each height the outermost point of the upright head.
    y = -0.1 + (shape.chin + 0.1) * np.sin(np.linspace(0, np.pi / 2, 17))[:, None]
    rows = on_face(shape, np.linspace(-1, 1, 41) * face_width(shape, y), y)
    seen = Projection.of(replace(scene.pose, roll=0), 1)(rows.reshape(-1, 3))[:, 0].reshape(rows.shape[:2])
    left, right = (rows[np.arange(17), outermost] for outermost in (seen.argmin(1), seen.argmax(1)))
    brows = [np.concatenate([top, bottom[3::-1]]) for top, bottom in (brow_curves(scene, s) for s in (-1, 1))]
    ridge, _, base = nose_curves(shape)
    (up, low, pupil), (up_right, low_right, pupil_right) = eye_curves(scene, -1), eye_curves(scene, 1)
    eyes = [up[::2], low[-3:0:-2], (up + low)[4:5] / 2]
    eyes += [up_right[::2], low_right[-3:0:-2], (up_right + low_right)[4:5] / 2]
    up_out, up_in, low_in, low_out = lip_curves(scene)
    mouth = [up_out[::2], low_out[-3:0:-2], up_in[::2], low_in[-3:0:-2]]
    chin = on_face(shape, [0.0], shape.chin)
    parts = [left[:16], chin, right[15::-1], *brows, ridge, base, *eyes, *mouth, pupil, pupil_right]
    return project(np.concatenate(parts))


# ---------------------------------------------------------------------------------------------- the canvas


class Canvas:
    """Colours float32 (side, side, 3) in 0..255 and labels uint8 (side, side), painted from back to front."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.rgb = np.zeros((side, side, 3), np.float32)
        self.label = np.zeros((side, side), np.uint8)

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """Union of polygons (N, 2), in canvas pixels, as a mask of 0 and 255; nothing is smoothed."""
        mask = np.zeros((self.side, self.side), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [_fixed_point(polygon)], 255, shift=4)
        return mask

    def lines(self, curves: Sequence[np.ndarray], width: float, closed: bool = False) -> np.ndarray:
        """Curves (N, 2) as a mask, `width` in canvas pixels."""
        mask = np.zeros((self.side, self.side), np.uint8)
        cv2.polylines(mask, [_fixed_point(c) for c in curves], closed, 255, max(1, round(width)), shift=4)
        return mask

    def paint(self, mask: np.ndarray, colour: Any, label: int | None = None, alpha: Any = 1.0, gain: Any = 1.0) -> None:
        """Lays a colour (3,) or a picture (side, side, 3), times `gain`, over the mask.

        `gain` and `alpha` are numbers or fields (side, side). Without `label` the labels beneath stay.
        """
        x, y, w, h = cv2.boundingRect(mask)
        if w == 0:
            return
        box = np.s_[y : y + h, x : x + w]
        gain, alpha = (v[box] if isinstance(v, np.ndarray) else np.full((h, w), v, np.float32) for v in (gain, alpha))
        if np.ndim(colour) == 3:
            source = colour[box] * cv2.merge([gain] * 3)
        else:
            source = cv2.merge([gain * np.float32(c) for c in colour])
        beneath = self.rgb[box]
        cv2.copyTo(beneath + (source - beneath) * cv2.merge([alpha] * 3), mask[box], beneath)
        if label is not None:
            self.label[box][mask[box] > 0] = label


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.rint((points - 0.5) * 16).astype(np.int32)


def _hull(points: np.ndarray) -> np.ndarray:
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def _rounded(points: np.ndarray, rounds: int = 2) -> np.ndarray:
    """A closed polygon (N, D) with its corners cut (Chaikin)."""
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1)
        points = cut.reshape(-1, points.shape[1])
    return points


def _roughened(rng: np.random.Generator, polygon: np.ndarray, amount: float) -> np.ndarray:
    """A closed polygon (N, 2) whose edge is frayed by about `amount` of its radius."""
    steps = (np.roll(polygon, -1, axis=0) - polygon)[:, None] * np.linspace(0, 1, 8, endpoint=False)[:, None]
    dense = (polygon[:, None] + steps).reshape(-1, 2)
    wave = np.zeros(len(dense))
    for bumps in (7, 23, 61):
        knots = rng.standard_normal(bumps)
        knots = np.append(knots, knots[0])
        wave += np.interp(np.linspace(0, bumps, len(dense), endpoint=False), np.arange(bumps + 1), knots)
    centre = polygon.mean(axis=0)
    return centre + (dense - centre) * (1 + 0.7 * amount * wave)[:, None]


def _noise(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise float32 (side, side), about standard normal, with `cells` bumps across."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)


# ---------------------------------------------------------------------------------------------- drawing


def render(scene: FaceScene, size: int = 256) -> DrawnFace:
    """Draws a scene, `size` pixels wide and high; the same scene and size give the same bytes."""
    painter = _Painter(scene, size * SUPERSAMPLING)
    painter.paint()
    return painter.develop()


class _Painter:
    """Paints one scene from back to front; the methods stand in drawing order."""

    def __init__(self, scene: FaceScene, side: int) -> None:
        self.scene, self.side, self.coarse = scene, side, -(-side // SOFTNESS)
        self.rng = np.random.default_rng(scene.texture_seed)
        self.canvas, self.project = Canvas(side), Projection.of(scene.pose, side)
        self.unit = self.project.scale
        self.coarse_shade = self._shading()
        self.shade = self._enlarge(self.coarse_shade)
        self.half_shade = 0.5 + 0.5 * self.shade  # for what scatters light: hair, cloth, teeth, eyes
        self.grain = _noise(self.rng, 90, side)
        self.skin = self._skin()
        self.hair = self._hair_texture()

    def paint(self) -> None:
        self._backdrop()
        self._hair_behind()
        self._body()
        self._ears()
        self._head()
        self._beard()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
        self._mouth()
        self._nose()
        self._hair_in_front()
        self._hat()
        self._glasses()

    # ------------------------------------------------------------------------------ light and surfaces

    def _shading(self) -> np.ndarray:
        """Light on an egg-shaped head, on the coarse grid, about 0.4 .. 1.05."""
        light, at = self.scene.light, (np.arange(self.coarse) + 0.5) * SOFTNESS
        centre = self.project(np.array([[0, 0.25, 0]]))[0]
        across, down = (at - centre[0]) / self.unit, (at[:, None] - centre[1]) / self.unit
        c, s = np.cos(np.deg2rad(self.scene.pose.roll)), np.sin(np.deg2rad(self.scene.pose.roll))
        u, v = (c * across + s * down) / 1.25, (c * down - s * across) / 1.9
        far = np.maximum(np.hypot(u, v), 1)
        u, v = u / far, v / far
        x, y, z = light.direction
        facing = u * (c * x + s * y) + v * (c * y - s * x) + np.sqrt(np.maximum(1 - u**2 - v**2, 0)) * z
        # The light wraps a little round to the dark side, as it does on skin.
        return light.ambient + (1.05 - light.ambient) * np.maximum((facing + 0.25) / 1.25, 0)

    def _enlarge(self, coarse: np.ndarray) -> np.ndarray:
        fine = cv2.resize(coarse.astype(np.float32), None, fx=SOFTNESS, fy=SOFTNESS)
        return fine[: self.side, : self.side]

    def _soft(self, polygons: Sequence[np.ndarray], blur: float) -> np.ndarray:
        """Union of polygons on the coarse grid, 0..1, blurred by `blur` head units."""
        area = np.zeros((self.coarse, self.coarse), np.float32)
        for polygon in polygons:
            cv2.fillPoly(area, [_fixed_point(polygon / SOFTNESS)], 1.0, shift=4)
        return cv2.GaussianBlur(area, (0, 0), max(blur * self.unit / SOFTNESS, 0.3))

    def _skin(self) -> np.ndarray:
        """Skin as lit: tone, light, mottling, and the relief of sockets, cheeks, nose and lips."""
        shape, look, act = self.scene.shape, self.scene.look, self.scene.expression
        slant = float(self.scene.light.direction[0])
        n, w, e = shape.nose_length, shape.nose_width, shape.eye_spacing
        m = n + 0.36 + act.gap  # the lower lip's inner edge
        chin, dark = m + shape.lower_lip, 1.25 - self.scene.light.ambient
        away = -1.0 if slant > 0 else 1.0
        # x, y of a polygon; on both sides?; blur; log gain, per channel where it tints
        relief: list[tuple[Any, Any, bool, float, Any]] = [
            ((e - 0.27, e, e + 0.25, e), (0, -0.2, -0.02, 0.1), True, 0.06, -0.3 * dark),  # socket
            ((e - 0.2, e, e + 0.25, e), (0, -0.2, -0.06, -0.02), True, 0.04, -look.make_up * np.array([0.7, 1, 0.7])),
            ((e - 0.15, e + 0.2, e), (0.14, 0.14, 0.24), True, 0.05, -0.12 * dark),  # under the eye
            (np.multiply(away, (0.05, 0.12, w, 0.6 * w)), (-0.1, 0, n, n), False, 0.06, -(0.3 + abs(slant)) * dark),
            ((0.09, 0.13, 0.8 * w, 0.55 * w), (-0.1, 0.2, n - 0.15, n - 0.2), True, 0.06, -0.2 * dark),
            ((-0.04, 0.04, 0.07, -0.07), (0, 0, n - 0.05, n - 0.05), False, 0.05, 0.16),  # ridge
            ((-w, w, 0.6 * w, -0.6 * w), (n + 0.02, n + 0.02, n + 0.12, n + 0.12), False, 0.05, -0.4 * dark),
            ((-0.2, 0.2, 0.12, -0.12), (chin, chin, chin + 0.12, chin + 0.12), False, 0.05, -0.4 * dark),
            ((w, w + 0.06, 0.5, 0.46), (n - 0.1, n - 0.12, m, m), True, 0.03, -0.07 - 0.15 * max(act.smile, 0)),
            ((0.45, 0.7, 0.7, 0.5), (0.3, 0.25, 0.55, 0.65), True, 0.13, 0.05 - look.blush * np.array([0, 2, 2])),
        ]
        if self.scene.hair.fringe != "none":  # the fringe's shadow
            relief.append(((-0.8, 0.8, 0.8, -0.8), (-0.9, -0.9, -0.3, -0.3), False, 0.1, -0.2))
        total = cv2.merge([0.05 * _noise(self.rng, 14, self.coarse)] * 3)
        for x, y, both, blur, gain in relief:
            sides = (-1, 1) if both else (1,)
            areas = [self.project(on_face(shape, np.multiply(s, x), y, 0.05)) for s in sides]
            area = self._soft(areas, blur)
            total = total + cv2.merge([area * np.float32(g) for g in np.broadcast_to(gain, 3)])
        return self._enlarge(np.exp(total) * self.coarse_shade[..., None] * look.skin)

    def _hair_texture(self) -> np.ndarray:
        """Hair as lit, over the whole canvas: strands that fan out from above the parting, mixed with curls."""
        hair, look, rng = self.scene.hair, self.scene.look, self.rng
        root = self.project(np.array([[hair.parting, -2.1, 0.2]]))[0]
        at = np.arange(self.side, dtype=np.float32)
        across, down = np.meshgrid((at - root[0]) / self.unit, (at - root[1]) / self.unit)
        radius, angle = cv2.cartToPolar(across, down)
        bins = np.arange(1024)
        strands = np.zeros(len(bins), np.float32)
        for count, weight in ((40, 0.5), (140, 0.7), (400, 0.5)):  # locks, strands, single hairs
            values = weight * rng.standard_normal(count)
            strands += np.interp(bins, np.linspace(0, len(bins), count), values).astype(np.float32)
        bend = _noise(rng, 4, self.side) * np.float32(8 + 30 * hair.curl)
        place = (angle * np.float32(len(bins) / (2 * np.pi)) + bend).astype(np.int32) & (len(bins) - 1)
        mixed = strands[place] * np.float32(1 - 0.8 * hair.curl)
        if hair.curl > 0:
            cells = int(np.clip(9 / self.scene.pose.scale, 20, 60))
            mixed += (_noise(rng, cells, self.side) + 0.5 * _noise(rng, cells // 4, self.side)) * np.float32(hair.curl)
        shine = 0.3 * (1 - hair.curl) * self._enlarge(np.exp(-(((radius[::4, ::4] - 1.0) / 0.22) ** 2)))
        gain = np.exp(0.17 * mixed + shine * (1 + 0.5 * mixed)) * self.half_shade
        return cv2.merge([gain * np.float32(c) + 8 * shine for c in look.hair])

    # ------------------------------------------------------------------------------ back to front

    def _backdrop(self) -> None:
        """A gradient with out-of-focus clutter, some of it in the colours of skin and hair."""
        small, rng, look = 96, self.rng, self.scene.look
        near, far = _any_colour(rng), _any_colour(rng)
        turn, ramp = rng.uniform(0, 2 * np.pi), np.linspace(-0.5, 0.5, small)
        t = np.clip(ramp * np.cos(turn) + ramp[:, None] * np.sin(turn) + 0.5, 0, 1)
        picture = cv2.merge([(a + (b - a) * t).astype(np.float32) for a, b in zip(near, far, strict=True)])
        for _ in range(int(rng.integers(0, 12))):
            colour = (look.skin, look.hair, look.lips, _any_colour(rng))[rng.choice(4, p=[0.25, 0.2, 0.05, 0.5])]
            colour = np.clip(colour * rng.uniform(0.8, 1.2), 0, 255).tolist()
            box = (rng.uniform(-10, small + 10, 2).tolist(), rng.uniform(6, 68, 2).tolist(), rng.uniform(0, 180))
            if rng.random() < 0.6:
                cv2.ellipse(picture, box, colour, -1)
            else:
                cv2.fillPoly(picture, [cv2.boxPoints(box).astype(np.int32)], colour)
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 5))
        self.canvas.rgb[:] = cv2.resize(picture, (self.side, self.side))

    def _hair_behind(self) -> None:
        hair, rng = self.scene.hair, self.rng
        if hair.style == "bald":
            self.canvas.paint(self.canvas.mask(_hull(self.project(skull(-0.02)))), self.skin, SKIN)
            return
        if hair.style in ("bob", "long"):
            wide, end = 1.0 + hair.thickness, hair.end
            x = np.array([0.7, wide, wide + 0.1, 0.9 * wide, 0.4 * wide])
            y = np.array([-0.9, -0.4, 0.7 * end, end, end]) + rng.normal(0, 0.06, (2, 5))
            right, left = (np.stack([s * x, y[max(s, 0)], np.full(5, -0.35)], -1) for s in (1, -1))
            mane = self.project(_rounded(np.concatenate([right, left[::-1]])))
            mane = _roughened(rng, mane, 0.6 * hair.roughness)
            self.canvas.paint(self.canvas.mask(mane), self.hair, HAIR, gain=0.75)
        cap = _roughened(rng, _hull(self.project(skull(hair.thickness))), hair.roughness)
        self.canvas.paint(self.canvas.mask(cap), self.hair, HAIR)

    def _body(self) -> None:
        """Neck and clothes; the trunk follows the head's turns only in part."""
        canvas, pose, rng, look = self.canvas, self.scene.pose, self.rng, self.scene.look
        trunk = Projection.of(Pose(0.4 * pose.yaw, 0, 0.3 * pose.roll, pose.scale, (0, 0)), self.side)
        joint = np.array([[0, 0.9, -0.3]])
        trunk = replace(trunk, origin=(self.project(joint) - trunk(joint))[0])

        def outline(half: Sequence[tuple[float, float]]) -> np.ndarray:
            right = np.column_stack([half, np.full(len(half), -0.3)])
            return trunk(_rounded(np.concatenate([right, (right * (-1, 1, 1))[::-1]])))

        n, base, cut = rng.uniform(0.52, 0.72), self.scene.shape.chin + rng.uniform(0.35, 0.6), rng.uniform(0, 0.7)
        neck = canvas.mask(outline([(n, 0.3), (n, base - 0.2), (n + 0.7, base + 1.2)]))
        canvas.paint(neck, self.skin, BACKGROUND, gain=0.85)
        below = _hull(self.project(np.add(face_mesh(self.scene.shape), (0, 0.12, 0))))
        canvas.paint(neck, self.skin, alpha=self._enlarge(self._soft([below], 0.08)), gain=0.55)  # the head's shadow
        shirt = [(0.3, base + cut), (n + 0.05, base - 0.15), (2.0, base + 0.25), (2.6, base + 0.6), (3.0, 6.0)]
        folds = self.half_shade * np.exp(0.12 * _noise(rng, 12, self.side))
        canvas.paint(canvas.mask(outline(shirt)), look.clothes, BACKGROUND, gain=folds)

    def _ears(self) -> None:
        if self.scene.hair.style in ("bob", "long") and self.scene.hair.overlap > 0.02:
            return
        flare = self.scene.shape.ear
        x = np.array([0.9, 0.98 + flare, 1.02 + flare, 0.98 + 0.6 * flare, 0.92, 0.88])
        y, z = (-0.2, -0.22, 0.1, 0.42, 0.5, 0.2), (0.0, -0.22, -0.3, -0.2, -0.05, 0.1)
        for s in (-1, 1):
            ear = self.project(_rounded(np.stack([s * x, y, z], axis=-1)))
            mask, middle = self.canvas.mask(ear), ear.mean(axis=0)
            self.canvas.paint(mask, self.skin, SKIN, gain=0.9)
            rim = self.canvas.lines([middle + 0.6 * (ear - middle)], 0.04 * self.unit, closed=True)
            self.canvas.paint(rim & mask, self.skin, alpha=0.6, gain=0.7)

    def _head(self) -> None:
        top = -1.0 if self.scene.hair.style == "bald" else None
        self.face = self.canvas.mask(_hull(self.project(face_mesh(self.scene.shape, top))))
        self.canvas.paint(self.face, self.skin, SKIN)

    def _beard(self) -> None:
        look, shape = self.scene.look, self.scene.shape
        if look.beard == 0:
            return
        nose, chin = shape.nose_length, shape.chin
        x = np.array([-1.1, -0.9, -0.5, -0.4, 0, 0.4, 0.5, 0.9, 1.1, 0.8, 0, -0.8])
        lip = [nose + 0.36, nose + 0.14, nose + 0.1, nose + 0.14, nose + 0.36]
        y = np.array([0.1, 0.7, *lip, 0.7, 0.1, chin - 0.01, chin, chin - 0.01])
        edge = face_width(shape, y)
        area = self.project(on_face(shape, np.clip(x, -edge, edge), y) + (0, 0.1, 0) * (y[:, None] > chin - 0.1))
        density = look.beard * self._enlarge(self._soft([area], 0.06)) * np.clip(0.8 + 0.3 * self.grain, 0.2, 1.1)
        self.canvas.paint(self.face, self.hair, alpha=np.minimum(density, 0.95), gain=0.9)

    def _eye(self, side: int) -> None:
        canvas, look, face = self.canvas, self.scene.look, self.face
        *lids, pupil = eye_curves(self.scene, side)
        upper, lower = self.project(lids[0]), self.project(lids[1])
        opening = canvas.mask(np.concatenate([upper, lower[-2:0:-1]])) & face
        canvas.paint(opening, (226, 220, 216), LEFT_EYE if side < 0 else RIGHT_EYE, gain=self.half_shade)
        ring = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        disc = 0.088 * np.stack([np.cos(ring), np.sin(ring), 0 * ring], axis=-1)
        for radius, colour in ((1.0, 0.55 * look.iris), (0.84, look.iris), (0.42, (12, 12, 12))):
            canvas.paint(canvas.mask(self.project(pupil + radius * disc)) & opening, colour)
        cast = canvas.lines([np.add(upper, (0, 0.02 * self.unit))], 0.05 * self.unit) & opening
        canvas.paint(cast, (40, 30, 28), alpha=0.45)  # the upper lid's shadow on the ball
        glint = pupil + (0.03 * np.sign(self.scene.light.direction[0]), -0.03, 0) + 0.22 * disc
        canvas.paint(canvas.mask(self.project(glint)) & opening, (245, 245, 245), alpha=0.85)
        lashes = canvas.lines([upper], (0.025 + 0.03 * look.make_up) * self.unit) & face
        canvas.paint(lashes, np.minimum(0.5 * look.brow, 0.45 * look.skin), alpha=0.85)
        canvas.paint(canvas.lines([lower], 0.015 * self.unit) & face, self.skin, alpha=0.4, gain=0.6)
        crease = canvas.lines([upper[1:-1] - (0, 0.055 * self.unit)], 0.015 * self.unit) & face
        canvas.paint(crease, self.skin, alpha=0.6, gain=0.6)

    def _brow(self, side: int) -> None:
        top, bottom = brow_curves(self.scene, side)
        mask = self.canvas.mask(_rounded(self.project(np.concatenate([top, bottom[::-1]])), 1)) & self.face
        hairs = np.clip(self.scene.look.brow_strength * (1 + 0.3 * self.grain), 0.35, 1)
        label = LEFT_BROW if side < 0 else RIGHT_BROW
        self.canvas.paint(mask, self.scene.look.brow, label, alpha=hairs, gain=self.half_shade)

    def _mouth(self) -> None:
        canvas, act, lips = self.canvas, self.scene.expression, self.scene.look.lips
        up_out, up_in, low_in, low_out = (self.project(c) for c in lip_curves(self.scene))
        gain = self.shade * (1 + 0.06 * self.grain)
        canvas.paint(canvas.mask(np.concatenate([low_out, low_in[::-1]])), 1.06 * lips, LOWER_LIP, gain=gain)
        canvas.paint(canvas.mask(np.concatenate([up_out, up_in[::-1]])), 0.86 * lips, UPPER_LIP, gain=gain)
        shine = canvas.lines([0.5 * (low_in[3:6] + low_out[5:8])], 0.04 * self.unit)
        canvas.paint(shine, 1.2 * lips + 14, alpha=0.5, gain=gain)
        if act.gap == 0:
            canvas.paint(canvas.lines([up_in], 0.02 * self.unit), 0.4 * lips, alpha=0.85, gain=gain)
            return
        inner = canvas.mask(np.concatenate([up_in, low_in[-2:0:-1]]))
        canvas.paint(inner, (58, 22, 24), INNER_MOUTH)
        tongue = np.concatenate([low_in[2:7], (0.6 * low_in + 0.4 * up_in)[6:1:-1]])
        canvas.paint(canvas.mask(_rounded(tongue, 1)) & inner, (140, 70, 72), gain=self.half_shade)
        if act.teeth:
            reach = min(1.0, 0.11 / act.gap)
            bite = (1 - reach) * up_in + reach * low_in
            teeth = canvas.mask(np.concatenate([up_in[1:-1], bite[-2:0:-1]])) & inner
            canvas.paint(teeth, (226, 220, 206), gain=0.95 * self.half_shade)

    def _nose(self) -> None:
        canvas, shape = self.canvas, self.scene.shape
        ridge, bridge, base = nose_curves(shape)
        parts = [_hull(self.project(np.concatenate([bridge, ridge])))]
        parts.append(_rounded(_hull(self.project(np.concatenate([base, ridge[3:]]))), 1))
        nose = canvas.mask(*parts)
        canvas.paint(nose, self.skin, NOSE, gain=1.02)
        w, ring = shape.nose_width, np.linspace(0, 2 * np.pi, 12, endpoint=False)
        for s in (-1, 1):
            x, y = w * (0.48 * s + 0.24 * np.cos(ring)), shape.nose_length + 0.005 + 0.035 * np.sin(ring)
            nostril = canvas.mask(self.project(on_face(shape, x, y, 0.45 * shape.nose_depth))) & nose
            canvas.paint(nostril, self.skin, alpha=0.85, gain=0.35)
        wings = [self.project(base[:4]), self.project(base[7:])]
        canvas.paint(canvas.lines(wings, 0.025 * self.unit) & nose, self.skin, alpha=0.7, gain=0.68)
        tip = canvas.lines([self.project(base[3:8])], 0.02 * self.unit) & nose
        canvas.paint(tip, self.skin, alpha=0.6, gain=0.7)

    def _hair_in_front(self) -> None:
        """Locks over the hairline, a fringe, and the side hair of bob and long hair."""
        hair, rng, shape, n = self.scene.hair, self.rng, self.scene.shape, 22
        if hair.style == "bald":
            return
        x = np.linspace(-0.86, 0.86, n) + rng.uniform(-0.03, 0.03, n)
        swept = np.clip((x - hair.parting) * (-1 if hair.parting > 0 else 1), 0, 1)  # to the wider side
        reach: dict[str, Any] = {"none": 0.05, "side": 0.6 * swept, "full": rng.uniform(0.3, 0.62)}
        # Shorter towards the temples, where the hairline is low already.
        fall = 0.04 + reach[hair.fringe] * rng.uniform(0.75, 1.1, n) * (1 - (x / 0.9) ** 4)
        drift = 0.0 if hair.fringe == "full" else 0.7 * (x - hair.parting) * fall
        half = rng.uniform(0.05, 0.11, n)
        low = 0.6 * drift
        across = np.stack([x - half, x + half, x + low + 0.8 * half, x + drift, x + low - 0.8 * half], axis=-1)
        down = (hairline(shape, x) + np.stack([-0.14 + 0 * x, -0.14 + 0 * x, 0.6 * fall, fall, 0.6 * fall])).T
        edge = 0.97 * face_width(shape, down)
        locks = [self.project(lock) for lock in on_face(shape, np.clip(across, -edge, edge), down, 0.06)]
        if hair.style in ("bob", "long"):
            locks += [self._curtain(s) for s in (-1, 1)]
        self.canvas.paint(self.canvas.mask(*locks), self.hair, HAIR)

    def _curtain(self, side: int) -> np.ndarray:
        """Side hair from the parting past temple and cheek down to its end, (N, 2) on the canvas."""
        hair, rng = self.scene.hair, self.rng
        cover, t, end = hair.overlap + rng.uniform(0, 0.06), hair.thickness, hair.end + rng.uniform(-0.2, 0.1)
        inner_x = (0.3, 0.72, 0.95 - 0.6 * cover, 1.0 - cover, 1.0 - 0.8 * cover, 1.02 - 0.5 * cover)
        inner_y = (-1.1, -0.75, -0.3, 0.3, 0.6 * end + 0.2, end)
        outer_x = (1.1 + t, 1.16 + t, 1.04 + t, 0.75 + 0.6 * t, 0.3)
        outer_y = (end - 0.05, 0.6 * end, -0.3, -1.1, -1.4)
        x, y = np.array([*inner_x, *outer_x]), np.array([*inner_y, *outer_y])
        z = np.array([0.75, 0.6, 0.4, 0.25, 0.2, 0.2] + 5 * [-0.05])
        points = np.stack([side * x, y + rng.normal(0, 0.03, 11), z], axis=-1)
        return _roughened(rng, self.project(_rounded(points)), 0.5 * hair.roughness)

    def _hat(self) -> None:
        """A cap over the skull, now and then with a peak: it hides hair, and is labelled background."""
        hair, look = self.scene.hair, self.scene.look
        if not hair.hat:
            return
        x, y, z = skull(hair.thickness + 0.12).T
        parts = [_hull(self.project(np.column_stack([x, np.minimum(y, -0.62 + 0.12 * z), z])))]
        if hair.parting > 0:
            peak = np.array([[0.8, -0.55, 0.6], [0.55, -0.5, 1.35], [-0.55, -0.5, 1.35], [-0.8, -0.55, 0.6]])
            parts.append(_hull(self.project(np.concatenate([peak, peak - (0, 0.12, 0)]))))
        weave = self.half_shade * np.exp(0.06 * _noise(self.rng, 20, self.side))
        for part, gain in zip(parts, (1.0, 0.75), strict=False):
            self.canvas.paint(self.canvas.mask(part), gain * look.hat, BACKGROUND, gain=weave)

    def _glasses(self) -> None:
        """Rims only, so thin that the label beneath stays."""
        kind, e = self.scene.look.glasses, self.scene.shape.eye_spacing
        if kind == "none":
            return
        ring, power = np.linspace(0, 2 * np.pi, 33), 1.0 if kind == "round" else 0.5
        c, s = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(ring), np.sin(ring)))
        curves = [np.array([[0.33 - e, 0, 1.03], [0, -0.04, 1.08], [e - 0.33, 0, 1.03]])]
        for side in (-1, 1):
            x = side * e + 0.33 * c
            curves.append(np.stack([x, 0.05 + 0.25 * s, 1.05 - 0.1 * np.abs(x)], axis=-1))
            curves.append(np.array([[side * (e + 0.33), 0, 0.97], [side * 1.0, -0.03, 0.1]]))
        rims = self.canvas.lines([self.project(curve) for curve in curves], 0.03 * self.unit)
        self.canvas.paint(rims, 0.35 * self.scene.look.hat, alpha=0.9)

    # ------------------------------------------------------------------------------ the camera

    def develop(self) -> DrawnFace:
        """Averages the canvas down, adds the camera's blur, colour and noise, and lets the labels vote."""
        light, size = self.scene.light, self.side // SUPERSAMPLING
        rgb = cv2.resize(self.canvas.rgb, (size, size), interpolation=cv2.INTER_AREA)
        rgb = cv2.GaussianBlur(rgb, (0, 0), max(light.blur * size / 256, 0.1))
        offset = np.full((3, 1), 118 * (1 - light.contrast))
        rgb = cv2.transform(rgb, np.hstack([np.diag(light.contrast * light.tint), offset]))
        rgb = rgb + light.noise * self.rng.standard_normal(rgb.shape, dtype=np.float32)
        image = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
        landmarks = landmarks_of(self.scene, self.project) / SUPERSAMPLING - 0.5
        return DrawnFace(image, _majority(self.canvas.label), landmarks.astype(np.float32))


def _majority(label: np.ndarray) -> np.ndarray:
    """Most frequent id of each 2 x 2 block, (2n, 2n) -> (n, n); never an id that is not there."""
    a, b, c, d = label[::2, ::2], label[::2, 1::2], label[1::2, ::2], label[1::2, 1::2]
    return np.where((b == c) | (b == d), b, np.where(c == d, c, a))
