"""Light: the room behind, soft shadows on the table, and the surface seen in each pixel.

World frame as in ``htt.scene.motion``; colours are linear RGB in 0..1 until the frame is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from htt.scene.raster import Fragments
from htt.scene.room import TEXELS_PER_M, Room

_FAR_M = 3.0
_CELL_M, _CELLS = 0.009, 128
"""The shadow map: a square of the table around the origin."""
_SHADOW_DEPTH = 0.6
_POINT_AREA_M2 = 4.5e-5
_PLASTIC_NUMBERS = (0.7548776662466927, 0.5698402909980532)
"""Steps of the two-dimensional golden-ratio sequence."""
_AMBIENT, _SKY, _DIRECT, _SHARPNESS = 0.40, 0.16, 0.52, 24


@dataclass(frozen=True)
class Camera:
    """A camera in one frame: intrinsics [3 3] (px), image size, and its pose in the world (m)."""

    matrix: np.ndarray
    width: int
    height: int
    camera_from_world: np.ndarray
    eye_m: np.ndarray

    def view(self, points_m: np.ndarray) -> np.ndarray:
        """World points [... 3] in camera space."""
        rotation = self.camera_from_world.astype(points_m.dtype)
        shift = (-self.camera_from_world @ self.eye_m).astype(points_m.dtype)
        return points_m @ rotation.T + shift

    def rays(self) -> np.ndarray:
        """World directions [h*w 3] through the pixel centres, at depth one."""
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
    """The empty room [h*w 3] seen along the rays [h*w 3], with the table darkened by ``shadow`` [cells cells]."""
    eye = camera.eye_m.astype(np.float32)
    image = np.empty_like(rays)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_table = np.where(rays[:, 2] < -1e-3, -eye[2] / rays[:, 2], np.inf)
        to_wall = np.where(rays[:, 1] > 1e-3, (room.wall_m - eye[1]) / rays[:, 1], np.inf)
    on_table = to_table <= to_wall
    if on_table.all():
        return _table(eye + rays * to_table[:, None], room, shadow)
    table = np.flatnonzero(on_table)
    image[table] = _table(eye + rays[table] * to_table[table, None], room, shadow)
    wall = np.flatnonzero(~on_table)
    place = eye + rays[wall] * np.minimum(to_wall[wall], _FAR_M)[:, None]
    image[wall] = 0.9 * _texel(room.wall, place[:, 0], place[:, 2])
    return image


def _table(place: np.ndarray, room: Room, shadow: np.ndarray) -> np.ndarray:
    colour = _texel(room.table, place[:, 0], place[:, 1])
    if room.mat_m[2] > 0:
        on_mat = (np.abs(place[:, :2] - room.mat_m[:2].astype(np.float32)) < room.mat_m[2:]).all(axis=1)
        colour[on_mat] = 0.4 * colour[on_mat] + 0.6 * room.mat_colour
    return colour * (1.0 - _SHADOW_DEPTH * _shadow_at(shadow, place))[:, None]


def _texel(texture: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The nearest texel [n 3] of a periodic texture at places in metres."""
    size = len(texture)
    column = (across * TEXELS_PER_M).astype(np.int32) & (size - 1)
    row = (along * TEXELS_PER_M).astype(np.int32) & (size - 1)
    return texture.reshape(-1, 3)[row * size + column]


def shadow_maps(vertices_m: np.ndarray, faces: np.ndarray, room: Room) -> np.ndarray:
    """How dark the table is [t cells cells], 0..1, under the faces [f 3] of moving vertices [t v 3] (world).

    Points spread evenly over the surface drop its area onto the table, away from the lamp; a soft filter joins them.
    """
    frames = len(vertices_m)
    points = _even_points(vertices_m, faces)
    height = np.maximum(points[..., 2], 0.0)
    lean = room.light[:2] / room.light[2]
    cell = ((points[..., :2] - height[..., None] * lean) / _CELL_M + _CELLS / 2).astype(np.int32)
    # A convex surface covers a quarter of its area on average; high things cast thinner shadows.
    weight = 0.25 / _CELL_M**2 * _POINT_AREA_M2 * np.exp(-2.0 * height)
    margin = 3
    kept = ((cell >= margin) & (cell < _CELLS - margin)).all(axis=-1)
    index = (np.arange(frames)[:, None] * _CELLS + cell[..., 1]) * _CELLS + cell[..., 0]
    total = np.bincount(index[kept], weight[kept], frames * _CELLS * _CELLS)
    soft = np.minimum(total, 2.0).astype(np.float32).reshape(frames, _CELLS, _CELLS)
    for _ in range(2):
        soft[:, 1:-1] = 0.5 * soft[:, 1:-1] + 0.25 * (soft[:, :-2] + soft[:, 2:])
        soft[:, :, 1:-1] = 0.5 * soft[:, :, 1:-1] + 0.25 * (soft[:, :, :-2] + soft[:, :, 2:])
    return np.minimum(soft, 1.0)


def _even_points(vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Points [t p 3] that each stand for the same area of the surface as it is in the first frame."""
    corner = vertices_m[0][faces]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1) / 2
    upto = np.cumsum(area, dtype=float)
    face = np.searchsorted(upto, np.arange(0.5 * _POINT_AREA_M2, upto[-1], _POINT_AREA_M2))
    # A low-discrepancy sequence, folded into the triangle: no random numbers, no clumps.
    first, second = np.outer(_PLASTIC_NUMBERS, np.arange(len(face))) % 1.0
    outside = first + second > 1.0
    first, second = np.where(outside, 1 - first, first), np.where(outside, 1 - second, second)
    share = np.stack([1 - first - second, first, second]).astype(np.float32)
    chosen = faces[face]
    return sum(vertices_m[:, chosen[:, k]] * share[k][:, None] for k in range(3))


def _shadow_at(shadow: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The shadow map between its cells at table places [n 3]; none beyond its border."""
    spot = np.clip(place[:, :2] * np.float32(1 / _CELL_M) + np.float32(_CELLS / 2 - 0.5), 0, _CELLS - 1.01)
    cell = spot.astype(np.int32)
    share = spot - cell
    corner = cell[:, 1] * _CELLS + cell[:, 0]
    flat = shadow.ravel()
    near = flat[corner] + (flat[corner + 1] - flat[corner]) * share[:, 0]
    far = flat[corner + _CELLS] + (flat[corner + _CELLS + 1] - flat[corner + _CELLS]) * share[:, 0]
    return near + (far - near) * share[:, 1]


def surface(
    fragments: Fragments, faces: np.ndarray, normals: np.ndarray, colours: np.ndarray, rays: np.ndarray, room: Room
) -> np.ndarray:
    """The colour [n 3] of each fragment: ambient light, light from above, the lamp and its highlight.

    Args:
        fragments: What is visible.
        faces: [3 f].
        normals: [v 3] in the world, of any length.
        colours: [v 4] with gloss.
        rays: [n 3] world direction of each fragment's pixel.
        room: For the lamp.
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
    return colour[:, :3] * light[:, None] + highlight[:, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("nc,nc->n", vectors, vectors))
    return vectors / np.maximum(length, np.float32(1e-9))[:, None]
