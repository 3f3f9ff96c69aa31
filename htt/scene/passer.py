"""Occlusion by another person, whose arm reaches across the scene for a moment.

First-person recordings of shared work contain such arms. They come between the camera and the hands, so a single frame
does not show where the hands are, but the frames before and after do. Labels are of the camera wearer's hands only.
"""

from __future__ import annotations

import numpy as np

from htt.scene.camera.head import FRAME_RATE
from htt.scene.hand.posed import Hand, HandPose, finger_angles
from htt.scene.rotations import minimum_jerk

_OFTEN = 0.8
"""Share of the clips in which another person reaches across."""
_MOST = 2
"""Largest number of times in a clip."""
_STAYS_S = (0.2, 0.4)
"""Range of half the time (s) for which the arm is in view."""
_OUTSIDE_M, _ABOVE_M = 0.62, (0.24, 0.32)
_RELAXED = (0.2, 0.25, 0.3, 0.32, 0.35)


def reach_across(hands: tuple[Hand, Hand], frames: int, rng: np.random.Generator) -> tuple[Hand, HandPose] | None:
    """Return the other person's hand and its pose in each frame, or None if nobody reaches across in this clip.

    The hand moves at the height of the line from the eyes to the work: a right hand from the left, a left hand from
    the right.

    Args:
        hands: Left and right hand, of which one is used.
        frames: Number of frames of the clip.
        rng: Generator for whether, when and where the arm appears.
    """
    if rng.random() >= _OFTEN:
        return None
    from_right = rng.random() < 0.5
    hand, side = hands[0 if from_right else 1], 1.0 if from_right else -1.0
    inside = np.array([side * rng.uniform(-0.12, 0.02), rng.uniform(-0.20, -0.10), rng.uniform(*_ABOVE_M)])
    outside = np.array([side * _OUTSIDE_M, inside[1] + rng.uniform(0.0, 0.1), inside[2] + rng.uniform(0.0, 0.05)])
    presence = _presence(frames, rng)
    palm = outside + (inside - outside) * presence[:, None]
    rotation = hand.orientation([0.0, 0.2, -1.0], [-side, rng.uniform(-0.2, 0.4), -0.1])
    angles = np.tile(finger_angles(np.array(_RELAXED), 0.6, 0.3), (frames, 1, 1))
    elbow = outside + np.array([side * 0.5, 0.1, 0.05])
    return hand, hand.pose(np.tile(rotation, (frames, 1, 1)), palm, angles, elbow)


def _presence(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return how far the arm reaches into the scene in each frame, [t]: 0 is out of view, 1 is furthest."""
    time = np.arange(frames) / FRAME_RATE
    presence = np.zeros(frames)
    for _ in range(rng.integers(1, _MOST + 1)):
        since = np.abs(time - rng.uniform(0, time[-1])) / rng.uniform(*_STAYS_S)
        presence = np.maximum(presence, minimum_jerk(1.0 - since))
    return presence
