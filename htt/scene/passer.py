"""Somebody beside who reaches across: an arm that hides the work for a moment.

Every first-person recording of shared work has such arms. They come between the camera and the hands, so a single frame
does not show where the hands are, while the frames before and after do. Labels are of the wearer's hands alone.
"""

from __future__ import annotations

import numpy as np

from htt.scene.camera.head import FRAME_RATE
from htt.scene.hand.posed import Hand, HandPose, finger_angles
from htt.scene.rotations import minimum_jerk

_OFTEN = 0.8
"""Share of the clips in which somebody reaches across."""
_MOST = 2
"""Most times in a clip."""
_STAYS_S = (0.2, 0.4)
"""Half the time from the arm's appearing to its being gone, s."""
_OUTSIDE_M, _ABOVE_M = 0.62, (0.24, 0.32)
_RELAXED = (0.2, 0.25, 0.3, 0.32, 0.35)


def reach_across(hands: tuple[Hand, Hand], frames: int, rng: np.random.Generator) -> tuple[Hand, HandPose] | None:
    """The hand of somebody beside and its pose through the clip; None where nobody comes.

    It comes at the height of the line from the eyes to the work, from the left with the right hand or from the right
    with the left one.

    Args:
        hands: A left and a right hand to do it with.
        frames: Length of the clip.
        rng: Draws whether, when and where.
    """
    if rng.random() >= _OFTEN:
        return None
    from_right = rng.random() < 0.5
    hand, side = hands[0 if from_right else 1], 1.0 if from_right else -1.0
    inside = np.array([side * rng.uniform(-0.12, 0.02), rng.uniform(-0.20, -0.10), rng.uniform(*_ABOVE_M)])
    outside = np.array([side * _OUTSIDE_M, inside[1] + rng.uniform(0.0, 0.1), inside[2] + rng.uniform(0.0, 0.05)])
    here = _presence(frames, rng)
    palm = outside + (inside - outside) * here[:, None]
    rotation = hand.orientation([0.0, 0.2, -1.0], [-side, rng.uniform(-0.2, 0.4), -0.1])
    angles = np.tile(finger_angles(np.array(_RELAXED), 0.6, 0.3), (frames, 1, 1))
    elbow = outside + np.array([side * 0.5, 0.1, 0.05])
    return hand, hand.pose(np.tile(rotation, (frames, 1, 1)), palm, angles, elbow)


def _presence(frames: int, rng: np.random.Generator) -> np.ndarray:
    """0 out of view, 1 reached furthest, [t]."""
    time = np.arange(frames) / FRAME_RATE
    here = np.zeros(frames)
    for _ in range(rng.integers(1, _MOST + 1)):
        since = np.abs(time - rng.uniform(0, time[-1])) / rng.uniform(*_STAYS_S)
        here = np.maximum(here, minimum_jerk(1.0 - since))
    return here
