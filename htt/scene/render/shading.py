"""Shading of the background and of the visible surfaces.

The world frame is that of ``htt.scene.motion.play``; colours are linear RGB in 0..1 until the frame is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from htt.scene.render.raster import Fragments
from htt.scene.render.room import TEXELS_PER_M, Room
from htt.scene.render.shadow import shadow_at

_FAR_M = 3.0
_SHADOW_DEPTH = 0.6
_AMBIENT, _SKY, _DIRECT, _SHARPNESS = 0.40, 0.16, 0.52, 24


@dataclass(frozen=True)
class Camera:
    """A camera in one frame: intrinsics [3 3] (px), image size, and pose in the world (m)."""

    matrix: np.ndarray
    width: int
    height: int
    camera_from_world: np.ndarray
    eye_m: np.ndarray

    def view(self, points_m: np.ndarray) -> np.ndarray:
        """Return world points [... 3] in camera space."""
        rotation = self.camera_from_world.astype(points_m.dtype)
        shift = (-self.camera_from_world @ self.eye_m).astype(points_m.dtype)
        seen: np.ndarray = points_m @ rotation.T + shift
        return seen

    def rays(self) -> np.ndarray:
        """Return the world directions [h*w 3] through the pixel centres, at depth one."""
        key = (self.width, self.height, *self.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist())
        return _pixel_rays(*key) @ self.camera_from_world.astype(np.float32)


@lru_cache(maxsize=8)
def _pixel_rays(
    width: int, height: int, focal_x: float, focal_y: float, centre_x: float, centre_y: float
) -> np.ndarray:
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(column - centre_x) / focal_x, (row - centre_y) / focal_y, np.ones_like(row)], axis=-1)
    return rays.reshape(-1, 3).astype(np.float32)


def background(camera: Camera, rays: np.ndarray, room: Room, shadow: np.ndarray) -> np.ndarray:
    """Return the empty room [h*w 3] along the rays [h*w 3], with the table darkened by ``shadow`` [cells cells]."""
    eye = camera.eye_m.astype(np.float32)
    share = _share_of_wall(camera, rays, room)
    image = np.zeros_like(rays)
    table = np.flatnonzero(share < 1)
    to_table = -eye[2] / np.minimum(rays[table, 2], -1e-3)
    # Footprint of a pixel on the table, for soft edges.
    blur = 1.3 * to_table / np.float32(camera.matrix[0, 0])
    image[table] = _table(eye + rays[table] * to_table[:, None], blur, room, shadow)
    if len(table) < len(rays) or share.any():
        wall = np.flatnonzero(share)
        to_wall = (room.wall_m - eye[1]) / np.maximum(rays[wall, 1], 1e-3)
        position = eye + rays[wall] * np.minimum(to_wall, _FAR_M)[:, None].astype(np.float32)
        image[wall] += share[wall, None] * (0.9 * _texel(room.wall, position[:, 0], position[:, 2]) - image[wall])
    return image


def _share_of_wall(camera: Camera, rays: np.ndarray, room: Room) -> np.ndarray:
    """Return the share (0..1) of each pixel [h*w] above the line where the wall meets the table."""
    # Plane through the eye and this line: its normal gives the side, its slope in the image the distance in px.
    normal = np.array([0.0, camera.eye_m[2], room.wall_m - camera.eye_m[1]])
    slope = camera.camera_from_world[:2] @ normal / camera.matrix[[0, 1], [0, 1]]
    share: np.ndarray = np.clip(rays @ (normal / np.hypot(*slope)).astype(np.float32) + np.float32(0.5), 0, 1)
    return share


def _table(position: np.ndarray, blur: np.ndarray, room: Room, shadow: np.ndarray) -> np.ndarray:
    colour = _texel(room.table, position[:, 0], position[:, 1])
    if room.mat_m[2] > 0:
        centre, half = room.mat_m.astype(np.float32).reshape(2, 2)
        within = (half - np.abs(position[:, :2] - centre)).min(axis=1)
        opacity = np.float32(0.7) * np.clip(within / blur + np.float32(0.5), 0, 1)
        colour += opacity[:, None] * (room.mat_colour - colour)
    return colour * (1.0 - _SHADOW_DEPTH * shadow_at(shadow, position))[:, None]


def _texel(texture: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the nearest texel [n 3] of a periodic texture at positions in metres."""
    size = len(texture)
    column = (across * TEXELS_PER_M).astype(np.int32) & (size - 1)
    row = (along * TEXELS_PER_M).astype(np.int32) & (size - 1)
    return texture.reshape(-1, 3)[row * size + column]


def surface(
    fragments: Fragments, faces: np.ndarray, normals: np.ndarray, colours: np.ndarray, rays: np.ndarray, room: Room
) -> np.ndarray:
    """Return the colour [n 3] of each fragment: ambient light, light from above, the lamp and its highlight.

    Args:
        fragments: Visible surface.
        faces: [3 f] vertex indices.
        normals: [v 3] in the world frame, of any length.
        colours: [v 4] RGB and gloss.
        rays: [n 3] world direction of each fragment's pixel.
        room: Room with the direction of the lamp.
    """
    weights = fragments.weights[..., None]
    corners = faces[:, fragments.face]
    normal = sum(normals[corners[k]] * weights[:, k] for k in range(3))
    colour = sum(colours[corners[k]] * weights[:, k] for k in range(3))
    normal = _unit(normal)
    towards_eye = -_unit(rays)
    half = _unit(towards_eye + room.light)
    light = _AMBIENT + _SKY * normal[:, 2] + _DIRECT * np.maximum(normal @ room.light, 0.0)
    highlight = colour[:, 3] * np.maximum(np.einsum("nc,nc->n", normal, half), 0.0) ** _SHARPNESS
    lit: np.ndarray = colour[:, :3] * light[:, None] + highlight[:, None]
    return lit


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("nc,nc->n", vectors, vectors))
    directions: np.ndarray = vectors / np.maximum(length, np.float32(1e-9))[:, None]
    return directions
