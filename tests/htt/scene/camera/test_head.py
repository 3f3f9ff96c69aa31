import numpy as np
import pytest

from htt.scene.camera.head import cameras

EYE = np.array([0.0, -0.40, 0.50])


def forward(seed, frames=45):
    return np.stack([each.camera_from_world[2] for each in cameras(EYE, frames, 96, 54, np.random.default_rng(seed))])


def test_cameras_have_64_degrees_field_of_view():
    camera = cameras(EYE, 1, 96, 54, np.random.default_rng(0))[0]
    across = 2 * np.degrees(np.arctan(camera.width / 2 / camera.matrix[0, 0]))
    assert across == pytest.approx(64.0, abs=0.1)
    np.testing.assert_array_equal(camera.matrix[:2, 2], [48, 27])


def test_cameras_stay_near_eyes_and_mostly_face_the_work():
    angles = []
    for seed in range(40):
        path = cameras(EYE, 45, 96, 54, np.random.default_rng(seed))
        assert max(np.abs(each.eye_m - EYE).max() for each in path) < 0.05
        angles.append(np.degrees(np.arcsin([each.camera_from_world[2, 0] for each in path])))
    aside = np.abs(np.concatenate(angles))
    assert np.median(aside) < 5
    assert 0.03 < (aside > 10).mean() < 0.3
    assert aside.max() < 45


def test_cameras_glance_aside_in_some_clips():
    widest = [np.ptp(forward(seed)[:, 0]) for seed in range(40)]
    assert min(widest) < 0.1
    assert max(widest) > 0.25


def test_cameras_turn_smoothly():
    step = np.linalg.norm(np.diff(np.concatenate([forward(seed)[None] for seed in range(40)]), axis=1), axis=-1)
    assert np.degrees(step.max()) < 20
