"""Rotations, directions and easing functions.

A rotation is a [... 3 3] matrix that maps column vectors of its own frame to the parent frame; angles are radians.
All functions broadcast over leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_CYCLE = {"x": (0, 1, 2), "y": (1, 2, 0), "z": (2, 0, 1)}
_STRAIGHT_ANGLE = 1e-3
"""For rotations within this angle (rad) of half a turn, the axis is taken from the symmetric part of the matrix."""


def unit(vectors: ArrayLike) -> np.ndarray:
    """Return the vectors [... 3] scaled to length one; a zero vector stays zero."""
    vectors = np.asarray(vectors, float)
    directions: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return directions


def about(axis: str, angle: ArrayLike) -> np.ndarray:
    """Return the rotation [... 3 3] by ``angle`` [...] about the axis named "x", "y" or "z"."""
    angle = np.asarray(angle, float)
    fixed, first, second = _CYCLE[axis]
    rotation = np.zeros((*angle.shape, 3, 3))
    rotation[..., fixed, fixed] = 1.0
    rotation[..., first, first] = rotation[..., second, second] = np.cos(angle)
    rotation[..., second, first] = np.sin(angle)
    rotation[..., first, second] = -np.sin(angle)
    return rotation


def about_axis(axis: ArrayLike, angle: ArrayLike) -> np.ndarray:
    """Return the rotation [... 3 3] by ``angle`` [...] about the direction ``axis`` [... 3] (Rodrigues' formula)."""
    cross = _cross_matrix(unit(axis))
    angle = np.asarray(angle, float)[..., None, None]
    rotation: np.ndarray = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
    return rotation


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Return axis times angle [... 3], angle in [0, pi]; ``about_axis`` of its direction and length is the inverse."""
    sine_axis = 0.5 * np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    cosine = 0.5 * (np.trace(rotation, axis1=-2, axis2=-1) - 1.0)
    angle = np.arctan2(np.linalg.norm(sine_axis, axis=-1), cosine)
    axis = np.where((angle > np.pi - _STRAIGHT_ANGLE)[..., None], _half_turn_axis(rotation), unit(sine_axis))
    vector: np.ndarray = axis * angle[..., None]
    return vector


def blend(start: np.ndarray, end: np.ndarray, share: ArrayLike) -> np.ndarray:
    """Return the rotation at ``share`` [...] (0..1) of the shortest path from ``start`` to ``end``, both [... 3 3]."""
    step = rotation_vector(np.swapaxes(start, -1, -2) @ end)
    angle = np.linalg.norm(step, axis=-1) * np.asarray(share, float)
    between: np.ndarray = start @ about_axis(step, angle)
    return between


def looking(eye: ArrayLike, target: ArrayLike, roll: ArrayLike = 0.0) -> np.ndarray:
    """Return world-to-camera rotations [... 3 3] of a camera at ``eye`` that looks at ``target`` (world z up, m)."""
    forward = unit(np.asarray(target, float) - np.asarray(eye, float))
    right = unit(np.cross(forward, [0.0, 0.0, 1.0]))
    upright = np.stack([right, np.cross(forward, right), forward], axis=-2)
    rotation: np.ndarray = about("z", roll) @ upright
    return rotation


def smooth_step(values: ArrayLike) -> np.ndarray:
    """Return 0 below 0, 1 above 1, and between them a cubic with zero slope at both ends."""
    clipped = np.clip(values, 0.0, 1.0)
    eased: np.ndarray = clipped * clipped * (3.0 - 2.0 * clipped)
    return eased


def minimum_jerk(share: ArrayLike) -> np.ndarray:
    """Return the progress (0..1) of a free reaching movement after a ``share`` (0..1) of its time.

    Source: Flash and Hogan 1985, the fifth-order polynomial with zero velocity and acceleration at both ends.
    """
    share = np.clip(share, 0.0, 1.0)
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def _cross_matrix(vectors: np.ndarray) -> np.ndarray:
    matrix = np.zeros((*vectors.shape[:-1], 3, 3))
    for row, column, source, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 2, 0, -1)):
        matrix[..., row, column] = sign * vectors[..., source]
        matrix[..., column, row] = -sign * vectors[..., source]
    return matrix


def _half_turn_axis(rotation: np.ndarray) -> np.ndarray:
    """Return the unit axis of a half turn: since ``R + I = 2 k k^T``, the column with the largest diagonal entry."""
    outer = rotation + np.eye(3)
    widest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    return unit(np.take_along_axis(outer, widest[..., None, None], axis=-1)[..., 0])
