"""The painter: draws a labelled face from a scene, part by part from back to front.

`sample_scene` chooses a face, `render` draws it; everything random in the picture follows from the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from datamodules.labels import LAPA
from datamodules.synthesis.canvas import (
    SUPERSAMPLING,
    Canvas,
    Mask,
    SoftGrid,
    hull,
    noise,
    roughened,
    rounded,
    sensor_noise,
)
from datamodules.synthesis.head import (
    Projection,
    face_mesh,
    face_width,
    features_of,
    hairline,
    on_face,
    skull,
)
from datamodules.synthesis.landmarks import landmarks_68, landmarks_106
from datamodules.synthesis.scene import FaceScene, Pose, any_colour, sample_scene
from datamodules.synthesis.surfaces import lit_hair, lit_skin, shading

__all__ = ["DrawnFace", "FaceScene", "draw_face", "render", "sample_scene"]

BACKGROUND, SKIN, LEFT_BROW, RIGHT_BROW, LEFT_EYE, RIGHT_EYE = range(6)
NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = range(6, len(LAPA))


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
        landmarks_68: float32 (68, 2), in the order of iBUG and dlib: 0-16 face contour, 17-26 brows, 27-30 ridge and
            31-35 base of the nose, 36-47 eyes, 48-59 outer and 60-67 inner lips.
        parts: bool (size, size) for each part that is seen, by its name in CelebAMask-HQ (`l_` is the person's own
            left). They overlap as annotators draw them: skin runs on beneath brows, eyes, nose, mouth and glasses,
            ears beneath hair, the neck beneath a necklace.
    """

    image: np.ndarray
    label: np.ndarray
    landmarks: np.ndarray
    landmarks_68: np.ndarray
    parts: dict[str, np.ndarray]


def draw_face(rng: np.random.Generator, size: int = 256) -> DrawnFace:
    """A face drawn at random; the same state of the generator gives the same bytes. `size` in pixels."""
    return render(sample_scene(rng), size)


def render(scene: FaceScene, size: int = 256) -> DrawnFace:
    """Draws a scene, `size` pixels wide and high; the same scene and size give the same bytes."""
    painter = _Painter(scene, size * SUPERSAMPLING)
    painter.paint()
    return painter.develop()


class _Painter:
    """Paints one scene from back to front; the methods stand in drawing order."""

    def __init__(self, scene: FaceScene, side: int) -> None:
        self.scene, self.rng = scene, np.random.default_rng(scene.texture_seed)
        self.canvas, self.grid = Canvas(side), SoftGrid(side)
        self.project = project = Projection.of(scene.pose, side)
        self.features = features_of(scene)
        self.unit = project.scale  # canvas pixels
        fields = shading(scene, project, self.canvas.size)
        self.shade = fields[0]
        self.half_shade = 0.4 + 0.6 * np.minimum(self.shade, 1)  # for what scatters light: hair, cloth, teeth, eyes
        self.grain = noise(self.rng, 90, self.canvas.size)
        self.stubble = noise(self.rng, min(200, self.canvas.size), self.canvas.size)
        self.skin = lit_skin(scene, fields, self.rng)
        self.hair = lit_hair(scene, project, self.half_shade, self.rng)

    def paint(self) -> None:
        """Lays every part over those behind it."""
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
        self._ear_rings()
        self._hand()

    def _backdrop(self) -> None:
        """A gradient with out-of-focus clutter, some of it in the colours of skin and hair."""
        small, rng, look = 96, self.rng, self.scene.look
        near, far = any_colour(rng), any_colour(rng)
        turn, ramp = rng.uniform(0, 2 * np.pi), np.linspace(-0.5, 0.5, small)
        t = np.clip(ramp * np.cos(turn) + ramp[:, None] * np.sin(turn) + 0.5, 0, 1)
        picture = cv2.merge([(a + (b - a) * t).astype(np.float32) for a, b in zip(near, far, strict=True)])
        for _ in range(int(rng.integers(0, 12))):
            colour = (look.skin, look.hair, look.lips, any_colour(rng))[rng.choice(4, p=[0.25, 0.2, 0.05, 0.5])]
            colour = np.clip(colour * rng.uniform(0.8, 1.2), 0, 255).tolist()
            box = (rng.uniform(-10, small + 10, 2).tolist(), rng.uniform(6, 68, 2).tolist(), rng.uniform(0, 180))
            if rng.random() < 0.6:
                cv2.ellipse(picture, box, colour, -1)
            else:
                cv2.fillPoly(picture, [cv2.boxPoints(box).astype(np.int32)], colour)
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 5))
        self.canvas.rgb[:] = cv2.resize(picture, (self.canvas.size, self.canvas.size))

    def _hair_behind(self) -> None:
        hair, rng = self.scene.hair, self.rng
        if hair.style == "bald":
            dome = self.canvas.mask(hull(self.project(skull(-0.02))))
            self.canvas.paint(dome, self.skin, SKIN)
            self.canvas.keep("skin", dome)
            return
        if hair.hangs:
            wide, end = 1.0 + hair.thickness, hair.end
            x = np.array([0.75, 0.95 * wide, wide, wide + 0.08, 0.9 * wide, 0.4 * wide])
            y = np.array([-1.35, -0.9, -0.3, 0.7 * end, end, end]) + rng.normal(0, 0.05, (2, 6))
            right, left = (np.stack([s * x, y[max(s, 0)], np.full(6, -0.35)], -1) for s in (1, -1))
            mane = self.project(rounded(np.concatenate([right, left[::-1]])))
            mane = roughened(rng, mane, 0.6 * hair.roughness)
            self._lay_hair(self.canvas.mask(mane) | self._strands(mane), 0.72)
        cap = roughened(rng, hull(self.project(skull(hair.thickness))), hair.roughness)
        self._lay_hair(self.canvas.mask(cap) | self._strands(cap), 1.0)

    def _lay_hair(self, mask: Mask, gain: Any, hides: Sequence[str] = ()) -> None:
        self.canvas.paint(mask, self.hair, HAIR, gain=gain)
        self.canvas.keep("hair", mask, hides)

    def _strands(self, edge: np.ndarray) -> Mask:
        """Single hairs that leave the outline (N, 2) of a head of hair, as a mask."""
        hair, rng = self.scene.hair, self.rng
        count = int(70 + 160 * hair.curl)
        start = edge[rng.integers(0, len(edge), count)] + rng.normal(0, 0.02 * self.unit, (count, 2))
        outward = start - edge.mean(axis=0)
        outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
        tangent = outward[:, ::-1] * (1, -1) * rng.choice([-1, 1], (count, 1))
        length = self.unit * rng.uniform(0.05, 0.12 + 6 * hair.roughness, (count, 1))
        low = np.array([0, 1.0])
        middle = start + length * (0.5 * tangent + 0.25 * outward + 0.3 * low)
        end = start + length * (rng.normal(0.9, 0.4, (count, 1)) * tangent + 0.2 * outward + 0.6 * low)
        return self.canvas.lines(np.stack([start, middle, end], axis=1), 0.007 * self.unit)

    def _body(self) -> None:
        """Neck and clothes; the trunk follows the head's turns only in part."""
        canvas, pose, rng, look = self.canvas, self.scene.pose, self.rng, self.scene.look
        trunk = Projection.of(Pose(0.4 * pose.yaw, 0, 0.3 * pose.roll, pose.scale, (0, 0)), self.canvas.side)
        joint = np.array([[0, 0.9, -0.3]])
        trunk = replace(trunk, origin=(self.project(joint) - trunk(joint))[0])

        def outline(half: Sequence[tuple[float, float]]) -> np.ndarray:
            right = np.column_stack([half, np.full(len(half), -0.3)])
            return trunk(rounded(np.concatenate([right, (right * (-1, 1, 1))[::-1]])))

        n, base, cut = rng.uniform(0.52, 0.72), self.scene.shape.chin + rng.uniform(0.15, 0.5), rng.uniform(0, 0.7)
        neck = canvas.mask(outline([(n, 0.3), (n, base - 0.2), (n + 0.7, base + 1.2)]))
        canvas.paint(neck, self.skin, BACKGROUND, gain=0.85)
        canvas.keep("neck", neck, ("hair",))
        below = hull(self.project(np.add(face_mesh(self.scene.shape), (0, 0.12, 0))))
        canvas.paint(neck, self.skin, alpha=self._soft(below, 0.08), gain=0.55)  # the head's shadow
        shirt = [(0.3, base + cut), (n + 0.05, base - 0.15), (2.0, base + 0.25), (2.6, base + 0.6), (3.0, 6.0)]
        folds = self.half_shade * np.exp(
            0.12 * noise(rng, 9, self.canvas.size) + 0.04 * noise(rng, 60, self.canvas.size)
        )
        cloth = canvas.mask(outline(shirt))
        canvas.paint(cloth, look.clothes, BACKGROUND, gain=folds)
        canvas.keep("cloth", cloth, ("hair", "neck"))
        collar = canvas.lines([outline(shirt)[: 2 * len(shirt)]], 0.03 * self.unit) & cloth
        canvas.paint(collar, look.clothes, alpha=0.6, gain=0.6)
        if look.necklace != "none":
            self._necklace(trunk, n, base)

    def _necklace(self, trunk: Projection, neck: float, base: float) -> None:
        """A chain or a row of pearls; the neck's own mask runs on beneath it, as annotators draw it."""
        canvas, rng, pearls = self.canvas, self._own_random("necklace"), self.scene.look.necklace == "pearls"
        t = np.linspace(-1, 1, 33)
        drop = rng.uniform(0.15, 0.5)
        curve = trunk(np.stack([t * (neck + 0.12), base - 0.1 + drop * (1 - t**2) ** 0.8, 0.1 + 0 * t], axis=-1))
        if pearls:
            mask = canvas.ellipses([(middle, 0.035 * self.unit, 0.035 * self.unit) for middle in curve])
        else:
            mask = canvas.lines([curve], 0.025 * self.unit)
        metal = (236, 228, 214) if pearls else ((212, 176, 92) if rng.random() < 0.6 else (200, 202, 208))
        canvas.paint(mask, metal, BACKGROUND, gain=self.half_shade * np.exp(0.25 * self.grain))
        canvas.keep("neck_l", mask)

    def _ears(self) -> None:
        if self.scene.hair.hangs and self.scene.hair.overlap > 0.02:
            return
        flare = self.scene.shape.ear
        x = np.array([0.9, 0.98 + flare, 1.02 + flare, 0.98 + 0.6 * flare, 0.92, 0.88])
        y, z = (-0.2, -0.22, 0.1, 0.42, 0.5, 0.2), (0.0, -0.22, -0.3, -0.2, -0.05, 0.1)
        for s in (-1, 1):
            ear = self.project(rounded(np.stack([s * x, y, z], axis=-1)))
            mask, middle = self.canvas.mask(ear), ear.mean(axis=0)
            self.canvas.paint(mask, self.skin, SKIN, gain=0.92)
            self.canvas.keep("r_ear" if s < 0 else "l_ear", mask, ("hair", "neck"))
            hollow = self.canvas.mask(middle + 0.5 * (ear - middle))
            self.canvas.paint(hollow, self.skin, alpha=0.5, gain=0.6)
            rim = self.canvas.lines([middle + 0.6 * (ear - middle)], 0.04 * self.unit, closed=True)
            self.canvas.paint(rim & mask, self.skin, alpha=0.6, gain=0.7)

    def _head(self) -> None:
        top = -1.0 if self.scene.hair.style == "bald" else None
        self.face = self.canvas.mask(hull(self.project(face_mesh(self.scene.shape, top))))
        self.canvas.paint(self.face, self.skin, SKIN)
        self.canvas.keep("skin", self.face, ("hair", "neck", "l_ear", "r_ear", "cloth", "neck_l"))

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
        density = look.beard * self._soft(area, 0.06) * np.clip(0.85 + 0.25 * self.stubble, 0.3, 1.1)
        self.canvas.paint(self.face, self.hair, alpha=np.minimum(density, 0.95), gain=0.9)

    def _eye(self, side: int) -> None:
        canvas, look, face = self.canvas, self.scene.look, self.face
        *lids, pupil = self.features.eyes[side > 0]
        upper, lower = self.project(lids[0]), self.project(lids[1])
        opening = canvas.mask(np.concatenate([upper, lower[-2:0:-1]])) & face
        canvas.paint(opening, (228, 220, 214), LEFT_EYE if side < 0 else RIGHT_EYE, gain=self.half_shade)
        canvas.keep("r_eye" if side < 0 else "l_eye", opening)
        inner = upper[-1] if side < 0 else upper[0]
        tear = inner + 0.035 * self.unit * np.array([[-1, 0], [0, -1], [1, 0], [0, 1]])
        canvas.paint(canvas.mask(tear) & opening, (200, 130, 120), alpha=0.7, gain=self.half_shade)
        ring = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        disc = 0.088 * np.stack([np.cos(ring), np.sin(ring), 0 * ring], axis=-1)
        for radius, colour in (
            (1.0, 0.45 * look.iris),
            (0.84, 0.9 * look.iris),
            (0.62, 1.2 * look.iris),
            (0.4, (10, 10, 10)),
        ):
            canvas.paint(canvas.mask(self.project(pupil + radius * disc)) & opening, colour)
        cast = canvas.lines([np.add(upper, (0, 0.02 * self.unit))], 0.05 * self.unit) & opening
        canvas.paint(cast, (40, 30, 28), alpha=0.45)  # the upper lid's shadow on the ball
        glint = pupil + (0.03 * np.sign(self.scene.light.direction[0]), -0.03, 0) + 0.22 * disc
        canvas.paint(canvas.mask(self.project(glint)) & opening, (245, 245, 245), alpha=0.85)
        lashes = canvas.lines([upper], (0.025 + 0.03 * look.make_up) * self.unit) & face
        canvas.paint(lashes, np.minimum(0.4 * look.brow, 0.35 * look.skin), alpha=0.9)
        canvas.paint(canvas.lines([lower], 0.015 * self.unit) & face, self.skin, alpha=0.4, gain=0.6)
        crease = canvas.lines([upper[1:-1] - (0, 0.055 * self.unit)], 0.015 * self.unit) & face
        canvas.paint(crease, self.skin, alpha=0.6, gain=0.6)

    def _brow(self, side: int) -> None:
        top, bottom = self.features.brows[side > 0]
        mask = self.canvas.mask(rounded(self.project(np.concatenate([top, bottom[::-1]])), 1)) & self.face
        strength = self.scene.look.brow_strength
        base = np.clip(0.55 * strength * (1 + 0.3 * self.grain), 0.15, 0.8)
        label = LEFT_BROW if side < 0 else RIGHT_BROW
        self.canvas.paint(mask, self.scene.look.brow, label, alpha=base, gain=self.half_shade)
        self.canvas.keep("r_brow" if side < 0 else "l_brow", mask)
        along = self.rng.uniform(0, 4, 70)
        step = np.minimum(along + 0.7, 4) if side > 0 else np.maximum(along - 0.7, 0)  # hairs lie outwards
        low, high = (self.project(np.stack([np.interp(at, range(5), axis) for axis in edge.T], -1))
                     for at, edge in ((along, bottom), (step, top)))  # fmt: skip
        inset = self.rng.uniform(0, 0.5, (70, 1))
        hairs = self.canvas.lines(np.stack([low + inset * (high - low), high], axis=1), 0.012 * self.unit) & mask
        self.canvas.paint(hairs, self.scene.look.brow, alpha=strength, gain=0.75 * self.half_shade)

    def _mouth(self) -> None:
        canvas, act, lips = self.canvas, self.scene.expression, self.scene.look.lips
        up_out, up_in, low_in, low_out = (self.project(c) for c in self.features.lips)
        gain = self.shade * (1 + 0.06 * self.grain)
        low, up = (
            canvas.mask(np.concatenate([low_out, low_in[::-1]])),
            canvas.mask(np.concatenate([up_out, up_in[::-1]])),
        )
        canvas.paint(low, 1.06 * lips, LOWER_LIP, gain=gain)
        canvas.paint(up, 0.92 * lips, UPPER_LIP, gain=gain)
        canvas.keep("l_lip", low)
        canvas.keep("u_lip", up)
        shine = canvas.lines([0.5 * (low_in[3:6] + low_out[5:8])], 0.04 * self.unit)
        canvas.paint(shine, 1.2 * lips + 14, alpha=0.5, gain=gain)
        if act.gap == 0:
            canvas.paint(canvas.lines([up_in], 0.02 * self.unit), 0.4 * lips, alpha=0.85, gain=gain)
            return
        inner = canvas.mask(np.concatenate([up_in, low_in[-2:0:-1]]))
        canvas.paint(inner, (58, 22, 24), INNER_MOUTH)
        canvas.keep("mouth", inner)
        tongue = np.concatenate([low_in[2:7], (0.6 * low_in + 0.4 * up_in)[6:1:-1]])
        canvas.paint(canvas.mask(rounded(tongue, 1)) & inner, (140, 70, 72), gain=self.half_shade)
        if act.teeth:
            reach = min(1.0, 0.11 / act.gap)
            bite = (1 - reach) * up_in + reach * low_in
            teeth = canvas.mask(np.concatenate([up_in[1:-1], bite[-2:0:-1]])) & inner
            canvas.paint(teeth, (232, 226, 212), gain=0.95 * self.half_shade)
            gaps = [np.stack([up_in[k] * (1 - f) + up_in[k + 1] * f, bite[k] * (1 - f) + bite[k + 1] * f])
                    for k in range(1, 7) for f in (0.0, 0.5)]  # fmt: skip
            canvas.paint(canvas.lines(gaps, 0.012 * self.unit) & teeth, (120, 96, 84), alpha=0.35)

    def _nose(self) -> None:
        canvas, shape = self.canvas, self.scene.shape
        ridge, bridge, base = self.features.nose
        parts = [hull(self.project(np.concatenate([bridge, ridge])))]
        parts.append(rounded(hull(self.project(np.concatenate([base, ridge[3:]]))), 1))
        nose = canvas.mask(*parts)
        canvas.paint(nose, self.skin, NOSE)
        canvas.keep("nose", nose)
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
        if hair.style in ("short", "afro", "buzz"):
            locks += [self._sideburn(s) for s in (-1, 1) if s * self.scene.pose.yaw < 10]
        if hair.hangs:
            locks += [self._curtain(s) for s in (-1, 1)]
        x = np.linspace(-1, 1, 15)
        roots = np.concatenate([np.stack([x, hairline(shape, x) + 0.05], -1), [(1.0, -1.4), (-1.0, -1.4)]])
        scalp = self.project(on_face(shape, *roots.T))
        self.canvas.paint(self.face, self.hair, alpha=0.7 * self._soft(scalp, 0.05))  # hair thins out, not its label
        hidden = ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip", "neck", "cloth")
        turned, far = np.sign(self.scene.pose.yaw), 0.8 - 0.015 * abs(self.scene.pose.yaw)
        x = turned * np.linspace(-0.8, far, 22)  # none on the side that is turned away
        roots = self.project(on_face(shape, x, hairline(shape, x), 0.05))
        self._lay_hair(self.canvas.mask(*locks) | self._baby_hair(roots), 1.0, hidden)

    def _sideburn(self, side: int) -> np.ndarray:
        """Hair before an ear, (N, 2) on the canvas."""
        low, shape = self.rng.uniform(-0.25, 0.35), self.scene.shape
        y = np.array([-1.0, -0.65, -0.2, low, low, -1.0])
        edge = face_width(shape, y)
        x = np.array([0.7, 0.84, 0.9, 0.92, 1.0, 1.0]) * edge
        return self.project(rounded(on_face(shape, side * x, y, 0.03), 1))

    def _baby_hair(self, roots: np.ndarray) -> Mask:
        """Short hairs about the hairline (N, 2), as a mask."""
        start = roots[self.rng.integers(0, len(roots), 90)] + self.rng.normal(0, 0.02 * self.unit, (90, 2))
        end = start + self.unit * self.rng.normal(0, 1, (90, 2)) * (0.05, 0.03) + (0, 0.05 * self.unit)
        return self.canvas.lines(np.stack([start, end], axis=1), 0.007 * self.unit)

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
        return roughened(rng, self.project(rounded(points)), 0.5 * hair.roughness)

    def _hat(self) -> None:
        """A cap over the skull, now and then with a peak: it hides hair, and is labelled background."""
        hair, look = self.scene.hair, self.scene.look
        if not hair.hat:
            return
        x, y, z = skull(hair.thickness + 0.12).T
        parts = [hull(self.project(np.column_stack([x, np.minimum(y, -0.62 + 0.12 * z), z])))]
        if hair.parting > 0:
            peak = np.array([[0.8, -0.55, 0.6], [0.55, -0.5, 1.35], [-0.55, -0.5, 1.35], [-0.8, -0.55, 0.6]])
            parts.append(hull(self.project(np.concatenate([peak, peak - (0, 0.12, 0)]))))
        weave = self.half_shade * np.exp(0.06 * noise(self.rng, 20, self.canvas.size) + 0.05 * self.grain)
        for part, gain in zip(parts, (1.0, 0.75), strict=False):
            mask = self.canvas.mask(part)
            self.canvas.paint(mask, gain * look.hat, BACKGROUND, gain=weave)
            self.canvas.keep("hat", mask, ("hair", "skin", "l_brow", "r_brow", "l_ear", "r_ear"))

    def _glasses(self) -> None:
        """Rims and lenses; LaPa's label beneath stays, as there."""
        kind, e = self.scene.look.glasses, self.scene.shape.eye_spacing
        if kind == "none":
            return
        lenses: list[np.ndarray] = []
        ring, power = np.linspace(0, 2 * np.pi, 33), 1.0 if kind == "round" else 0.5
        c, s = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(ring), np.sin(ring)))
        curves = [np.array([[0.33 - e, 0, 1.03], [0, -0.04, 1.08], [e - 0.33, 0, 1.03]])]
        for side in (-1, 1):
            x = side * e + 0.33 * c
            curves.append(np.stack([x, 0.05 + 0.25 * s, 1.05 - 0.1 * np.abs(x)], axis=-1))
            lenses.append(self.project(curves[-1]))
            curves.append(np.array([[side * (e + 0.33), 0, 0.97], [side * 1.0, -0.03, 0.1]]))
        rims = self.canvas.lines([self.project(curve) for curve in curves], 0.03 * self.unit)
        glass = self.canvas.mask(*lenses)
        if self.scene.look.sunglasses:
            self.canvas.paint(glass, 0.1 * self.scene.look.hat + 12, alpha=0.93, gain=0.6 + 0.8 * self.half_shade)
        else:
            self.canvas.paint(glass, (255, 255, 255), alpha=0.05)
        self.canvas.paint(rims, 0.35 * self.scene.look.hat, alpha=0.9, gain=0.7 + 0.5 * self.shade)
        dark = ("l_eye", "r_eye", "l_brow", "r_brow") if self.scene.look.sunglasses else ()
        self.canvas.keep("eye_g", glass | rims, dark)

    def _ear_rings(self) -> None:
        kind, rng = self.scene.look.ear_rings, self._own_random("ear-rings")
        if kind == "none":
            return
        size = self.unit * (rng.uniform(0.05, 0.16) if kind != "studs" else 0.035)
        lobes = [self.project(np.array([[s, 0.55, -0.05]]))[0] for s in (-1, 1) if s * self.scene.pose.yaw <= 20]
        if kind == "hoops":
            rings = [(lobe + np.array([0, size]), 0.75 * size, 1.1 * size) for lobe in lobes]
            mask = self.canvas.ellipses(rings, 0.03 * self.unit)
        else:
            mask = self.canvas.ellipses([(lobe + np.array([0, size]), 0.5 * size, size) for lobe in lobes])
        mask -= self.face
        metal = ((218, 182, 96), (206, 208, 214), any_colour(rng))[rng.integers(3)]
        self.canvas.paint(mask, metal, BACKGROUND, gain=self.half_shade * np.exp(0.3 * self.grain))
        self.canvas.keep("ear_r", mask)

    def _hand(self) -> None:
        """A hand before the face: it hides what is behind it and is labelled background."""
        where, rng = self.scene.hand, self._own_random("hand")
        if where == "none":
            return
        s, u = rng.choice([-1, 1]), self.unit
        x, y = (0.85 * s, 0.75) if where == "cheek" else (0.25 * s, self.scene.shape.chin - 0.05)
        tip = self.project(np.array([[x, y, 0.8]]))[0]
        lean = np.deg2rad(rng.uniform(-25, 10)) * s
        along, across = np.array([np.sin(lean), -np.cos(lean)]), np.array([np.cos(lean), np.sin(lean)])
        parts, edges = [], []
        for k, reach in enumerate((0.8, 1.0, 0.95, 0.75)):
            base = tip + u * across * (k - 1.5) * 0.21
            top, end = base + u * along * 0.35 * reach, base - u * along * 0.45
            half = 0.1 * u * across
            finger = np.stack([end - half, top - half, top - 0.6 * half + 0.09 * u * along,
                               top + 0.6 * half + 0.09 * u * along, top + half, end + half])  # fmt: skip
            parts.append(rounded(finger, 1))
            edges.append(np.stack([top + half, end + half]))
        palm = tip - u * along * 0.35
        wrist = palm - u * along * 2.2
        parts.append(np.stack([palm - 0.43 * u * across, palm + 0.43 * u * across,
                               wrist + 0.35 * u * across, wrist - 0.35 * u * across]))  # fmt: skip
        mask = self.canvas.mask(*parts)
        colour = self.scene.look.skin * (0.92, 0.86, 0.84)
        self.canvas.paint(mask, colour, BACKGROUND, gain=(0.35 + 0.65 * self.half_shade) * (1 + 0.05 * self.grain))
        self.canvas.paint(self.canvas.lines(edges, 0.025 * u) & mask, 0.5 * colour, alpha=0.6)
        self.canvas.keep("", mask, tuple(self.canvas.parts))

    def develop(self) -> DrawnFace:
        """Averages the canvas down, adds the camera's blur, colour and noise, and lets the labels vote."""
        light = self.scene.light
        rgb = cv2.GaussianBlur(self.canvas.rgb, (0, 0), max(light.blur * self.canvas.size / 256, 0.1))
        offset = np.full((3, 1), 118 * (1 - light.contrast))
        rgb = cv2.transform(rgb, np.hstack([np.diag(light.contrast * light.tint), offset]))
        rgb = cv2.scaleAdd(sensor_noise(self.rng, self.canvas.size), light.noise, rgb)
        image = np.clip(rgb + np.float32(0.5), 0, 255.5).astype(np.uint8)
        points, points_68 = (
            (of(self.scene, self.features, self.project) / SUPERSAMPLING - 0.5).astype(np.float32)
            for of in (landmarks_106, landmarks_68)
        )
        return DrawnFace(image, self.canvas.voted_label(), points, points_68, self.canvas.part_masks())

    def _own_random(self, part: str) -> np.random.Generator:
        """For what can be put on and off: the rest of the picture does not change with it."""
        return np.random.default_rng([self.scene.texture_seed, *part.encode()])

    def _soft(self, polygon: np.ndarray, blur: float) -> np.ndarray:
        """A polygon (N, 2) as a field float32 (size, size) in 0..1, blurred by `blur` head units."""
        return self.grid.enlarge(self.grid.area([polygon], blur * self.unit))
