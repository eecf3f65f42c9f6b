"""Rasterises triangles; values are interpolated between their corners."""

from __future__ import annotations

import cv2
import numpy as np

_FIELD_OF_VIEW = 0.5


def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """The triangles of a grid of points, flattened row by row: int32 (2 (rows - 1) (columns - 1), 3)."""
    place = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = place[:-1, :-1], place[1:, :-1], place[:-1, 1:], place[1:, 1:]
    return np.stack([a, b, c, c, b, d], axis=-1).reshape(-1, 3).astype(np.int32)


def rasterise(
    places: np.ndarray, depth: np.ndarray, values: np.ndarray, triangles: np.ndarray, raster: np.ndarray
) -> None:
    """Renders three values of each corner into a raster, with a depth test.

    Args:
        places: (N, 2), positions of the corners in pixels of the raster.
        depth: (N,), their distance from the viewer, between 1 and 100.
        values: float32 (N, 3), contiguous.
        triangles: int32 (M, 3), indices of corners.
        raster: float32 (size, size, 3), overwritten where triangles lie.
    """
    size = len(raster)
    lens = np.tan(_FIELD_OF_VIEW / 2) * depth[:, None] * 2 / size
    seen = np.column_stack([(places - size / 2) * lens * (1, -1), -depth]).astype(np.float32)
    buffer = np.full((size, size), 100, np.float32)
    settings = cv2.TriangleRasterizeSettings()
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
    cv2.triangleRasterize(
        seen, triangles, values, raster, buffer, np.eye(4, dtype=np.float32), _FIELD_OF_VIEW, 1.0, 100.0, settings
    )
