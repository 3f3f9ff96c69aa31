import numpy as np
import pytest

from htt.camera import intrinsics
from htt.scene.render.room import make_room
from htt.scene.render.shading import Camera, background
from htt.scene.render.shadow import CELLS, Caster, shadow_at
from htt.scene.rotations import looking

LAMP = np.array([0.0, 0.0, 1.0], np.float32)


def plate(height_m):
    """A level square of 20 cm over the origin."""
    corners = np.array([(-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1)])
    vertices = np.concatenate([corners, np.full((4, 1), height_m)], axis=1).astype(np.float32)
    faces = np.array([(0, 1, 2), (0, 2, 3), (2, 1, 0), (3, 2, 0)]).T
    return vertices, np.concatenate([faces, faces], axis=1)


def test_shadow_lies_below_its_object_only():
    vertices, faces = plate(0.05)
    shadow = Caster.over(vertices, faces).shadow(vertices, LAMP)
    places = np.array([(0, 0), (0.3, 0), (0, -0.3), (2.0, 2.0)], np.float32)
    darkness = shadow_at(shadow, places)
    assert darkness[0] > 0.7
    np.testing.assert_allclose(darkness[1:], 0.0, atol=1e-6)


def test_shadow_moves_away_from_slanted_light():
    vertices, faces = plate(0.2)
    light = np.array([0.6, 0.0, 0.8], np.float32)
    shadow = Caster.over(vertices, faces).shadow(vertices, light)
    mass = shadow.sum(axis=0) @ (np.arange(CELLS) + 0.5) / shadow.sum() - CELLS / 2
    assert mass * 0.012 == pytest.approx(-0.15, abs=0.01)


def test_background_shadows_table_but_not_wall():
    room = make_room(np.random.default_rng(0))
    eye = np.array([0.0, -0.4, 0.5])
    camera = Camera(intrinsics(30, 30, 24, 24), 48, 48, looking(eye, [0.0, 0.6, 0.2]), eye)
    lit = background(camera, camera.rays(), room, np.zeros((CELLS, CELLS), np.float32))
    dark = background(camera, camera.rays(), room, np.ones((CELLS, CELLS), np.float32))
    ratio = (dark / lit).reshape(48, 48, 3).mean(axis=(1, 2))
    np.testing.assert_allclose(ratio[:10], 1.0)  # no shadow reaches the wall
    assert ratio[-1] < 1
    assert lit.min() >= 0
