import numpy as np
import pytest

from htt.scene import exposure
from htt.scene.head import cameras
from htt.scene.rotations import looking
from htt.scene.shading import Camera

EYE = np.array([0.0, -0.40, 0.50])


def film(seed, frames=30):
    path = cameras(EYE, frames, 32, 18, np.random.default_rng(seed))
    return exposure.load(path, np.random.default_rng(seed))


def looking_at(*targets):
    matrix = np.array([[70.0, 0, 48], [0, 70, 27], [0, 0, 1]])
    return [Camera(matrix, 96, 54, looking(EYE, target), EYE) for target in targets]


def test_the_picture_moves_against_the_head():
    drift = exposure.drift_px(looking_at([0.0, 0.60, 0.50], [0.1, 0.60, 0.50], [0.1, 0.60, 0.60]))
    assert drift.shape == (3, 2)
    np.testing.assert_allclose(drift[0], [-7, 0], atol=0.01)  # 0.1 m aside at 1 m, 70 px a unit
    np.testing.assert_allclose(drift[1], [0, 7], atol=0.1)
    np.testing.assert_allclose(drift[2], [0, 0], atol=1e-12)


def test_a_smear_is_the_mean_along_the_movement_and_nothing_when_still():
    image = np.zeros((5, 7, 3), np.float32)
    image[2, 3] = 3.0
    np.testing.assert_array_equal(exposure.smeared(image, np.array([0.4, 0.9])), image)
    across = exposure.smeared(image, np.array([4.0, 0.0]))
    np.testing.assert_array_equal(across[2, :, 0], [0, 1, 0, 1, 0, 1, 0])
    assert across.sum() == pytest.approx(image.sum())
    slanted = exposure.smeared(image, np.array([2.0, -2.0]))
    assert [slanted[row, column, 0] for row, column in ((3, 2), (2, 3), (1, 4))] == [1, 1, 1]


def test_dim_rooms_are_noisier_and_their_exposure_hunts_more():
    films = [film(seed) for seed in range(60)]
    noise = np.array([each.noise.std() for each in films])
    hunting = np.array([np.log(each.gain).std() for each in films])
    assert noise.min() == pytest.approx(0.008, rel=0.1)
    assert 0.025 < noise.max() < 0.031
    assert np.corrcoef(noise, hunting)[0, 1] > 0.7
    assert hunting.max() < 0.2


def test_developing_gives_bytes_of_the_images_size():
    image = np.full((18 * 32, 3), 0.5, np.float32)
    developed = film(0).develop(image, 3)
    assert developed.shape == (18, 32, 3)
    assert developed.dtype == np.uint8
    assert 90 < developed.mean() < 165
