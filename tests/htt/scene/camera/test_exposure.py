from dataclasses import replace

import numpy as np
import pytest

from htt.scene.camera import exposure
from htt.scene.camera.head import cameras
from htt.scene.render.shading import Camera
from htt.scene.rotations import looking

EYE = np.array([0.0, -0.40, 0.50])


def film(seed, frames=30):
    path = cameras(EYE, frames, 32, 18, np.random.default_rng(seed))
    return exposure.load(path, np.random.default_rng(seed))


def clearest(seen):
    return int(np.argmin(np.abs(np.log(seen.gain))))


def looking_at(*targets):
    matrix = np.array([[70.0, 0, 48], [0, 70, 27], [0, 0, 1]])
    return [Camera(matrix, 96, 54, looking(EYE, target), EYE) for target in targets]


def test_drift_px_is_opposite_to_head_motion():
    drift = exposure.drift_px(looking_at([0.0, 0.60, 0.50], [0.1, 0.60, 0.50], [0.1, 0.60, 0.60]))
    assert drift.shape == (3, 2)
    np.testing.assert_allclose(drift[0], [-7, 0], atol=0.01)  # 0.1 m sideways at 1 m distance, focal length 70 px
    np.testing.assert_allclose(drift[1], [0, 7], atol=0.1)
    np.testing.assert_allclose(drift[2], [0, 0], atol=1e-12)


def test_smeared_averages_along_motion_and_keeps_still_image():
    image = np.zeros((5, 7, 3), np.float32)
    image[2, 3] = 3.0
    np.testing.assert_array_equal(exposure.smeared(image, np.array([0.4, 0.9])), image)
    across = exposure.smeared(image, np.array([4.0, 0.0]))
    np.testing.assert_array_equal(across[2, :, 0], [0, 1, 0, 1, 0, 1, 0])
    assert across.sum() == pytest.approx(image.sum())
    slanted = exposure.smeared(image, np.array([2.0, -2.0]))
    assert [slanted[row, column, 0] for row, column in ((3, 2), (2, 3), (1, 4))] == [1, 1, 1]


def test_load_varies_exposure_more_in_noisier_rooms():
    films = [film(seed) for seed in range(60)]
    noise = np.array([each.noise.std() for each in films])
    hunting = np.array([np.log(each.gain[(each.gain > 0.1) & (each.gain < 10)]).std() for each in films])
    assert noise.min() == pytest.approx(0.008, rel=0.1)
    assert 0.025 < noise.max() < 0.031
    assert np.corrcoef(noise, hunting)[0, 1] > 0.7
    assert hunting.max() < 0.2


def test_blindness_affects_20_percent_of_frames():
    factors = [exposure.blindness(30, np.random.default_rng(seed)) for seed in range(400)]
    lost = np.stack(factors) != 1
    assert 0.17 < lost.mean() < 0.24
    for factor in factors:
        assert all(0.02 <= each <= 0.06 or 15 <= each <= 40 or each == 1 for each in factor)
    assert 0.2 < np.mean([not each.any() for each in lost[:, :13]]) < 0.3  # half a clip has none with e**(-13/9)
    alone = [exposure.blindness(3000, np.random.default_rng(seed))[1:-1] for seed in range(3)]
    dark = np.concatenate(alone)
    assert 0.4 < (dark < 1).sum() / (dark != 1).sum() < 0.6


def test_develop_hides_content_at_lost_exposure():
    image = np.random.default_rng(0).uniform(0.2, 0.8, (18 * 32, 3)).astype(np.float32)
    seen = film(0)
    clear = clearest(seen)
    for factor in (0.04, 25.0):
        blind = replace(seen, gain=np.full_like(seen.gain, factor))
        assert blind.develop(image, clear).std() < 0.15 * seen.develop(image, clear).std()


def test_develop_returns_uint8_image_of_same_size():
    image = np.full((18 * 32, 3), 0.5, np.float32)
    seen = film(0)
    developed = seen.develop(image, clearest(seen))
    assert developed.shape == (18, 32, 3)
    assert developed.dtype == np.uint8
    assert 90 < developed.mean() < 165
