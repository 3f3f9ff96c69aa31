"""Camera conventions, and the geometry functions based on them.

Conventions
    Camera space    metres; x to the right, y down, z forward, away from the camera (depth is z, not distance).
    Transforms      named by their two ends: ``points_camera = points_world @ rotation.T + translation`` with
                    ``camera_from_world = [rotation | translation]``.
    Pixels          continuous: column i covers [i, i + 1), so its centre is i + 0.5 and the image spans [0, width].
                    A resize is then a plain scaling of the first two rows of the intrinsics.
    Intrinsics      [[f_x, 0, c_x], [0, f_y, c_y], [0, 0, 1]], in pixels, no distortion.

The functions take NumPy arrays or torch tensors (they use only arithmetic and indexing), with any leading axes.

Source: H2O and FPHA documentation; the 2.5D form of a pose is Wen et al. 2023, section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
"""A NumPy array or a torch tensor; functions return the type they are given."""


def intrinsics(focal_x: float, focal_y: float, centre_x: float, centre_y: float) -> np.ndarray:
    """Return the [3 3] float64 intrinsics of a pinhole camera; all arguments in pixels."""
    return np.array([[focal_x, 0.0, centre_x], [0.0, focal_y, centre_y], [0.0, 0.0, 1.0]])


def resized(matrix: Array, scale_x: float, scale_y: float) -> Array:
    """Return the intrinsics of the same camera after its image was resized by the two factors."""
    scale = np.array([[scale_x], [scale_y], [1.0]])
    return matrix * scale


def project(points_m: Array, matrix: Array) -> Array:
    """Return the pixels [... 2] of points [... 3] in camera space (metres, z > 0).

    ``matrix`` [... 3 3] broadcasts against the points' leading axes: ``matrix[:, None]`` for points [b j 3].
    """
    depth = points_m[..., 2:3]
    focal, centre = _focal_and_centre(matrix)
    return points_m[..., :2] / depth * focal + centre


def unproject(points_px: Array, depth_m: Array, matrix: Array) -> Array:
    """Return points [... 3] in camera space from pixels [... 2] and depth [...]; the inverse of ``project``."""
    focal, centre = _focal_and_centre(matrix)
    plane = (points_px - centre) / focal * depth_m[..., None]
    return _append(plane, depth_m)


def transform(points_m: Array, rotation: Array, translation: Array) -> Array:
    """Return ``points @ rotation.T + translation``: [... 3] points in the target frame of the transform."""
    return points_m @ rotation.swapaxes(-1, -2) + translation


def _focal_and_centre(matrix: Array) -> tuple[Array, Array]:
    """Return (f_x, f_y) and (c_x, c_y), each [... 2]."""
    return matrix[..., (0, 1), (0, 1)], matrix[..., :2, 2]


def _append(plane: Array, depth: Array) -> Array:
    if isinstance(plane, np.ndarray):
        return np.concatenate([plane, depth[..., None]], axis=-1)
    import torch  # tensors are given, so torch is already loaded

    return torch.cat([plane, depth[..., None]], dim=-1)
