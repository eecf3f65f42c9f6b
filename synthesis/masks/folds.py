"""Shading of the fabric: pleats, seams, hems and folds of each mask type, as one cached field over (u, v)."""

from __future__ import annotations

import functools

import cv2
import numpy as np

SIDE = 128
FOLDS = 8
"""Variants of random folds per type."""


@functools.cache
def relief(kind: str, variant: int) -> np.ndarray:
    """Light on the fabric, float32 (SIDE, SIDE) around 1: rows are v from 0 to 1, columns u from -1 to 1."""
    v, u = np.mgrid[:SIDE, :SIDE].astype(np.float32) / (SIDE - 1)
    u = 2 * u - 1
    light = 1.05 - 0.22 * np.abs(u) ** 2.6 - 0.16 * v**1.5  # round, and lit from above
    cut, wrinkled = _CUTS[kind]
    light += cut(u, v, np.random.default_rng([variant, *kind.encode()]))
    if wrinkled:
        light += wrinkled * _wrinkles(np.random.default_rng([variant, len(kind)]))
    light = np.clip(light, 0.25, 1.35).astype(np.float32)
    light.flags.writeable = False
    return light


def _line(x: np.ndarray, at: float | np.ndarray, width: float) -> np.ndarray:
    """1 on a line across a field, 0 away from it."""
    return np.exp(-(((x - at) / width) ** 2))


def _hem(u: np.ndarray, v: np.ndarray, width: float, depth: float) -> np.ndarray:
    """Stitched edges: a furrow all around."""
    edge = np.minimum(np.minimum(v, 1 - v), (1 - np.abs(u)) * 0.7)
    return -depth * _line(edge, width, 0.25 * width) + 0.4 * depth * (edge < width)


def _surgical(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    light = _hem(u, v, 0.055, 0.07)
    for pleat in np.array([0.3, 0.49, 0.68]) + rng.normal(0, 0.012, 3):
        bow = pleat + 0.03 * (u**2 - 0.4) * (1 if pleat > 0.5 else -1)
        light += 0.08 * _line(v, bow - 0.035, 0.035) - 0.2 * _line(v, bow + 0.006, 0.016)
    return light


def _n95(u: np.ndarray, v: np.ndarray, _: np.random.Generator) -> np.ndarray:
    far = np.hypot(u, 2 * (v - 0.48))
    light = 0.08 - 0.2 * far**2 - 0.1 * _line(far, 0.88, 0.035) + 0.03 * _line(far, 0.82, 0.03)
    clip = (np.abs(u) < 0.27) & (np.abs(v - 0.1 - 0.05 * u**2) < 0.022)
    return light + np.where(clip, 0.16, 0) - 0.12 * _line(v, 0.13, 0.012) * (np.abs(u) < 0.27)


def _kn95(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    bright = 0.07 if rng.random() < 0.5 else -0.07  # one half is turned to the light
    light = bright * np.tanh(u / 0.05) * (1 - 0.6 * np.abs(u)) - 0.12 * _line(u, 0, 0.018)
    dotted = 0.5 + 0.5 * np.cos(2 * np.pi * 26 * v)
    return light - 0.08 * _line(np.abs(u), 0.88, 0.02) * dotted + _hem(u, v, 0.04, 0.06)


def _cloth(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    light = _hem(u, v, 0.07, 0.08)
    if rng.random() < 0.6:  # a seam down the middle; else three pleats at the sides
        return light - 0.15 * _line(u, 0, 0.012) + 0.05 * np.tanh(u / 0.15)
    gathered = np.clip((np.abs(u) - 0.35) / 0.5, 0, 1)
    return light + 0.12 * gathered * np.sin(2 * np.pi * (3.5 * v + rng.uniform()))


def _respirator(u: np.ndarray, v: np.ndarray, _: np.random.Generator) -> np.ndarray:
    far = np.hypot(u, 2 * (v - 0.55))
    return 0.25 * _line(u, -0.25, 0.12) * (v < 0.6) - 0.18 * far**2 - 0.25 * _line(far, 0.8, 0.04)


def _handkerchief(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pull = np.arctan2(v + 0.25, 1.15 - np.abs(u))  # folds run from the knots behind the ears
    fold = np.sin(14 * pull + rng.uniform(0, 6, 2)[(u > 0).astype(int)]) * np.abs(u) ** 0.7
    return 0.11 * fold - 0.1 * _line(v, 0.05, 0.02)


def _scarf(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sweep = 3.6 * v + 0.5 * u**2 + rng.uniform(-0.3, 0.3) * u + rng.uniform()
    fold = np.sin(2 * np.pi * sweep) + 0.4 * np.sin(2 * np.pi * (1.7 * sweep + 0.4 * u))
    return 0.15 * fold - 0.14 * _line(v, 0.04, 0.03)


def _niqab(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drape = 3.1 * u * (0.55 + 0.45 * v) + 0.3 * np.sin(3 * v) + rng.uniform()
    fold = np.sin(2 * np.pi * drape) + 0.35 * np.sin(2 * np.pi * (2.3 * drape + v))
    return 0.13 * fold * np.clip(v * 2.2 - 0.25, 0, 1) - 0.12 * _line(v, 0.07, 0.012) + 0.04 * (v < 0.06)


_CUTS = {
    "surgical": (_surgical, 0.035),
    "n95": (_n95, 0.012),
    "kn95": (_kn95, 0.025),
    "cloth": (_cloth, 0.06),
    "respirator": (_respirator, 0.0),
    "handkerchief": (_handkerchief, 0.09),
    "scarf": (_scarf, 0.1),
    "niqab": (_niqab, 0.07),
}
"""Mask type -> its seams, pleats and long folds, and the strength of its random folds."""


def _wrinkles(rng: np.random.Generator) -> np.ndarray:
    """Creases of no order, longer than they are wide, standard normal."""
    field = np.zeros((SIDE, SIDE), np.float32)
    for turn, share in zip(rng.uniform(-35, 35, 3), (1.0, 0.7, 0.5), strict=True):
        wide = cv2.resize(
            rng.standard_normal((22, 7)).astype(np.float32), (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC
        )
        way = cv2.getRotationMatrix2D((SIDE, SIDE), float(turn), 1) - np.array([[0, 0, SIDE / 2]])
        field += share * cv2.warpAffine(wide, way, (SIDE, SIDE))
    return field / field.std()
