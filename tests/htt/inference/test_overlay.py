"""Drawn frames: hands where the joints are, in the colours of hand and finger, and a time line of the actions."""

import numpy as np
import pytest

from htt.hand import BONES, FINGER_OF_BONE, WRIST
from htt.inference.overlay import ACTION_COLOURS, HAND_COLOURS, PANEL, TEXT, Painter, Part, State, parts
from htt.inference.results import Segment
from htt.training.board import FINGER_COLOURS

ACTIONS = [("open milk", 0.5), ("close milk", 0.25), ("pour milk", 0.125)]


def joints():
    """42 joints on two spirals, far from one another."""
    place = np.arange(21)
    hand = np.stack([40 + 6 * place, 30 + 5 * ((place * 8) % 21)], axis=1).astype(float)
    return np.concatenate([hand, hand + np.array([160, 40])])


def state(**values):
    return State(**{"joints_px": joints(), "object": ("milk", 0.75), "actions": ACTIONS, "time_s": 1.0, **values})


def test_bones_have_the_colours_of_their_hand_and_finger():
    painter = Painter((480, 270), 2)
    drawn = painter.paint(np.full((270, 480, 3), 90, np.uint8), state())
    scaled = 2 * joints()
    for first, hand in ((0, "left"), (21, "right")):
        for bone, (parent, child) in enumerate(BONES):
            colour = HAND_COLOURS[hand] if parent == WRIST else FINGER_COLOURS[FINGER_OF_BONE[bone]]
            line = scaled[first + parent] + np.linspace(0.1, 0.9, 41)[:, None] * (
                scaled[first + child] - scaled[first + parent]
            )
            seen = drawn[line[:, 1].round().astype(int), line[:, 0].round().astype(int)].astype(int)
            assert (np.abs(seen - colour).max(axis=1) < 40).any(), (hand, bone)
    far = drawn[500:530, 10:50]
    assert (far == 90).all(), "pixels without a hand are those of the frame"


@pytest.mark.parametrize("frame", [(64, 36), (480, 270), (270, 480), (3840, 2160), (33, 31)])
def test_drawn_frames_have_even_sizes_and_keep_the_aspect(frame):
    painter = Painter(frame, 1, [Part(0, 1, 0, "open")])
    drawn = painter.paint(np.zeros((frame[1], frame[0], 3), np.uint8), state(joints_px=joints()[:21]))
    assert drawn.shape[0] % 2 == drawn.shape[1] % 2 == 0
    width, height = painter.size
    assert 958 <= max(width, height) <= 1280
    assert width / height == pytest.approx(frame[0] / frame[1], rel=0.01)
    assert drawn.shape[0] == height + painter.panel


def test_joints_outside_the_frame_or_not_finite_are_left_out():
    painter, empty = Painter((480, 270), 2), np.full((270, 480, 3), 90, np.uint8)
    for px in (joints() - 5000, joints() + 5000, np.full((42, 2), np.nan)):
        drawn = painter.paint(empty, state(joints_px=px))
        assert (drawn[: painter.size[1]] == 90).all()


def test_bars_have_the_length_of_the_probability():
    painter = Painter((480, 270), 2)
    blank = np.zeros((270, 480, 3), np.uint8)

    def length(probability):
        drawn = painter.paint(blank, state(actions=[("a", probability)]))
        return (drawn[painter.size[1] + 40, 288 + 250 :] == TEXT).all(axis=1).sum()

    assert length(1.0) == pytest.approx(2 * length(0.5), abs=6)
    assert length(0.5) > 100


def test_time_line_shows_each_action_and_the_time():
    line = [Part(0, 1, 0, "open"), Part(1, 4, 3, "close")]
    painter = Painter((480, 270), 2, line)
    drawn = painter.paint(np.zeros((270, 480, 3), np.uint8), state(time_s=2.0))
    row = drawn[painter.size[1] + 138]
    for part in line:
        share = (row == ACTION_COLOURS[part.action]).all(axis=1).sum() / 924
        assert share == pytest.approx((part.end_s - part.start_s) / 4, abs=0.02)
    cursor = np.flatnonzero((drawn[painter.size[1] + 115] == TEXT).all(axis=1))
    assert cursor.mean() == pytest.approx(480, abs=2)
    assert (drawn[-1] == PANEL).all()


def test_segments_of_one_action_are_one_part():
    found = [Segment(first, first + 10, np.eye(3)[action]) for first, action in ((0, 1), (10, 1), (20, 0), (30, 1))]
    assert parts(found, ["a", "b", "c"], 10.0) == [Part(0, 2, 1, "b"), Part(2, 3, 0, "a"), Part(3, 4, 1, "b")]
