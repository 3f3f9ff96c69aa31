import numpy as np
import pytest

from htt.scene.motion.timing import timing


def many(frames=90, count=300):
    return [timing(frames, np.random.default_rng([3, seed])) for seed in range(count)]


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_timing_returns_one_phase_per_frame_from_0_to_1(frames):
    for seed in range(20):
        phase = timing(frames, np.random.default_rng(seed))
        assert phase.shape == (frames,)
        assert phase.min() >= 0
        assert phase.max() <= 1


def test_timing_covers_about_half_to_whole_motion():
    gained = [phase[-1] - phase[0] for phase in many()]
    assert min(gained) > 0.45
    assert max(gained) < 1.0


def test_timing_aborts_an_attempt_in_30_percent_of_clips():
    retreats = [np.maximum.accumulate(phase) - phase for phase in many()]
    aborted = [retreat.max() > 0.25 for retreat in retreats]
    assert 0.22 < np.mean(aborted) < 0.38
    assert max(retreat.max() for retreat, happened in zip(retreats, aborted, strict=True) if not happened) < 1e-9


def test_timing_pauses_in_40_percent_of_clips():
    still = [(np.abs(np.diff(phase)) < 1e-12).sum() for phase in many()]
    assert 0.3 < np.mean([count > 8 for count in still]) < 0.5


def test_timing_varies_start_and_end_of_clips():
    first, last = np.array([[phase[0], phase[-1]] for phase in many()]).T
    assert first.max() > 0.1
    assert last.min() < 0.9
    assert first.min() < 0.01
    assert last.max() > 0.99


def test_timing_slows_down_at_reversals():
    phase = next(each for each in many() if (np.diff(each) < 0).sum() > 10)
    speed = np.abs(np.diff(phase))
    turn = int(np.flatnonzero(np.diff(np.sign(np.diff(phase))) != 0)[0])
    assert speed[turn] < 0.8 * speed.max()
