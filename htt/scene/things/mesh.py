"""Triangle meshes, and the two shapes of which objects are made: boxes and surfaces of revolution.

Faces are counter-clockwise seen from outside. A colour has four channels: red, green and blue in 0..1, and gloss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from htt.scene.rotations import unit


@dataclass(frozen=True)
class Mesh:
    """Mesh of a rigid thing in its own frame: vertices [v 3] (m), unit normals [v 3], faces [f 3], colours [v 4]."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    colours: np.ndarray

    def moved(self, rotation: np.ndarray, shift: ArrayLike) -> Mesh:
        """Return the mesh rotated by ``rotation`` [3 3], then shifted by ``shift`` [3]."""
        vertices = self.vertices @ rotation.T + np.asarray(shift, float)
        return replace(self, vertices=vertices, normals=self.normals @ rotation.T)


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh that contains all given meshes."""
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate(faces),
        np.concatenate([mesh.colours for mesh in meshes]),
    )


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Return the triangles [f 3] between neighbouring points of a grid numbered row by row."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    upper = np.stack([corner, corner + 1, corner + columns], axis=1)
    lower = np.stack([corner + 1, corner + columns + 1, corner + columns], axis=1)
    return np.concatenate([upper, lower])


def box(size_m: ArrayLike, colour: ArrayLike, points: int = 2) -> Mesh:
    """Return a box that stands on z = 0 around the z axis; each side is a grid of ``points`` x ``points`` vertices."""
    half = np.asarray(size_m, float) / 2
    sides: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    line = np.linspace(-1.0, 1.0, points)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            first, second = np.meshgrid(line, line)
            side = np.zeros((points * points, 3))
            side[:, axis] = sign
            side[:, (axis + 1) % 3] = sign * first.ravel()
            side[:, (axis + 2) % 3] = second.ravel()
            faces.append(grid_faces(points, points) + len(faces) * points * points)
            sides.append(side * half)
            normals.append(np.tile(sign * np.eye(3)[axis], (points * points, 1)))
    vertices = np.concatenate(sides) + np.array([0, 0, half[2]])
    colours = np.tile(np.asarray(colour, float), (len(vertices), 1))
    return Mesh(vertices, np.concatenate(normals), np.concatenate(faces), colours)


def lathe(profile_m: ArrayLike, colours: ArrayLike, around: int = 16) -> Mesh:
    """Return a surface of revolution about z.

    Args:
        profile_m: [p 2] radius and height from the bottom up; two equal points in a row make a sharp edge.
        colours: [p 4] one colour per ring.
        around: Number of segments of a ring.
    """
    profile = np.asarray(profile_m, float)
    angle = np.arange(around + 1) * 2 * np.pi / around
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    vertices = np.zeros((len(profile), around + 1, 3))
    vertices[..., :2] = profile[:, None, :1] * circle
    vertices[..., 2] = profile[:, None, 1]
    outward = _profile_normals(profile)
    normals = np.zeros_like(vertices)
    normals[..., :2] = outward[:, None, :1] * circle
    normals[..., 2] = outward[:, None, 1]
    tinted = np.repeat(np.asarray(colours, float), around + 1, axis=0)
    faces = grid_faces(len(profile), around + 1)
    return Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), faces, tinted)


def _profile_normals(profile: np.ndarray) -> np.ndarray:
    """Return outward normals [p 2] (radius, height), the mean over the two neighbouring edges."""
    edges = np.diff(profile, axis=0)
    across = unit(np.stack([edges[:, 1], -edges[:, 0]], axis=1))
    before, after = np.vstack([across[:1], across]), np.vstack([across, across[-1:]])
    return unit(before + after)
