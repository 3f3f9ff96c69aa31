"""Skeleton of the hand: bone lengths, rest frames and forward kinematics of the five fingers.

Frame of a hand: right hand, origin at the wrist, x towards the little finger, y towards the finger tips, z out of the
back of the hand; millimetres, for an adult hand of size 1. The left hand is its mirror image in x.
A bone's frame has the columns (flexion axis, dorsal direction, direction back along the bone).

Source: rounded adult means of hand anthropometry, chosen for this project; no third-party model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from htt.hand import FINGERS, JOINTS_PER_HAND
from htt.scene.rotations import about, about_axis, unit

BONES_PER_FINGER = 3
BASE_MM = np.array([(-23, 21, -11), (-25, 90, -1), (-3.5, 94, 2), (16.5, 88.5, 0), (34, 79, -5)], float)
"""Base of each finger: the CMC joint of the thumb, the MCP joints of the other four."""
LENGTHS_MM = np.array([(43, 32, 27), (43, 25, 24), (47, 29, 25), (43, 27, 24.5), (34, 20, 22)], float)
"""Bone lengths of each finger from the palm outward; the last one ends at the tip of the flesh."""
RADII_MM = np.array(
    [
        (13.0, 11.4, 10.6, 8.8),
        (10.6, 9.7, 8.6, 7.4),
        (10.7, 9.9, 8.8, 7.6),
        (10.2, 9.3, 8.3, 7.1),
        (9.1, 8.2, 7.3, 6.3),
    ]
)
"""Flesh radius at the four joints of each finger."""
REST_ANGLES = np.array(
    [
        (0.22, 0.05, 0.16, 0.12),
        (-0.11, 0.17, 0.22, 0.12),
        (-0.015, 0.18, 0.22, 0.12),
        (0.075, 0.18, 0.22, 0.12),
        (0.15, 0.17, 0.22, 0.12),
    ]
)
"""Angles of the relaxed hand in which the mesh is built: (abduction, or thumb opposition; flexion of three bones)."""

_FAN = np.radians([0, -2, 0, 3, 8])
_KNUCKLE_ARCH = np.radians([0, -7, -1, 6, 14])
_THUMB_BONE, _THUMB_NAIL = (-0.70, 0.70, -0.12), (-0.50, -0.30, 0.80)
_OPPOSITION_AXIS, _OPPOSITION_RANGE = (0.18, 0.96, 0.20), 1.25


@dataclass(frozen=True)
class HandShape:
    """Shape of a hand relative to the mean (1): finger lengths, thickness and palm width."""

    lengths: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    girth: float = 1.0
    palm: float = 1.0

    @cached_property
    def bases_mm(self) -> np.ndarray:
        """Finger bases [5 3]."""
        return BASE_MM * [self.palm, 1.0, 1.0]

    @cached_property
    def lengths_mm(self) -> np.ndarray:
        """Bone lengths [5 3]."""
        lengths: np.ndarray = LENGTHS_MM * np.array(self.lengths)[:, None]
        return lengths

    @cached_property
    def radii_mm(self) -> np.ndarray:
        """Flesh radii [5 4]."""
        return RADII_MM * self.girth


def _straight_frames() -> np.ndarray:
    """Return the bone frames [5 3 3] of the fingers at zero angles."""
    frames = []
    for finger in range(len(FINGERS)):
        if finger == 0:
            bone, nail = unit(_THUMB_BONE), np.array(_THUMB_NAIL)
        else:
            bone = np.array([np.sin(_FAN[finger]), np.cos(_FAN[finger]), 0.0])
            nail = about_axis(bone, _KNUCKLE_ARCH[finger])[:, 2]
        nail = unit(nail - (nail @ bone) * bone)
        frames.append(np.stack([np.cross(nail, -bone), nail, -bone], axis=1))
    return np.array(frames)


_FRAMES = _straight_frames()


def bend(shape: HandShape, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bone frames [t 5 3 3 3] and joints [t 21 3] (mm, hand frame) for finger ``angles`` [t 5 4] (rad)."""
    frames = np.zeros((len(angles), len(FINGERS), BONES_PER_FINGER, 3, 3))
    joints = np.zeros((len(angles), JOINTS_PER_HAND, 3))
    for finger in range(len(FINGERS)):
        if finger == 0:
            frame = about_axis(_OPPOSITION_AXIS, -_OPPOSITION_RANGE * angles[:, 0, 0]) @ _FRAMES[0]
        else:
            frame = _FRAMES[finger] @ about("y", -angles[:, finger, 0])
        joint = 1 + 4 * finger
        joints[:, joint] = shape.bases_mm[finger]
        for bone in range(BONES_PER_FINGER):
            frame = frame @ about("x", -angles[:, finger, 1 + bone])
            frames[:, finger, bone] = frame
            joints[:, joint + bone + 1] = joints[:, joint + bone] - frame[..., 2] * shape.lengths_mm[finger, bone]
    return frames, joints
