"""The camera: conventions in numbers, and round trips."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from htt import camera

MATRIX = camera.intrinsics(100.0, 200.0, 48.0, 27.0)
coordinates = st.floats(-2, 2)


def test_project_maps_the_optical_axis_to_the_image_centre():
    assert camera.project(np.array([0.0, 0.0, 0.5]), MATRIX).tolist() == [48.0, 27.0]


def test_right_is_right_and_down_is_down():
    assert camera.project(np.array([0.1, 0.2, 0.5]), MATRIX).tolist() == [68.0, 107.0]


def test_resized_intrinsics_scale_the_pixels():
    half = camera.resized(MATRIX, 0.5, 0.25)
    point = np.array([0.1, 0.2, 0.5])
    np.testing.assert_allclose(camera.project(point, half), camera.project(point, MATRIX) * [0.5, 0.25])


def test_transforms_are_named_by_their_ends():
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    moved = camera.transform(np.array([[1.0, 0.0, 0.0]]), quarter, np.array([0.0, 0.0, 5.0]))
    np.testing.assert_allclose(moved, [[0.0, 1.0, 5.0]])


@given(coordinates, coordinates, st.floats(0.1, 3))
def test_unproject_undoes_project(x, y, z):
    point = np.array([[x, y, z]])
    back = camera.unproject(camera.project(point, MATRIX), point[:, 2], MATRIX)
    np.testing.assert_allclose(back, point, atol=1e-9)


def test_tensors_and_a_camera_a_clip():
    points = torch.rand(3, 21, 3, dtype=torch.float64) + 0.2
    matrices = torch.from_numpy(np.stack([MATRIX, 2 * MATRIX, camera.resized(MATRIX, 3, 1)]))
    pixels = camera.project(points, matrices[:, None])
    alone = camera.project(points[2].numpy(), matrices[2].numpy())
    np.testing.assert_allclose(pixels[2].numpy(), alone)
    torch.testing.assert_close(camera.unproject(pixels, points[..., 2], matrices[:, None]), points)
