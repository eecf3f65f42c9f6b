"""Renders a labelled face from a scene, part by part from back to front.

`sample_scene` samples a scene, `render` renders it; everything random in the image follows from the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from synthesis.accessories import paint_ear_rings, paint_glasses, paint_hat
from synthesis.body import paint_body, paint_hand
from synthesis.canvas import SUPERSAMPLING, recorded_noise
from synthesis.features import paint_brows, paint_ears, paint_eyes, paint_mouth, paint_nose
from synthesis.hair import paint_beard, paint_hair_behind, paint_hair_in_front
from synthesis.landmarks import landmarks
from synthesis.portrait import Portrait
from synthesis.scene import FaceScene, any_colour, sample_scene

__all__ = ["FaceScene", "SyntheticFace", "render", "render_random_face", "sample_scene"]


@dataclass(frozen=True)
class SyntheticFace:
    """One image with its labels.

    Args:
        image: RGB, uint8 (size, size, 3).
        label: LaPa class ids (`datamodules.labels.LAPA`), uint8 (size, size); "left" is the left of the image.
        landmarks: float32 (106, 2), x and y in pixels (pixel centres are integers; points may lie outside the
            image or under hair), in LaPa's order: 0-32 face contour from left to right over the chin;
            33-41 left and 42-50 right brow (five along the top, then four back along the bottom); 51-54 nose
            ridge downwards; 55-65 sides and base of the nose from left to right; 66-73 left eye (clockwise from
            its left corner), 74 the middle of its opening; 75-83 right eye alike; 84-95 outer lips (clockwise
            from the left corner); 96-103 inner lips alike; 104, 105 left and right pupil.
        landmarks_68: float32 (68, 2), in the order of iBUG and dlib: 0-16 face contour, 17-26 brows, 27-30 ridge and
            31-35 base of the nose, 36-47 eyes, 48-59 outer and 60-67 inner lips.
        parts: bool (size, size) for each visible part, by its name in CelebAMask-HQ (`l_` is the person's own
            left). They overlap as in human annotations: skin continues beneath brows, eyes, nose, mouth and glasses,
            ears beneath hair, the neck beneath a necklace.
        quality: JPEG quality for the image's file, 1..100.
    """

    image: np.ndarray
    label: np.ndarray
    landmarks: np.ndarray
    landmarks_68: np.ndarray
    parts: dict[str, np.ndarray]
    quality: int


def render_random_face(rng: np.random.Generator, size: int = 256) -> SyntheticFace:
    """A random face; the same state of the generator gives the same bytes. `size` in pixels."""
    return render(sample_scene(rng), size)


def render(scene: FaceScene, size: int = 256) -> SyntheticFace:
    """Renders a scene, `size` pixels wide and high; the same scene and size give the same bytes."""
    portrait = Portrait(scene, size * SUPERSAMPLING)
    _paint_backdrop(portrait)
    paint_hair_behind(portrait)
    paint_body(portrait)
    paint_ears(portrait)
    if depth := portrait.scene.light.depth * size / 256:
        cv2.GaussianBlur(portrait.canvas.rgb, (0, 0), depth, dst=portrait.canvas.rgb)
    behind = ("hair", "neck", "l_ear", "r_ear", "cloth", "neck_l")
    portrait.canvas.paint(portrait.face, portrait.skin, part="skin", occludes=behind)
    for paint in (paint_beard, paint_eyes, paint_brows, paint_mouth, paint_nose, paint_hair_in_front):
        paint(portrait)
    for paint in (paint_hat, paint_glasses, paint_ear_rings, paint_hand):
        paint(portrait)
    return _develop(portrait)


def _paint_backdrop(portrait: Portrait) -> None:
    """A gradient with out-of-focus clutter, some of it in the colours of skin and hair."""
    small, rng, look = 96, portrait.rng, portrait.scene.look
    near, far = any_colour(rng), any_colour(rng)
    plain = rng.random() < 0.35  # a studio's wall, or the dark behind a flash
    if plain:
        near, far = np.clip([rng.choice([6, 40, 225, 248]) + rng.normal(0, 6, 3)] * 2, 0, 255)
    turn, ramp = rng.uniform(0, 2 * np.pi), np.linspace(-0.5, 0.5, small)
    t = np.clip(ramp * np.cos(turn) + ramp[:, None] * np.sin(turn) + 0.5, 0, 1)
    image = cv2.merge([(a + (b - a) * t).astype(np.float32) for a, b in zip(near, far, strict=True)])
    for _ in range(int(rng.integers(0, 3 if plain else 14))):
        colour = (look.skin, look.hair, look.lips, any_colour(rng))[rng.choice(4, p=[0.25, 0.2, 0.05, 0.5])]
        colour = np.clip(colour * rng.uniform(0.8, 1.2), 0, 255).tolist()
        box = (rng.uniform(-10, small + 10, 2).tolist(), rng.uniform(6, 68, 2).tolist(), rng.uniform(0, 180))
        if rng.random() < 0.6:
            cv2.ellipse(image, box, colour, -1)
        else:
            cv2.fillPoly(image, [cv2.boxPoints(box).astype(np.int32)], colour)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 5))
    portrait.canvas.rgb[:] = cv2.resize(image, (portrait.canvas.size, portrait.canvas.size))


def _develop(portrait: Portrait) -> SyntheticFace:
    """Adds the camera's blur, colour and noise, and returns image, labels, landmarks and part masks."""
    light = portrait.scene.light
    rgb = cv2.GaussianBlur(portrait.canvas.rgb, (0, 0), max(light.blur * portrait.canvas.size / 256, 0.1))
    rgb = cv2.transform(rgb, np.diag(light.contrast * light.tint).astype(np.float32))
    grain = recorded_noise(portrait.rng, *rgb.shape)
    image = cv2.addWeighted(rgb, 1, grain, light.noise, 118 * (1 - light.contrast), dtype=cv2.CV_8U)
    points, points_68 = (
        (points / SUPERSAMPLING - 0.5).astype(np.float32)
        for points in landmarks(portrait.scene, portrait.seen, portrait.project)
    )
    parts = portrait.canvas.part_masks()
    parts.pop("hand", None)  # no data set labels it
    return SyntheticFace(image, portrait.canvas.voted_label(), points, points_68, parts, light.quality)
