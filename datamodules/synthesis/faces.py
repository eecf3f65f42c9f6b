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
from datamodules.synthesis.canvas import SUPERSAMPLING, Canvas, SoftGrid, hull, noise, roughened, rounded
from datamodules.synthesis.head import (
    Projection,
    brow_curves,
    eye_curves,
    face_mesh,
    face_width,
    hairline,
    landmarks_of,
    lip_curves,
    nose_curves,
    on_face,
    skull,
)
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
    """

    image: np.ndarray
    label: np.ndarray
    landmarks: np.ndarray


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
        self.unit = project.scale  # canvas pixels
        light = shading(scene, project, self.grid)
        self.shade = self.grid.enlarge(light)
        self.half_shade = 0.5 + 0.5 * self.shade  # for what scatters light: hair, cloth, teeth, eyes
        self.grain = noise(self.rng, 90, side)
        self.skin = lit_skin(scene, project, self.grid, light, self.rng)
        self.hair = lit_hair(scene, project, self.grid, self.half_shade, self.rng)

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
        self.canvas.rgb[:] = cv2.resize(picture, (self.canvas.side, self.canvas.side))

    def _hair_behind(self) -> None:
        hair, rng = self.scene.hair, self.rng
        if hair.style == "bald":
            self.canvas.paint(self.canvas.mask(hull(self.project(skull(-0.02)))), self.skin, SKIN)
            return
        if hair.hangs:
            wide, end = 1.0 + hair.thickness, hair.end
            x = np.array([0.7, wide, wide + 0.1, 0.9 * wide, 0.4 * wide])
            y = np.array([-0.9, -0.4, 0.7 * end, end, end]) + rng.normal(0, 0.06, (2, 5))
            right, left = (np.stack([s * x, y[max(s, 0)], np.full(5, -0.35)], -1) for s in (1, -1))
            mane = self.project(rounded(np.concatenate([right, left[::-1]])))
            mane = roughened(rng, mane, 0.6 * hair.roughness)
            self.canvas.paint(self.canvas.mask(mane), self.hair, HAIR, gain=0.75)
        cap = roughened(rng, hull(self.project(skull(hair.thickness))), hair.roughness)
        self.canvas.paint(self.canvas.mask(cap), self.hair, HAIR)

    def _body(self) -> None:
        """Neck and clothes; the trunk follows the head's turns only in part."""
        canvas, pose, rng, look = self.canvas, self.scene.pose, self.rng, self.scene.look
        trunk = Projection.of(Pose(0.4 * pose.yaw, 0, 0.3 * pose.roll, pose.scale, (0, 0)), self.canvas.side)
        joint = np.array([[0, 0.9, -0.3]])
        trunk = replace(trunk, origin=(self.project(joint) - trunk(joint))[0])

        def outline(half: Sequence[tuple[float, float]]) -> np.ndarray:
            right = np.column_stack([half, np.full(len(half), -0.3)])
            return trunk(rounded(np.concatenate([right, (right * (-1, 1, 1))[::-1]])))

        n, base, cut = rng.uniform(0.52, 0.72), self.scene.shape.chin + rng.uniform(0.35, 0.6), rng.uniform(0, 0.7)
        neck = canvas.mask(outline([(n, 0.3), (n, base - 0.2), (n + 0.7, base + 1.2)]))
        canvas.paint(neck, self.skin, BACKGROUND, gain=0.85)
        below = hull(self.project(np.add(face_mesh(self.scene.shape), (0, 0.12, 0))))
        canvas.paint(neck, self.skin, alpha=self._soft(below, 0.08), gain=0.55)  # the head's shadow
        shirt = [(0.3, base + cut), (n + 0.05, base - 0.15), (2.0, base + 0.25), (2.6, base + 0.6), (3.0, 6.0)]
        folds = self.half_shade * np.exp(0.12 * noise(rng, 12, self.canvas.side))
        canvas.paint(canvas.mask(outline(shirt)), look.clothes, BACKGROUND, gain=folds)

    def _ears(self) -> None:
        if self.scene.hair.hangs and self.scene.hair.overlap > 0.02:
            return
        flare = self.scene.shape.ear
        x = np.array([0.9, 0.98 + flare, 1.02 + flare, 0.98 + 0.6 * flare, 0.92, 0.88])
        y, z = (-0.2, -0.22, 0.1, 0.42, 0.5, 0.2), (0.0, -0.22, -0.3, -0.2, -0.05, 0.1)
        for s in (-1, 1):
            ear = self.project(rounded(np.stack([s * x, y, z], axis=-1)))
            mask, middle = self.canvas.mask(ear), ear.mean(axis=0)
            self.canvas.paint(mask, self.skin, SKIN, gain=0.9)
            rim = self.canvas.lines([middle + 0.6 * (ear - middle)], 0.04 * self.unit, closed=True)
            self.canvas.paint(rim & mask, self.skin, alpha=0.6, gain=0.7)

    def _head(self) -> None:
        top = -1.0 if self.scene.hair.style == "bald" else None
        self.face = self.canvas.mask(hull(self.project(face_mesh(self.scene.shape, top))))
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
        density = look.beard * self._soft(area, 0.06) * np.clip(0.8 + 0.3 * self.grain, 0.2, 1.1)
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
        mask = self.canvas.mask(rounded(self.project(np.concatenate([top, bottom[::-1]])), 1)) & self.face
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
        canvas.paint(canvas.mask(rounded(tongue, 1)) & inner, (140, 70, 72), gain=self.half_shade)
        if act.teeth:
            reach = min(1.0, 0.11 / act.gap)
            bite = (1 - reach) * up_in + reach * low_in
            teeth = canvas.mask(np.concatenate([up_in[1:-1], bite[-2:0:-1]])) & inner
            canvas.paint(teeth, (226, 220, 206), gain=0.95 * self.half_shade)

    def _nose(self) -> None:
        canvas, shape = self.canvas, self.scene.shape
        ridge, bridge, base = nose_curves(shape)
        parts = [hull(self.project(np.concatenate([bridge, ridge])))]
        parts.append(rounded(hull(self.project(np.concatenate([base, ridge[3:]]))), 1))
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
        if hair.hangs:
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
        weave = self.half_shade * np.exp(0.06 * noise(self.rng, 20, self.canvas.side))
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

    def develop(self) -> DrawnFace:
        """Averages the canvas down, adds the camera's blur, colour and noise, and lets the labels vote."""
        light, (rgb, label) = self.scene.light, self.canvas.shrunk()
        rgb = cv2.GaussianBlur(rgb, (0, 0), max(light.blur * len(rgb) / 256, 0.1))
        offset = np.full((3, 1), 118 * (1 - light.contrast))
        rgb = cv2.transform(rgb, np.hstack([np.diag(light.contrast * light.tint), offset]))
        rgb = rgb + light.noise * self.rng.standard_normal(rgb.shape, dtype=np.float32)
        image = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
        landmarks = landmarks_of(self.scene, self.project) / SUPERSAMPLING - 0.5
        return DrawnFace(image, label, landmarks.astype(np.float32))

    def _soft(self, polygon: np.ndarray, blur: float) -> np.ndarray:
        """A polygon (N, 2) as a field float32 (side, side) in 0..1, blurred by `blur` head units."""
        return self.grid.enlarge(self.grid.area([polygon], blur * self.unit))
