"""Rasteriser of triangles: an exact z-buffer with perspective-correct weights, in numpy.

Each triangle that faces the camera is tested at the pixel centres of its bounding box. The fragments inside are sorted
by depth and written from far to near, so that the nearest remains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_M = 0.05
"""Smallest depth (m); triangles with a nearer corner are not drawn."""
_SMALLEST_AREA = 1e-6


@dataclass(frozen=True)
class Fragments:
    """Visible surface, one entry per covered pixel.

    Attributes:
        pixel: [n] index into the row-major image.
        face: [n] index of the nearest face.
        weights: [n 3] perspective-correct weights of the face's corners; rows sum to one.
    """

    pixel: np.ndarray
    face: np.ndarray
    weights: np.ndarray


def rasterise(vertices_m: np.ndarray, faces: np.ndarray, matrix: np.ndarray, width: int, height: int) -> Fragments:
    """Return the visible surface of a mesh in an image.

    Args:
        vertices_m: [v 3] in camera space (x right, y down, z forward).
        faces: [3 f] vertex indices, one row per corner; counter-clockwise seen from outside, back faces are culled.
        matrix: [3 3] intrinsics (px).
        width: Width of the image, px.
        height: Height of the image, px.
    """
    depth = vertices_m[:, 2]
    inverse = (1.0 / np.maximum(depth, NEAR_M)).astype(np.float32)
    across = (matrix[0, 0] * vertices_m[:, 0] * inverse + matrix[0, 2]).astype(np.float32)
    down = (matrix[1, 1] * vertices_m[:, 1] * inverse + matrix[1, 2]).astype(np.float32)
    # NaN behind the camera, so that every comparison below is false for such a triangle.
    across[depth <= NEAR_M] = np.nan
    x, y = across[faces], down[faces]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    shown = np.flatnonzero(area < -_SMALLEST_AREA)
    x, y, area = x[:, shown], y[:, shown], area[shown]
    left, columns = _centres(x, width)
    top, rows = _centres(y, height)
    covering = np.flatnonzero((columns > 0) & (rows > 0))
    corners = faces[:, shown[covering]]
    pieces = _spread(left[covering], top[covering], columns[covering], rows[covering])
    triangle, column, row, weights = _inside(x[:, covering], y[:, covering], area[covering], *pieces)
    inverse_depth = weights * inverse[corners[:, triangle]]
    total = inverse_depth.sum(axis=0)
    pixel, nearest = _nearest(row * width + column, total, width * height)
    face = shown[covering[triangle[nearest]]]
    return Fragments(pixel, face, (inverse_depth[:, nearest] / total[nearest]).T)


def _centres(corner: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel whose centre lies in the range of three corners [3 f], and the number of such pixels."""
    low = np.minimum(np.minimum(corner[0], corner[1]), corner[2])
    high = np.maximum(np.maximum(corner[0], corner[1]), corner[2])
    first = np.clip(np.ceil(low - 0.5), 0, size).astype(np.int32)
    last = np.clip(np.floor(high - 0.5), -1, size - 1).astype(np.int32)
    return first, last - first + 1


def _spread(
    left: np.ndarray, top: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pixels of all bounding boxes: triangle index, column and row."""
    count = columns * rows
    triangle = np.repeat(np.arange(len(count), dtype=np.int32), count)
    local = np.arange(len(triangle), dtype=np.int32) - (np.cumsum(count, dtype=np.int32) - count)[triangle]
    wide = columns[triangle]
    down = local // wide
    return triangle, left[triangle] + local - down * wide, top[triangle] + down


def _inside(
    x: np.ndarray,
    y: np.ndarray,
    area: np.ndarray,
    triangle: np.ndarray,
    column: np.ndarray,
    row: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels whose centre lies inside their triangle, with their image-space weights [3 n]."""
    scale = 1.0 / area
    weights = []
    # The weight of a corner is affine in the pixel's position, taken relative to the first corner for precision.
    offset_x, offset_y = column + np.float32(0.5) - x[0][triangle], row + np.float32(0.5) - y[0][triangle]
    for other, sign in ((2, 1), (1, -1)):
        slope_x = sign * (y[other] - y[0]) * scale
        slope_y = -sign * (x[other] - x[0]) * scale
        weights.append(slope_x[triangle] * offset_x + slope_y[triangle] * offset_y)
    first = 1 - weights[0] - weights[1]
    inside = np.flatnonzero((first >= 0) & (weights[0] >= 0) & (weights[1] >= 0))
    stacked = np.stack([first[inside], weights[0][inside], weights[1][inside]])
    return triangle[inside], column[inside], row[inside], stacked


def _nearest(pixel: np.ndarray, inverse_depth: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the covered pixels and, for each, the fragment of largest inverse depth (the last one of equals)."""
    order = np.argsort(inverse_depth, kind="stable")
    winner = np.full(pixels, -1, np.int64)
    winner[pixel[order]] = order
    covered = np.flatnonzero(winner >= 0)
    return covered, winner[covered]
