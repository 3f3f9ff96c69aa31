import numpy as np

from htt.scene.hand.posed import Hand
from htt.scene.hand.skeleton import HandShape
from htt.scene.passer import reach_across

HANDS = (Hand("left", HandShape(), 1.0, 1.6), Hand("right", HandShape(), 1.0, 1.6))


def visits(count=200, frames=45):
    return [reach_across(HANDS, frames, np.random.default_rng(seed)) for seed in range(count)]


def test_reach_across_happens_in_80_percent_of_clips():
    assert 0.7 < np.mean([visit is not None for visit in visits()]) < 0.9


def test_reach_across_uses_the_hand_opposite_to_its_side():
    sides = set()
    for hand, pose in filter(None, visits(40)):
        away = pose.joints_m[np.abs(pose.joints_m[:, 0, 0]).argmax(), 0, 0]
        assert (hand.side == "right") == (away < 0)
        sides.add(hand.side)
    assert sides == {"left", "right"}


def test_reach_across_is_brief_and_between_eyes_and_table():
    wrists = np.stack([pose.joints_m[:, 0] for _, pose in filter(None, visits())])
    inside = np.abs(wrists[..., 0]) < 0.3
    assert inside.any(axis=1).mean() > 0.9
    assert 0.1 < inside.mean() < 0.45
    assert wrists[inside][:, 2].min() > 0.2
    assert wrists[inside][:, 2].max() < 0.42


def test_reach_across_moves_rigidly_and_smoothly():
    for _, pose in filter(None, visits(20)):
        step = np.linalg.norm(np.diff(pose.joints_m, axis=0), axis=-1)
        assert step.max() < 0.5
        np.testing.assert_allclose(step, np.broadcast_to(step[:, :1], step.shape), atol=1e-9)
