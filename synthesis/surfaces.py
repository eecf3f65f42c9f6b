"""Surfaces: lighting of the head, and lit skin and hair as fields over the whole image."""

from __future__ import annotations

import cv2
import numpy as np

from synthesis.canvas import SOFTNESS, SUPERSAMPLING, SoftGrid, noise
from synthesis.head import Projection, face_width, on_face, relief
from synthesis.raster import grid_triangles, rasterise
from synthesis.scene import FaceScene, Hair

ROWS, COLUMNS = 64, 44
_TRIANGLES = grid_triangles(ROWS, COLUMNS)
_TOP = -1.55


def shading(scene: FaceScene, project: Projection, grid: SoftGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Light on the head, each a field float32 (size, size), enlarged from a soft grid.

    Returns:
        Diffuse light, about 0.2 .. 1.2 (beyond the face that of an egg); gloss, 0 .. 1; flush of the skin (cheeks,
        nose and ears redder, sockets darker), about 0 .. 1 with 0.5 where there is none.
    """
    x, y, points = _face_points(scene)
    z = points[..., 2]
    normal = _normals(points) @ project.rotation.T.astype(np.float32)
    light = scene.light
    diffuse, gloss = _reflected(normal, light.direction)
    # Hollows get less of the sky's light, edges a little more.
    hollow = z - cv2.GaussianBlur(z, (0, 0), ROWS / 20)
    sky = np.clip(1 + 5 * hollow, 0.5, 1.15) * np.clip(0.86 - 0.14 * normal[..., 1], 0.6, 1.1)
    lit = light.ambient * sky + (1.08 - light.ambient) * diffuse * _cast(scene, project, z)
    vertex = cv2.merge([np.clip(0.6 * lit, 0, 1), gloss, _flush(scene, x, y)])
    outside = 0.6 * _egg(scene, project, grid.cells)
    raster = cv2.merge([outside, np.zeros_like(outside), np.full_like(outside, 0.5)])
    flat = points.reshape(-1, 3)
    depth = 30 - flat @ project.rotation[2]
    rasterise(project(flat) / SOFTNESS, depth, np.ascontiguousarray(vertex.reshape(-1, 3)), _TRIANGLES, raster)
    lit, gloss, flush = cv2.split(grid.enlarge(raster))
    return lit / np.float32(0.6), gloss, flush


def _face_points(scene: FaceScene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (ROWS, COLUMNS), y (ROWS, 1), points (ROWS, COLUMNS, 3), float32, of the face in relief from crown to chin."""
    shape = scene.shape
    y = _TOP + (shape.chin - _TOP) * np.sin(np.linspace(0, np.pi / 2, ROWS))[:, None]
    y = (0.5 * (y + np.linspace(_TOP, shape.chin, ROWS)[:, None])).astype(np.float32)
    x = face_width(shape, y) * np.sin(np.linspace(-np.pi / 2, np.pi / 2, COLUMNS, dtype=np.float32))
    points = on_face(shape, x, y, relief(scene, x, y))
    return x, y, points


def _normals(points: np.ndarray) -> np.ndarray:
    """Unit normals float32 (ROWS, COLUMNS, 3) towards the viewer."""
    normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    return normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + np.float32(1e-9))


def _reflected(normal: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light, which wraps round a little as it does on skin, and gloss (Blinn and Phong), each 0 .. 1."""
    facing = normal @ direction.astype(np.float32)
    diffuse = np.maximum((facing + 0.15) / 1.15, 0)
    half = direction + np.array([0, 0, 1])
    gloss = np.maximum(normal @ (half / np.linalg.norm(half)).astype(np.float32), 0)
    return diffuse, gloss**14 * (facing > 0)


def _cast(scene: FaceScene, project: Projection, z: np.ndarray) -> np.ndarray:
    """Share of light that the face's own shadows leave, 0 .. 1, by marching over the relief towards the light."""
    x, y, depth = project.rotation.T @ scene.light.direction
    step = np.array([x * COLUMNS / 3.1, y * ROWS / (scene.shape.chin - _TOP)]) / max(depth, 0.25)
    down, across = np.mgrid[: z.shape[0], : z.shape[1]].astype(np.float32)
    left = np.ones_like(z)
    for reach in (0.06, 0.12, 0.2, 0.3, 0.42):
        # A reach of one unit along the face rises by one unit over its depth.
        towards = cv2.remap(
            z,
            across + np.float32(reach * step[0]),
            down + np.float32(reach * step[1]),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        above = towards - z - reach
        left = np.minimum(left, 1 - np.clip(above / (0.02 + 0.25 * reach), 0, 1))
    return cv2.GaussianBlur(left, (0, 0), ROWS / 65) * np.float32(0.75) + np.float32(0.25)


def _flush(scene: FaceScene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    shape, look, aside = scene.shape, scene.look, np.abs(x)

    def spot(cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
        return np.exp(-(((aside - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)

    flush = (0.06 + look.blush) * spot(0.55, 0.5, 0.28, 0.22) + 0.1 * spot(0, shape.nose_length - 0.05, 0.2, 0.12)
    flush -= (0.1 + 0.2 * look.age + 0.5 * look.make_up) * spot(shape.eye_spacing, -0.03, 0.24, 0.13)
    return np.clip(0.5 + flush, 0, 1)


def _egg(scene: FaceScene, project: Projection, cells: int) -> np.ndarray:
    """Light on an egg about the size of the head, float32 (cells, cells)."""
    light, coarse = scene.light, -(-cells // 2)
    at = (np.arange(coarse, dtype=np.float32) + 0.5) * np.float32(SOFTNESS * cells / coarse)
    centre = project(np.array([[0, 0.1, 0]]))[0].astype(np.float32)
    unit = np.float32(project.scale)
    u, v = np.meshgrid((at - centre[0]) / (1.3 * unit), (at - centre[1]) / (1.9 * unit))
    far = np.maximum(np.sqrt(u * u + v * v), np.float32(1))
    u, v = u / far, v / far
    x, y, z = light.direction.astype(np.float32)
    facing = u * x + v * y + np.sqrt(np.maximum(1 - u * u - v * v, 0)) * z
    lit = np.float32(light.ambient) + np.float32(1.05 - light.ambient) * np.maximum((facing + 0.2) / 1.2, 0)
    return cv2.resize(lit, (cells, cells))


def lit_skin(
    scene: FaceScene, fields: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Skin lit by `fields` (see `shading`): tone, light that reddens where it fades, mottling and pores, flush, gloss.

    Returns:
        Float32 (size, size, 3), RGB in 0..255, over the whole image.
    """
    lit, gloss, flush = fields
    look, size = scene.look, len(lit)
    face = scene.pose.scale * 2 * size
    mottled = 0.02 * noise(rng, 18, size)
    mottled += np.float32(0.01 + 0.035 * look.age**2) * noise(rng, int(np.clip(face, 40, size)), size)
    lit = lit * (1 + mottled)
    channels = []
    for tone, fade, red in zip(look.skin, (0.22, 0.0, -0.06), (0.05, -0.28, -0.25), strict=True):
        # Subsurface scattering: shadows are redder than lit skin.
        gain = lit * (1 + np.float32(fade) * (1 - lit)) * (1 + np.float32(2 * red) * (flush - np.float32(0.5)))
        channels.append(np.float32(tone) * gain + np.float32(255 * 0.3 * look.gloss) * gloss)
    return cv2.merge(channels)


def lit_hair(scene: FaceScene, project: Projection, shade: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hair as lit: strands, some in locks, mixed with curls.

    Args:
        shade: light (size, size), scattered as hair scatters it.

    Returns:
        Float32 (size, size, 3), RGB in 0..255, over the whole image.
    """
    hair, look, size = scene.hair, scene.look, len(shade)
    across, down = _upright(scene, project, size)
    crown = cv2.magnitude(across - np.float32(0.5 * hair.parting), down + np.float32(1.9))
    flow = _flow(hair, across, down)
    wave = 0.6 * noise(rng, 4, size // 4) * (18 + 70 * hair.curl) + noise(rng, 11, size // 4) * (6 + 30 * hair.curl)
    place = (flow + cv2.resize(wave.astype(np.float32), (size, size))).astype(np.int32) & (STRANDS - 1)
    mixed = _strand_table(rng).take(place, mode="clip") * np.float32(1 - 0.75 * hair.curl)
    if hair.curl > 0:
        cells = int(np.clip(10 / scene.pose.scale, 20, 60))
        mixed += (noise(rng, cells, size) + 0.6 * noise(rng, cells // 4, size)) * np.float32(hair.curl)
    shine = np.float32(look.hair_shine * (1 - 0.7 * hair.curl)) * np.exp(-(((crown - np.float32(0.95)) / 0.3) ** 2))
    volume = np.clip(1.12 - 0.16 * crown, 0.55, 1.1)
    gain = np.exp(0.2 * mixed + shine * (0.7 + 0.5 * mixed)) * shade * volume
    return cv2.merge([gain * np.float32(c) + 14 * shine for c in look.hair])


STRANDS = 2048


def _upright(scene: FaceScene, project: Projection, size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y in head units of each pixel as the head is tilted, each float32 (size, size)."""
    at = (np.arange(size, dtype=np.float32) + 0.5) * SUPERSAMPLING
    x, y = ((at - np.float32(middle)) / np.float32(project.scale) for middle in project(np.zeros((1, 3)))[0])
    roll = np.float32(np.deg2rad(scene.pose.roll))
    c, s = np.cos(roll), np.sin(roll)
    return (c * x)[None] + (s * y)[:, None], (-s * x)[None] + (c * y)[:, None]


def _flow(hair: Hair, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Strand coordinate of each pixel, growing across the strands; about 500 per head unit."""
    if hair.hangs and hair.fringe != "full":  # from the parting round the head, then down
        above = np.minimum(down - np.float32(0.1), 0) * np.float32(0.75)
        side = np.float32(900) * (across > hair.parting * np.clip(-0.9 * down, 0, 1))
        return cv2.magnitude(across, above) * np.float32(450) + side
    # From the crown down on all sides; with a low crown they stand up over the forehead.
    crown = -2.0 if hair.fringe == "full" else -1.55
    angle = cv2.phase(across - np.float32(hair.parting), down - np.float32(crown))
    return angle * np.float32(STRANDS / (2 * np.pi))


def _strand_table(rng: np.random.Generator) -> np.ndarray:
    """Brightness of each strand, float32 (STRANDS,): locks, strands, single hairs."""
    strands = np.zeros(STRANDS)
    for count, weight in ((30, 0.55), (110, 0.7), (400, 0.6), (1200, 0.5)):
        strands += np.interp(np.arange(STRANDS), np.linspace(0, STRANDS, count), weight * rng.standard_normal(count))
    return strands.astype(np.float32)
