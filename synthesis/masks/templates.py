"""The templates of MaskTheFace (Anwar and Raychowdhury 2020, MIT), for those who have them: ``masks.cfg`` and PNGs."""

from __future__ import annotations

import configparser
import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datamodules.decoding import in_bytes, opened
from foundation.errors import BrokenFileError, ConfigError
from foundation.names import is_name, shown
from foundation.paths import DataRoot, ordinary
from synthesis.masks.shapes import Face

LARGEST = 65_535
"""Largest coordinate of a point, in pixels."""
POINTS = ("mask_a", "mask_b", "mask_c", "mask_d", "mask_e", "mask_f")


@dataclass(frozen=True)
class Template:
    """One section of ``masks.cfg``: an image, and the six points of it that come to lie on six points of a face.

    Args:
        file: the PNG, with alpha.
        points: float32 (6, 2), x and y in the image's pixels; they may lie outside of it.
    """

    file: Path
    points: np.ndarray


@functools.lru_cache(maxsize=8)
def read_templates(folder: Path) -> dict[str, dict[str, Template]]:
    """Type -> tilt (``front``, ``left``, ``right``) -> template, of the sections whose PNG is there.

    Args:
        folder: holds ``masks.cfg``; a template's path is looked for under it and under its parent, as MaskTheFace
            writes ``masks/templates/cloth.png``.

    Raises:
        ConfigError: if there is no ``masks.cfg``, or none of its templates has a PNG.
        BrokenFileError: if a section lacks a point, or one is no pair of numbers.
    """
    file = folder / "masks.cfg"
    if not file.is_file():
        raise ConfigError(
            f"templates={folder}: {file} does not exist.\n"
            f"Expected: the folder 'masks' of MaskTheFace; or leave templates out to render our own mask types."
        )
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(ordinary(file).read_text(encoding="utf-8"), str(file))
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise BrokenFileError(f"{file} cannot be read: {error}.\nExpected: MaskTheFace's own file.") from error
    found: dict[str, dict[str, Template]] = {}
    for section in config.sections():
        words = config[section].get("template", "")
        where = f"{file}, section {shown(section)}:"
        places = (folder, folder.parent) if words else ()
        found_at = (DataRoot(place).file(words, where) for place in places)
        image = next((place for place in found_at if place.is_file()), None)
        if image is None:
            continue  # 'empty' and 'inpaint' have none
        if not is_name(section):
            raise BrokenFileError(f"{where} not a name.\nExpected: a short text without / in it.")
        name, _, tilt = section.rpartition("_")
        if tilt not in ("left", "right"):
            name, tilt = section, "front"
        found.setdefault(name, {})[tilt] = Template(image, _points(file, config[section]))
    found = {name: tilts for name, tilts in found.items() if "front" in tilts}
    if not found:
        raise ConfigError(f"templates={folder}: no section of {file} has an existing PNG.\nExpected: its PNGs too.")
    return found


def _points(file: Path, section: configparser.SectionProxy) -> np.ndarray:
    try:
        points = [[float(part) for part in section.get(name, "").split(",")] for name in POINTS]
        array = np.array(points, np.float32)
        if array.shape != (6, 2) or not (np.abs(array) <= LARGEST).all():
            raise ValueError
    except ValueError as error:
        raise BrokenFileError(
            f"{file}, section {section.name}: a point is missing or no pair of numbers.\n"
            f"Expected: {', '.join(POINTS)}, each as 21, 97."
        ) from error
    return array


@functools.lru_cache(maxsize=128)
def opaque_pixels(file: Path, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """A template's PNG shrunk `factor` times by box averages; cached, since decoding takes longer than rendering.

    Returns:
        Colours premultiplied by alpha, so that transparent pixels do not bleed into the edges, and alpha, float32
        (H, W, 4) in 0..255; and the ratio of its sides to the file's, (2,), across and down.

    Raises:
        BrokenFileError: if the file cannot be read.
    """
    with opened(file, f"The template {file} cannot be read", "Replace it by MaskTheFace's own.") as image:
        pixels = np.asarray(in_bytes(image).convert("RGBA")).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    height, width = pixels.shape[:2]
    across, down = (max(1, round(side / factor)) for side in (width, height))
    small = cv2.resize(pixels, (across, down), interpolation=cv2.INTER_AREA) if factor > 1 else pixels
    return small, np.array([across / width, down / height])


def six_points(face: Face) -> np.ndarray:
    """The six points of a face that match a template's: MaskTheFace's geometry, in the order of :data:`POINTS`.

    b is the middle of the nose's ridge. a and c are where the jaw meets the line through the eyes, moved down by the
    ridge's length; d and f where it meets that line moved down to the lower lip; e is the chin.

    Returns:
        float32 (6, 2): a, b, c, d, e, f, in pixels.
    """
    landmarks, down = face.points, face.down
    middle = (landmarks[36:42].mean(axis=0) + landmarks[42:48].mean(axis=0)) / 2
    ridge = float((landmarks[30] - landmarks[27]) @ down)
    lip = float(((landmarks[[*range(54, 60), 48, *range(64, 68), 60]] - middle) @ down).max())
    jaw = landmarks[:17]
    ends = []
    for depth in (ridge, lip):
        height = (jaw - middle) @ down - depth  # below 0 above the line
        crossings = [
            jaw[i] + (jaw[i + 1] - jaw[i]) * (height[i] / (height[i] - height[i + 1]))
            for i in range(16)
            if (height[i] < 0) != (height[i + 1] < 0)
        ]
        if len(crossings) < 2:  # chin raised or face in profile: the jaw's ends
            crossings = [jaw[0] + depth * 0.5 * down, jaw[16] + depth * 0.5 * down]
        ends.append((crossings[0], crossings[-1]))
    (a, c), (d, f) = ends
    bridge = (landmarks[27] + landmarks[30]) / 2
    return np.array([a, bridge, c, d, landmarks[8], f], np.float32)


def laid_on(template: Template, face: Face, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A template warped onto a face in an image (H, W): colours float32 (H, W, 3) in 0..255, alpha float32 in 0..1."""
    target = six_points(face)
    # Warping skips pixels where a template is twice as large as the face or larger.
    factor = max(1, int((np.ptp(template.points, axis=0) / np.maximum(np.ptp(target, axis=0), 1)).min()))
    opaque, ratio = opaque_pixels(template.file, factor)
    way, _ = cv2.findHomography((template.points + 0.5) * ratio - 0.5, target)
    height, width = size
    if way is None:  # six points on one line
        return np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    warped = cv2.warpPerspective(opaque, way, (width, height), flags=cv2.INTER_LINEAR)
    alpha = warped[..., 3] / 255
    return warped[..., :3] / np.maximum(alpha, 1e-3)[..., None], alpha
