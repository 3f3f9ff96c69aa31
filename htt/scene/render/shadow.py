"""Soft shadows on the table: a map seen from above, filled by points on the surfaces that block the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELL_M, CELLS = 0.012, 96
"""Cell size (m) and cells per side of the map, a square of the table around the origin; axis 0 is y, axis 1 is x."""
_POINT_AREA_M2 = 7e-5
_MARGIN = 3
_GOLDEN_STEPS = (0.7548776662466927, 0.5698402909980532)
"""Steps of the two-dimensional golden-ratio sequence."""


@dataclass(frozen=True)
class Caster:
    """Surface points of equal area: vertices of their faces (``corners`` [3 p]) and weights (``shares`` [3 p])."""

    corners: np.ndarray
    shares: np.ndarray

    @classmethod
    def over(cls, vertices_m: np.ndarray, faces: np.ndarray) -> Caster:
        """Return points distributed evenly over the faces [3 f] of vertices [v 3] (m)."""
        corner = vertices_m[faces]
        area = np.linalg.norm(np.cross(corner[1] - corner[0], corner[2] - corner[0]), axis=1) / 2
        upto = np.cumsum(area, dtype=float)
        face = np.searchsorted(upto, np.arange(0.5 * _POINT_AREA_M2, upto[-1], _POINT_AREA_M2))
        # A low-discrepancy sequence, folded into the triangle, avoids clusters and needs no random numbers.
        first, second = np.outer(_GOLDEN_STEPS, np.arange(len(face))) % 1.0
        outside = first + second > 1.0
        first, second = np.where(outside, 1 - first, first), np.where(outside, 1 - second, second)
        return cls(faces[:, face], np.stack([1 - first - second, first, second]).astype(np.float32))

    def shadow(self, vertices_m: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Return the darkness of the table [cells cells], 0..1, for vertices [v 3] (world) and a light direction [3].

        The area of each point is projected onto the table, away from the lamp; a soft filter joins the points.
        """
        points = sum(vertices_m[self.corners[k]] * self.shares[k][:, None] for k in range(3))
        height = np.maximum(points[:, 2], 0.0)
        lean = light[:2] / light[2]
        cell = ((points[:, :2] - height[:, None] * lean) / np.float32(CELL_M) + np.float32(CELLS / 2)).astype(np.int32)
        inside = ((cell >= _MARGIN) & (cell < CELLS - _MARGIN)).all(axis=1)
        # The mean projection of a convex surface is a quarter of its area; shadows of high objects are weaker.
        weight = 0.25 / CELL_M**2 * _POINT_AREA_M2 * np.exp(-2.0 * height[inside])
        total = np.bincount(cell[inside, 1] * CELLS + cell[inside, 0], weight, CELLS * CELLS)
        soft = np.minimum(total, 2.0).astype(np.float32).reshape(CELLS, CELLS)
        for _ in range(2):
            soft[1:-1] = 0.5 * soft[1:-1] + 0.25 * (soft[:-2] + soft[2:])
            soft[:, 1:-1] = 0.5 * soft[:, 1:-1] + 0.25 * (soft[:, :-2] + soft[:, 2:])
        return np.minimum(soft, 1.0)


def shadow_at(shadow: np.ndarray, position_m: np.ndarray) -> np.ndarray:
    """Return the map [cells cells] interpolated at table positions [n 2+] (world), [n]; zero outside the map."""
    spot = np.clip(position_m[:, :2] * np.float32(1 / CELL_M) + np.float32(CELLS / 2 - 0.5), 0, CELLS - 1.01)
    cell = spot.astype(np.int32)
    share = spot - cell
    corner = cell[:, 1] * CELLS + cell[:, 0]
    flat = shadow.ravel()
    near = flat[corner] + (flat[corner + 1] - flat[corner]) * share[:, 0]
    far = flat[corner + CELLS] + (flat[corner + CELLS + 1] - flat[corner + CELLS]) * share[:, 0]
    darkness: np.ndarray = near + (far - near) * share[:, 1]
    return darkness
