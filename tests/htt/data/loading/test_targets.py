"""Targets: projections of joints inside and outside the image, and none for joints without a projection."""

import numpy as np
import pytest

from htt.data.loading import targets

CAMERA = np.array([[400.0, 0, 240], [0, 400, 135], [0, 0, 1]])


def test_make_projects_joints_inside_and_far_outside_the_image() -> None:
    """FPHA has hands outside the image, and one at the lens: their targets are kept, as in the released code."""
    joints = np.full((1, 21, 3), 0.4, np.float32)
    joints[0, 5] = 0.1, -0.05, 0.0025
    made = targets.make(joints, np.ones((1, 1), bool), CAMERA)
    assert made.joint_valid.all()
    assert made.joints_px[0, 5].tolist() == pytest.approx([16_240, -7_865])
    assert made.joints_px[0, 0].tolist() == pytest.approx([640, 535])


@pytest.mark.parametrize("point", [(0.1, 0.1, 0.0), (0.1, 0.1, -0.4), (0.1, 0.1, 1e-44), (np.nan, 0.1, 0.4)])
def test_make_leaves_out_joints_without_a_place_in_the_image(point: tuple[float, float, float]) -> None:
    joints = np.full((1, 21, 3), 0.4, np.float32)
    joints[0, 5] = point
    made = targets.make(joints, np.ones((1, 1), bool), CAMERA)
    assert made.joint_valid[0].tolist() == [joint != 5 for joint in range(21)]
    assert np.isfinite(made.joints_px).all()
    assert np.isfinite(made.joints_m).all()
