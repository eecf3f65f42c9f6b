"""A portrait being painted: scene, canvas, and the fields that several painters share."""

from __future__ import annotations

import functools

import numpy as np

from datamodules.labels import LAPA, LAPA_OF_CELEBAMASK_HQ
from synthesis.canvas import Canvas, Mask, SoftGrid, hull, noise
from synthesis.head import Projection, face_mesh, features_of
from synthesis.scene import FaceScene
from synthesis.surfaces import lit_hair, lit_skin, shading

# Parts behind glasses keep their labels. Hands have no class in CelebAMask-HQ; LaPa labels them background.
LABEL_OF_PART = {part: LAPA.classes.index(name) for part, name in LAPA_OF_CELEBAMASK_HQ.items() if part != "eye_g"}
LABEL_OF_PART["hand"] = LAPA.classes.index("background")


class Portrait:
    """State that the painters of the parts share; `side` is the width and height of the masks, in canvas pixels.

    `project` maps head space to the canvas, where one head unit is `unit` pixels long; `features` are the curves of the
    face in head space, `seen` the same on the canvas; `face` is the mask of the face. Fields over the image: `shade`,
    `half_shade` (light on scattering surfaces: hair, clothes, teeth, eyes), `skin` and `hair` (lit colours), `grain`
    and `stubble` (standard normal noise).
    """

    def __init__(self, scene: FaceScene, side: int) -> None:
        self.scene, self.rng = scene, np.random.default_rng(scene.texture_seed)
        self.canvas, self.grid = Canvas(side, LABEL_OF_PART), SoftGrid(side)
        self.project = project = Projection.of(scene.pose, side)
        self.features = features_of(scene)
        self.seen = self.features.seen(project)
        self.unit = project.scale
        fields = shading(scene, project, self.grid)
        self.shade = fields[0]
        self.half_shade = 0.4 + 0.6 * np.minimum(self.shade, 1)
        self.grain = noise(self.rng, 90, self.canvas.size)
        self.skin = lit_skin(scene, fields, self.rng)
        top = -1.0 if scene.hair.style == "bald" else None
        self.face: Mask = self.canvas.mask(hull(project(face_mesh(scene.shape, top))))

    @functools.cached_property
    def hair(self) -> np.ndarray:
        return lit_hair(self.scene, self.project, self.half_shade, self.own_random("hair"))

    @functools.cached_property
    def stubble(self) -> np.ndarray:
        return noise(self.own_random("stubble"), min(200, self.canvas.size), self.canvas.size)

    def own_random(self, part: str) -> np.random.Generator:
        """A random stream for an optional part, so that the rest of the image does not depend on it."""
        return np.random.default_rng([self.scene.texture_seed, *part.encode()])

    def soft(self, polygon: np.ndarray, blur: float) -> np.ndarray:
        """A polygon (N, 2) as a field float32 (size, size) in 0..1, blurred by `blur` head units."""
        return self.grid.enlarge(self.grid.area(polygon, blur * self.unit))
