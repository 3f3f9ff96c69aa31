"""Frame after frame: the offline result at the end of every window, and the encoder once per frame."""

import numpy as np
import pytest

from htt.errors import DataError
from htt.inference import Predictor
from htt.testing import tiny_config, tiny_info

BLOCKS = ["transformer", "lstm", "mean", "identity"]


@pytest.fixture
def predictor_of(tmp_path, save):
    def make(**values):
        config = tiny_config(**{"model.pose.window": 3, "model.action.length": 8, **values})
        return Predictor.load(save(tmp_path / "checkpoint", config, tiny_info()))

    return make


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (21, 36, 64, 3), dtype=np.uint8)


MATRIX = np.array([[60.0, 0, 32], [0, 60, 18], [0, 0, 1]])


@pytest.mark.parametrize("block", BLOCKS)
def test_window_ends_equal_the_offline_result(predictor_of, frames, block):
    """21 frames: windows of 8, 8 and 5, each of block P's windows of 3, 3 and 2."""
    values = {"model.pose.block": block, "model.action.block": block}
    values |= {"model.action.cues": ["feature", "hands", "object", "hand_type"]}
    values |= {"model.pose.joint_depth": "virtual_camera"}
    predictor = predictor_of(**values)
    offline = predictor(frames, MATRIX)
    stream = predictor.stream(MATRIX)
    settled, ends = [], []
    for index, frame in enumerate(frames):
        current = stream(frame)
        assert current.frame == index
        assert np.isfinite(current.joints_m).all()
        if current.settled:
            settled.append(current.settled)
            np.testing.assert_array_equal(current.joints_m, current.settled.joints_m[-1])
        if current.window_ended:
            ends.append(current.action_probabilities)
    assert [each.first for each in settled] == [0, 3, 6, 8, 11, 14, 16]
    settled.append(stream.finish())
    assert stream.finish() is None
    ends.append(stream.action_probabilities)
    for name in ("joints_px", "joints_m", "object_probabilities"):
        found = np.concatenate([getattr(each, name) for each in settled])
        np.testing.assert_allclose(found, getattr(offline, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ends, offline.action_probabilities, atol=1e-5)


def test_action_so_far_is_that_of_the_settled_frames(predictor_of, frames):
    predictor = predictor_of()
    stream = predictor.stream(MATRIX)
    found = [stream(frame).action_probabilities for frame in frames[:12]]
    assert found[0] is None
    assert found[1] is None
    for last in (2, 5, 7):
        expected = predictor(frames[: last + 1], MATRIX).action_probabilities[0]
        np.testing.assert_allclose(found[last], expected, atol=1e-5)
    assert found[3] is found[2]
    assert found[9] is found[7], "a new window has no action before its first settled frame"
    expected = predictor(frames[8:11], MATRIX).action_probabilities[0]
    np.testing.assert_allclose(found[10], expected, atol=1e-5)


def test_current_hands_see_the_last_frames(predictor_of, frames):
    """Between window ends the newest frame is the last of t frames, as if a window ended there."""
    predictor = predictor_of()
    stream = predictor.stream(MATRIX)
    found = [stream(frame).joints_m for frame in frames[:7]]
    expected = predictor(frames[2:5], MATRIX).joints_m[-1]
    np.testing.assert_allclose(found[4], expected, atol=1e-5)


def test_encoder_runs_once_per_frame(predictor_of, frames):
    predictor = predictor_of()
    seen = []
    predictor.model.features.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    stream = predictor.stream(MATRIX)
    for frame in frames:
        stream(frame)
    stream.finish()
    assert seen == [1] * len(frames)


def test_stream_fits_larger_frames_and_refuses_a_size_change(predictor_of, frames):
    predictor = predictor_of()
    large = frames.repeat(2, axis=1).repeat(2, axis=2)
    stream = predictor.stream(np.diag([2.0, 2, 1]) @ MATRIX, "letterbox")
    found = [stream(frame).settled for frame in large[:3]][-1]
    expected = predictor(large[:3], np.diag([2.0, 2, 1]) @ MATRIX, "letterbox")
    np.testing.assert_allclose(found.joints_px, expected.joints_px, atol=1e-3)
    with pytest.raises(DataError, match="must have one size; got 64x36 after 128x72"):
        stream(frames[3])
    with pytest.raises(DataError, match="frames must be RGB"):
        stream(frames[3, ..., 0])


def test_rates_follow_the_training_data(predictor_of):
    predictor = predictor_of(**{"data.spacing": 2})
    assert (predictor.frame_rate, predictor.stream_rate) == (30.0, 15.0)
