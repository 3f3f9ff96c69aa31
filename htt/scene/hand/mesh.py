"""Mesh of a relaxed hand with skinning weights and colour masks, built once per shape and cached in the process.

A coarse surface-nets mesh is projected onto the implicit skin and smoothed; normals are the gradient of the skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from htt.scene.hand import skin
from htt.scene.hand.skeleton import HandShape
from htt.scene.hand.surface import FOREARM_MM, HandSurface
from htt.scene.hand.surface_nets import surface_nets
from htt.scene.rotations import unit

_STEP_MM = np.array([5.6, 7.2, 5.2])
"""Grid steps across, along and through the fingers; they give about ten vertices around a finger."""
_SETTLING_ROUNDS = 4


@dataclass(frozen=True)
class HandMesh:
    """A right hand at rest, in the hand's frame (mm, see ``htt.scene.hand.skeleton``).

    Attributes:
        vertices: [v 3] mm.
        normals: [v 3], unit, outward.
        faces: [f 3] vertex indices, counter-clockwise seen from outside.
        weights: [v 17] share of each segment in the motion of a vertex; rows sum to one.
        joints: [21 3] mm.
        frames: [5 3 3 3] bone frames at rest.
        tints: Masks [v] in 0..1 by name, see ``htt.scene.hand.skin.tints``.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    joints: np.ndarray
    frames: np.ndarray
    tints: dict[str, np.ndarray]


@lru_cache(maxsize=64)
def hand_mesh(shape: HandShape, coarseness: float = 1.0) -> HandMesh:
    """Return the mesh of a hand; ``coarseness`` scales the distance between vertices (0.2-0.5 s on the first call)."""
    surface = HandSurface(shape)
    axes = _grid(surface, coarseness)
    vertices, quads = surface_nets(_sample(surface, axes), axes)
    faces = _split_quads(vertices, quads)
    neighbours = skin.MeshEdges.of(faces, len(vertices))
    vertices = _settle(surface, vertices, neighbours)
    normals = unit(surface.gradient(vertices)[1])
    weights = skin.weights(surface, vertices, neighbours)
    tints = skin.tints(surface, vertices, normals)
    return HandMesh(vertices, normals, faces, weights, surface.joints, surface.frames, tints)


def _grid(surface: HandSurface, coarseness: float) -> list[np.ndarray]:
    """Return the grid points along each axis: fine at the fingers, coarser at the palm, coarsest at the forearm."""
    step, shape = _STEP_MM * coarseness, surface.shape
    low, high = surface.joints.min(axis=0) - 18, surface.joints.max(axis=0) + 16
    width, thickness = 48 * shape.palm * shape.girth, 36 * shape.girth
    low = np.minimum(low, [-width, 0, -thickness])
    high = np.maximum(high, [width, 0, thickness])
    along = [
        np.arange(-FOREARM_MM - 48 * shape.girth, -38, 22 * coarseness),
        np.arange(-30, 70, 8 * coarseness),
        np.arange(75, high[1] + step[1], step[1]),
    ]
    return [
        np.arange(low[0], high[0] + step[0], step[0]),
        np.concatenate(along),
        np.arange(low[2], high[2] + step[2], step[2]),
    ]


def _sample(surface: HandSurface, axes: list[np.ndarray]) -> np.ndarray:
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return np.stack([surface.distance(slab.reshape(-1, 3)).reshape(slab.shape[:-1]) for slab in points])


def _split_quads(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Return two triangles [f 3] per quad, split along its shorter diagonal."""
    corner = vertices[quads]
    first = np.sum((corner[:, 0] - corner[:, 2]) ** 2, axis=1)
    second = np.sum((corner[:, 1] - corner[:, 3]) ** 2, axis=1)
    shorter = (first < second)[:, None]
    upper = np.where(shorter, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]])
    lower = np.where(shorter, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]])
    return np.concatenate([upper, lower])


def _settle(surface: HandSurface, vertices: np.ndarray, neighbours: skin.MeshEdges) -> np.ndarray:
    """Move the vertices onto the skin by Newton steps; after each but the last, slide them to the neighbours' mean."""
    for remaining in reversed(range(_SETTLING_ROUNDS)):
        value, gradient = surface.gradient(vertices)
        squared = np.sum(gradient**2, axis=1, keepdims=True)
        vertices = vertices - np.clip(value[:, None] * gradient / squared, -3.0, 3.0)
        if remaining:
            normal = gradient / np.sqrt(squared)
            slide = neighbours.mean(vertices) - vertices
            vertices = vertices + 0.5 * (slide - np.sum(slide * normal, axis=1, keepdims=True) * normal)
    return vertices
