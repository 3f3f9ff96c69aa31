"""Surroundings: a table and a wall with procedural textures, a lamp, and the camera's brightness and white balance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from htt.scene.rotations import unit

TEXELS_PER_M = 320
_TEXELS = 256
_TABLES = (
    (0.62, 0.47, 0.33),
    (0.75, 0.72, 0.68),
    (0.35, 0.27, 0.22),
    (0.55, 0.56, 0.58),
    (0.82, 0.78, 0.70),
    (0.42, 0.48, 0.45),
)


@dataclass(frozen=True)
class Room:
    """Surroundings of one clip.

    Attributes:
        table: Texture [n n 3] in 0..1, repeated over the table at z = 0.
        wall: Texture [n n 3] of the wall.
        wall_m: Position of the wall along y.
        mat_m: Centre x, y and half sizes of a mat on the table; sizes of zero mean no mat.
        mat_colour: [3] colour of the mat.
        light: Unit vector [3] towards the lamp.
        gain: [3] brightness and white balance of the camera.
    """

    table: np.ndarray
    wall: np.ndarray
    wall_m: float
    mat_m: np.ndarray
    mat_colour: np.ndarray
    light: np.ndarray
    gain: np.ndarray


def make_room(rng: np.random.Generator) -> Room:
    """Return a room drawn from ``rng``."""
    base = np.clip(np.array(_TABLES[rng.integers(len(_TABLES))]) * rng.uniform(0.8, 1.15), 0, 1)
    base = np.clip(base + rng.uniform(-0.05, 0.05, 3), 0, 1)
    pattern = _clouds(rng)
    if rng.random() < 0.5:
        pattern = _grain(pattern, rng)
    table = base * (1.0 - rng.uniform(0.08, 0.25) * pattern[..., None])
    paint = np.clip(rng.uniform(0.5, 0.9) + rng.uniform(-0.04, 0.04, 3), 0, 1)
    wall = paint + 0.15 * (_clouds(rng)[..., None] - 0.5)
    has_mat = rng.random() < 0.35
    return Room(
        table.astype(np.float32),
        wall.astype(np.float32),
        wall_m=rng.uniform(0.55, 0.9),
        mat_m=np.array([rng.uniform(-0.05, 0.05), rng.uniform(0.0, 0.1), *(has_mat * rng.uniform(0.14, 0.28, 2))]),
        mat_colour=(rng.uniform(0.2, 0.8) + rng.uniform(-0.12, 0.12, 3)).astype(np.float32),
        light=unit([rng.uniform(-0.5, 0.5), rng.uniform(-0.6, 0.2), 1.0]).astype(np.float32),
        gain=(rng.uniform(0.85, 1.15) * (1.0 + rng.uniform(-0.06, 0.06, 3))).astype(np.float32),
    )


def _clouds(rng: np.random.Generator, octaves: tuple[int, ...] = (4, 16, 64)) -> np.ndarray:
    """Return smooth periodic noise [n n] in 0..1, the sum of ever finer and weaker lattices."""
    position = np.linspace(0.0, 1.0, _TEXELS, endpoint=False)
    total = np.zeros((_TEXELS, _TEXELS))
    for octave, lattice in enumerate(octaves):
        values = rng.standard_normal((lattice, lattice))
        cell = (position * lattice).astype(int)
        share = position * lattice - cell
        share = share * share * (3 - 2 * share)
        after = (cell + 1) % lattice
        rows = values[cell] * (1 - share[:, None]) + values[after] * share[:, None]
        total += (rows[:, cell] * (1 - share) + rows[:, after] * share) / 2**octave
    clouds: np.ndarray = (total - total.min()) / np.ptp(total)
    return clouds


def _grain(clouds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a wood texture [n n] in 0..1: stripes along one direction, distorted by the noise, periodic like it."""
    stripes = 2 * np.pi * rng.integers(6, 14) * np.linspace(0, 1, _TEXELS, endpoint=False)
    return 0.5 + 0.5 * np.sin(clouds * rng.uniform(4, 9) + stripes[:, None])
