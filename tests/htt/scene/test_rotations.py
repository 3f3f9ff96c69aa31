import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htt.scene.rotations import about, about_axis, blend, looking, minimum_jerk, rotation_vector, smooth_step, unit

angles = st.floats(-3.1, 3.1)
directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda vector: np.linalg.norm(vector) > 0.1)
shares = st.floats(0, 1)


def assert_rotation(matrix):
    np.testing.assert_allclose(
        matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), matrix.shape), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0)


def test_about_follows_right_hand_rule():
    x, y, z = np.eye(3)
    np.testing.assert_allclose(about("x", np.pi / 2) @ y, z, atol=1e-12)
    np.testing.assert_allclose(about("y", np.pi / 2) @ z, x, atol=1e-12)
    np.testing.assert_allclose(about("z", np.pi / 2) @ x, y, atol=1e-12)


@given(directions, angles)
@settings(deadline=None, max_examples=50)
def test_about_axis_is_a_rotation_that_keeps_its_axis(axis, angle):
    matrix = about_axis(axis, angle)
    assert_rotation(matrix)
    np.testing.assert_allclose(matrix @ unit(axis), unit(axis), atol=1e-9)


@given(angles)
@settings(deadline=None, max_examples=50)
def test_about_and_about_axis_agree(angle):
    for index, name in enumerate("xyz"):
        np.testing.assert_allclose(about(name, angle), about_axis(np.eye(3)[index], angle), atol=1e-12)


@given(directions, st.floats(0.01, 3.1))
@settings(deadline=None, max_examples=50)
def test_rotation_vector_undoes_about_axis(axis, angle):
    np.testing.assert_allclose(rotation_vector(about_axis(axis, angle)), unit(axis) * angle, atol=1e-6)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, -1, 0), (0.6, 0, 0.8), (1, 1, 1)])
def test_rotation_vector_of_half_turn_has_an_axis(axis):
    half = about_axis(axis, np.pi)
    np.testing.assert_allclose(
        about_axis(rotation_vector(half), np.linalg.norm(rotation_vector(half))), half, atol=1e-6
    )


@given(directions, angles, directions, angles, shares)
@settings(deadline=None, max_examples=50)
def test_blend_takes_shortest_path_from_start_to_end(first, angle, second, other, share):
    start, end = about_axis(first, angle), about_axis(second, other)
    whole = np.linalg.norm(rotation_vector(start.T @ end))
    np.testing.assert_allclose(blend(start, end, 0.0), start, atol=1e-6)
    np.testing.assert_allclose(blend(start, end, 1.0), end, atol=1e-3)
    part = blend(start, end, share)
    assert_rotation(part)
    np.testing.assert_allclose(np.linalg.norm(rotation_vector(start.T @ part)), share * whole, atol=2e-3)


def test_looking_aligns_optical_axis_and_up_direction():
    rotation = looking([0.0, -1.0, 1.0], [0.0, 0.0, 0.0])
    assert_rotation(rotation)
    np.testing.assert_allclose(rotation @ unit([0.0, 1.0, -1.0]), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation @ [1.0, 0.0, 0.0], [1, 0, 0], atol=1e-12)
    assert (rotation @ [0.0, 0.0, 1.0])[1] < 0, "world up is image up, which is -y"


@given(shares)
@settings(deadline=None, max_examples=50)
def test_easing_is_symmetric_and_within_0_and_1(share):
    for ease in (minimum_jerk, smooth_step):
        assert 0 <= ease(share) <= 1
        np.testing.assert_allclose(ease(share) + ease(1 - share), 1.0, atol=1e-12)
