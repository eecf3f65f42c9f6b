"""The scene: person, expression, pose and lighting as numbers, and their random choice.

Head units: half the width of the face is 1; x points to the right of the image, y down, z towards the viewer,
and the origin lies between the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

# Ten tones after the Monk scale, light to dark (sRGB), for all skin tones of the world.
SKIN_TONES = np.array([(244, 214, 196), (240, 206, 184), (234, 194, 166), (224, 180, 146), (206, 160, 122),
                       (172, 124, 90), (138, 95, 68), (108, 73, 54), (82, 57, 45), (60, 44, 37)])  # fmt: skip
# Black, browns, red, blonds, greys; the first three are the world's most frequent.
HAIR_COLOURS = np.array([(24, 20, 20), (38, 28, 24), (64, 44, 32), (96, 64, 42), (128, 66, 38), (150, 112, 72),
                         (200, 164, 110), (222, 196, 150), (128, 126, 124), (206, 204, 200)])  # fmt: skip
IRIS_COLOURS = np.array([(62, 40, 26), (46, 32, 24), (80, 52, 30), (98, 116, 128), (96, 104, 72), (110, 130, 150)])
HAIR_STYLES: dict[str, tuple[float, float, float]] = {  # share, least and greatest thickness in head units
    "bald": (0.05, 0.0, 0.0),
    "buzz": (0.07, 0.02, 0.05),
    "short": (0.24, 0.06, 0.32),
    "afro": (0.09, 0.2, 0.6),
    "bob": (0.2, 0.12, 0.5),
    "long": (0.35, 0.2, 1.1),
}


def _range(low: float, high: float) -> Any:
    """A dataclass field that `_uniform` samples from low .. high."""
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Pose:
    """Position and rotation of the head: degrees; scale and centre in image widths."""

    yaw: float  # positive turns the face to the right of the image
    pitch: float  # positive looks down
    roll: float  # positive tilts clockwise
    scale: float  # half the width of the face
    centre: tuple[float, float]  # of the eyes


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The person's bones and features, in head units."""

    chin: float = _range(1.48, 1.78)  # below the eyes; an open mouth takes it further
    jaw: float = _range(1.7, 2.35)  # exponent: pointed .. square
    hairline: float = _range(-1.2, -0.92)  # its middle (negative: above the eyes)
    hairline_bend: float = _range(-0.05, 0.2)  # its fall towards the temples
    ear: float = _range(0.08, 0.2)
    eye_spacing: float = _range(0.42, 0.475)  # centre of the face to the centre of an eye
    eye_width: float = _range(0.165, 0.2)  # half of it
    eye_height: float = _range(0.05, 0.095)
    eye_tilt: float = _range(-0.02, 0.04)  # outer corners up
    brow_height: float = _range(0.22, 0.32)
    brow_arch: float = _range(0.02, 0.09)
    brow_thickness: float = _range(0.06, 0.13)  # as annotators draw it, with its faint hairs
    nose_length: float = _range(0.57, 0.76)
    nose_width: float = _range(0.21, 0.32)  # half of it, as below
    bridge_width: float = _range(0.075, 0.12)
    nose_depth: float = _range(0.24, 0.4)
    mouth_width: float = _range(0.32, 0.42)
    upper_lip: float = _range(0.06, 0.145)
    lower_lip: float = _range(0.09, 0.19)


@dataclass(frozen=True, kw_only=True)
class Expression:
    """The facial expression; distances in head units."""

    lids: float  # 0 closed .. 1 open
    gaze: tuple[float, float]
    gap: float  # between the lips; 0 is a closed mouth
    teeth: bool
    smile: float  # -0.25 corners of the mouth down .. 1 up
    brow_raise: float = _range(-0.04, 0.06)


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

    @property
    def hangs(self) -> bool:
        """Whether it hangs down next to the face."""
        return self.style in ("bob", "long")


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
    sunglasses: bool  # whether its lenses are dark
    ear_rings: str  # "none", "studs", "hoops" or "drops"
    necklace: str  # "none", "chain" or "pearls"
    age: float  # 0 young .. 1 old
    masculine: float  # 0 .. 1
    brow_strength: float = _range(0.35, 0.95)
    blush: float = _range(0.0, 0.12)
    gloss: float = _range(0.1, 0.9)
    hair_shine: float = _range(0.05, 0.45)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light and camera."""

    direction: np.ndarray  # (3,) unit vector towards the light; it stays where it is when the head turns
    tint: np.ndarray  # (3,) gain per channel
    blur: float  # standard deviation in 1/256 of the image's width, as below
    depth: float  # blur of what lies behind the face: hair, ears, shoulders; 0 where the lens is stopped down
    quality: int  # of the JPEG file, 1 .. 100
    ambient: float = _range(0.4, 0.85)
    contrast: float = _range(0.85, 1.12)
    noise: float = _range(0.5, 6.0)  # standard deviation in grey levels


@dataclass(frozen=True)
class FaceScene:
    """Everything that determines an image; `texture_seed` fixes strands of hair, clutter, sensor noise."""

    pose: Pose
    shape: Shape
    expression: Expression
    hair: Hair
    look: Look
    light: Light
    hand: str  # "none", or the part of the face that it is near: "cheek", "chin"
    texture_seed: int


def sample_scene(rng: np.random.Generator) -> FaceScene:
    """The parameters of one face; the same state of the generator gives the same scene."""
    pose = Pose(
        yaw=_bell(rng, 0, 15, 36),
        pitch=_bell(rng, 0, 7, 16),
        roll=_bell(rng, 0, 10, 25),
        scale=_bell(rng, 0.275, 0.03, 0.07),
        centre=(_bell(rng, 0.5, 0.04, 0.1), _bell(rng, 0.46, 0.035, 0.09)),
    )
    closed, wide, smiling = (rng.random(3) < (0.05, 0.15, 0.5)).tolist()
    opened = bool(rng.random() < (0.7 if smiling else 0.3))
    expression = _uniform(
        Expression,
        rng,
        smile=rng.uniform(0.45, 1.0) if smiling else rng.uniform(-0.25, 0.45),
        lids=rng.uniform(0.0, 0.2) if closed else float(np.clip(rng.normal(0.9, 0.2), 0.4, 1.3)),
        gaze=(_bell(rng, 0, 0.04, 0.08), _bell(rng, 0, 0.015, 0.03)),
        gap=rng.uniform(0.04, 0.17) + 0.2 * wide if opened else 0.0,
        teeth=bool(smiling or rng.random() < 0.7),
    )
    shape = _uniform(Shape, rng)
    shape = replace(shape, chin=shape.chin + 0.5 * expression.gap)
    hair = _sample_hair(rng)
    look = _sample_look(rng, hair)
    light = _sample_light(rng, look.skin)
    hand = str(rng.choice(["none", "cheek", "chin"], p=[0.95, 0.025, 0.025]))
    return FaceScene(pose, shape, expression, hair, look, light, hand, int(rng.integers(2**31)))


Part = TypeVar("Part")


def _uniform(kind: type[Part], rng: np.random.Generator, **given: Any) -> Part:
    """A part of the scene: `given` fields as they are, the others uniform within their ranges."""
    ranges = {part.name: part.metadata["range"] for part in fields(kind) if part.metadata}  # type: ignore[arg-type]
    return kind(**given, **{name: rng.uniform(*ends) for name, ends in ranges.items()})


def _bell(rng: np.random.Generator, mean: float, deviation: float, limit: float) -> float:
    return mean + float(np.clip(rng.normal(0, deviation), -limit, limit))


def _sample_hair(rng: np.random.Generator) -> Hair:
    style = str(rng.choice(list(HAIR_STYLES), p=[share for share, _, _ in HAIR_STYLES.values()]))
    thickness = rng.uniform(*HAIR_STYLES[style][1:])
    combed = style in ("short", "bob", "long")
    hat = bool(rng.random() < 0.07)
    return _uniform(
        Hair,
        rng,
        style=style,
        fringe=str(rng.choice(["none", "side", "full"], p=[0.45, 0.35, 0.2])) if combed else "none",
        thickness=min(thickness, 0.15) if hat else thickness,
        end=rng.uniform(0.9, 1.6) if style == "bob" else rng.uniform(1.9, 3.0),
        roughness=0.005 if style == "buzz" else rng.uniform(0.01, 0.05),
        curl=1.0 if style == "afro" else rng.uniform(0.2, 0.9) * (rng.random() < 0.4),
        hat=hat,
    )


def _sample_look(rng: np.random.Generator, hair: Hair) -> Look:
    tone, steps = (len(SKIN_TONES) - 1) * rng.beta(1.0, 1.2), np.arange(len(SKIN_TONES))
    skin = np.array([np.interp(tone, steps, channel) for channel in SKIN_TONES.T])
    skin = np.clip(skin * rng.normal(1, 0.02, 3) * (1, 1, rng.uniform(0.9, 1.06)), 0, 250)
    rare = rng.random()
    colour = HAIR_COLOURS[rng.integers(3 if tone > 3.5 and rare > 0.15 else len(HAIR_COLOURS))]
    if rare > 0.96:  # in an artificial colour
        colour = rng.uniform(30, 210, 3)
    elif rare > 0.88:  # as bright as the skin, so that colour alone does not separate the two
        colour = skin * rng.uniform(0.75, 1.05)
    colour = np.clip(colour * rng.uniform(0.85, 1.15) * rng.normal(1, 0.03, 3), 8, 240)
    natural = skin * (0.9, 0.68, 0.68) * rng.uniform(0.85, 1.1) + (12, 2, 4)
    painted = rng.uniform((90, 20, 30), (210, 80, 100))
    bearded = not hair.hangs and rng.random() < 0.45
    age = float(rng.beta(1.2, 2.2))
    if age > 0.6 and rng.random() < 0.7:
        grey = rng.uniform(100, 225)
        colour = colour + (grey - colour) * rng.uniform(0.5, 1)
    feminine = hair.hangs and rng.random() < 0.9
    glasses = str(rng.choice(["none", "round", "square"], p=[0.92, 0.04, 0.04]))
    jewels = rng.random(2) < ((0.5, 0.12) if feminine else (0.06, 0.02))
    return _uniform(
        Look,
        rng,
        skin=skin,
        hair=colour,
        brow=np.clip(np.minimum(colour, 0.85 * skin) * rng.uniform(0.6, 1.0), 8, 200),
        lips=np.clip(painted if hair.hangs and rng.random() < 0.4 else natural, 8, 250),
        iris=IRIS_COLOURS[rng.integers(2 if tone > 5 else len(IRIS_COLOURS))],
        clothes=any_colour(rng),
        hat=any_colour(rng),
        beard=rng.uniform(0.12, 0.85) * bearded,
        make_up=rng.uniform(0.2, 0.6) * (feminine and rng.random() < 0.6),
        glasses=glasses,
        sunglasses=glasses != "none" and bool(rng.random() < 0.35),
        ear_rings=str(rng.choice(["studs", "hoops", "drops"])) if jewels[0] else "none",
        necklace=str(rng.choice(["chain", "pearls"])) if jewels[1] else "none",
        age=age,
        masculine=rng.uniform(0.0, 0.35) if feminine else rng.uniform(0.3, 1.0),
    )


def any_colour(rng: np.random.Generator) -> np.ndarray:
    """A random colour (3,), RGB in 0..255, seldom a saturated one."""
    return np.clip(rng.uniform(5, 245) + rng.normal(0, 1, 3) * rng.choice([4, 20, 60]), 2, 252)


def _sample_light(rng: np.random.Generator, skin: np.ndarray) -> Light:
    direction = np.array([rng.normal(0, 0.6), -abs(rng.normal(0.35, 0.35)), rng.uniform(0.5, 1.1)])
    return _uniform(
        Light,
        rng,
        direction=direction / np.linalg.norm(direction),
        # Cameras expose for the face: dark skin comes out lighter than its tone, pale skin darker.
        tint=rng.uniform(0.9, 1.12)
        * (150 / skin.mean()) ** 0.3
        * (1 + rng.normal(0, 1) * np.array([0.05, 0.0, -0.06])),
        blur=float(rng.choice([0.3, 0.8, 1.3, 2.0])),
        depth=float(rng.uniform(0.6, 2.2)) if rng.random() < 0.25 else 0.0,
        quality=int(rng.integers(55, 98)),
    )
