"""The hand's one order."""

import pytest

from htt import hand


def test_order_of_joints():
    assert hand.JOINTS_PER_HAND == 21
    assert hand.JOINTS[0] == "wrist"
    assert hand.JOINTS[4] == "thumb tip"
    assert hand.JOINTS[5] == "index MCP"
    assert hand.JOINTS[20] == "little tip"


def test_bones_make_a_tree_rooted_in_the_wrist():
    assert len(hand.BONES) == 20
    assert sorted(child for _, child in hand.BONES) == list(range(1, 21))
    assert all(parent < child for parent, child in hand.BONES)
    assert [parent for parent, child in hand.BONES if parent == hand.WRIST] == [0] * 5
    assert hand.FINGER_OF_BONE[:5] == (0, 0, 0, 0, 1)


def test_one_hand_is_the_right_one():
    assert hand.hand_names(1) == ("right",)
    assert hand.hand_names(2) == ("left", "right")
    with pytest.raises(ValueError, match="must be 1 or 2"):
        hand.hand_names(3)
