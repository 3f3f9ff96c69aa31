import numpy as np

from htt.scene.hand.posed import Hand
from htt.scene.hand.skeleton import HandShape
from htt.scene.passer import reach_across

HANDS = (Hand("left", HandShape(), 1.0, 1.6), Hand("right", HandShape(), 1.0, 1.6))


def visits(count=200, frames=45):
    return [reach_across(HANDS, frames, np.random.default_rng(seed)) for seed in range(count)]


def test_somebody_comes_in_four_of_five_clips():
    assert 0.7 < np.mean([visit is not None for visit in visits()]) < 0.9


def test_from_the_left_comes_a_right_hand_and_from_the_right_a_left_one():
    sides = set()
    for hand, pose in filter(None, visits(40)):
        away = pose.joints_m[np.abs(pose.joints_m[:, 0, 0]).argmax(), 0, 0]
        assert (hand.side == "right") == (away < 0)
        sides.add(hand.side)
    assert sides == {"left", "right"}


def test_the_arm_is_gone_most_of_the_time_and_comes_between_the_eyes_and_the_work():
    wrists = np.stack([pose.joints_m[:, 0] for _, pose in filter(None, visits())])
    inside = np.abs(wrists[..., 0]) < 0.3
    assert inside.any(axis=1).mean() > 0.9
    assert 0.1 < inside.mean() < 0.45
    assert wrists[inside][:, 2].min() > 0.2
    assert wrists[inside][:, 2].max() < 0.42


def test_it_moves_as_one_and_without_a_jump():
    for _, pose in filter(None, visits(20)):
        step = np.linalg.norm(np.diff(pose.joints_m, axis=0), axis=-1)
        assert step.max() < 0.5
        np.testing.assert_allclose(step, np.broadcast_to(step[:, :1], step.shape), atol=1e-9)
