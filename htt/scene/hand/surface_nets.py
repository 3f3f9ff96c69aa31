"""Meshes from distance fields by surface nets.

Each grid cell that the surface passes through gives one vertex, at the mean of the crossings on the cell's edges. Each
grid edge that the surface crosses gives one quad.

Source: Gibson 1998, "Constrained elastic surface nets".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_AROUND_AN_EDGE = ((1, 1), (0, 1), (0, 0), (1, 0))
"""Backward steps to the four cells that share an edge, in order around it."""


def surface_nets(values: np.ndarray, axes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices [v 3] and outward quads [q 4] of the zero level of ``values`` [x y z] sampled on a grid.

    Args:
        values: Distances at the grid points, negative inside.
        axes: Coordinates of the grid along each axis; the spacing may vary.
    """
    total, count = np.zeros((values.size, 3)), np.zeros(values.size)
    quads = []
    for axis in range(3):
        crossings, cells, inward = _crossed_edges(values, axes, axis)
        for corner in range(4):
            np.add.at(total, cells[:, corner], crossings)
            np.add.at(count, cells[:, corner], 1)
        quads.append(np.where(inward[:, None], cells, cells[:, ::-1]))
    used, compact = np.unique(np.concatenate(quads), return_inverse=True)
    return total[used] / count[used, None], compact.reshape(-1, 4)


def _crossed_edges(
    values: np.ndarray, axes: Sequence[np.ndarray], axis: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the crossings [e 3] of grid edges along ``axis``, their four cells [e 4], and if they start inside [e]."""
    ahead = np.roll(np.eye(3, dtype=int)[0], axis)
    shape, stride = np.array(values.shape), np.array([values.shape[1] * values.shape[2], values.shape[2], 1])
    inside = values < 0
    lower = inside[tuple(slice(0, size - step) for size, step in zip(shape, ahead, strict=True))]
    upper = inside[tuple(slice(step, None) for step in ahead)]
    start = np.argwhere(lower != upper)
    second, third = (axis + 1) % 3, (axis + 2) % 3
    enclosed = [(start[:, other] > 0) & (start[:, other] < shape[other] - 1) for other in (second, third)]
    start = start[enclosed[0] & enclosed[1]]
    end = start + ahead
    at_start, at_end = values[tuple(start.T)], values[tuple(end.T)]
    points = np.stack([axes[each][start[:, each]] for each in range(3)], axis=1)
    points[:, axis] += at_start / (at_start - at_end) * (axes[axis][end[:, axis]] - axes[axis][start[:, axis]])
    cells = [(start @ stride) - one * stride[second] - two * stride[third] for one, two in _AROUND_AN_EDGE]
    return points, np.stack(cells, axis=1), at_start < 0
