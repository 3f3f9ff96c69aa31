"""Where the camera on the head is and looks: it drifts with the body, follows the work, and now and then looks away."""

from __future__ import annotations

import numpy as np

from htt.camera import intrinsics
from htt.scene.motion.play import wander
from htt.scene.render.shading import Camera
from htt.scene.rotations import looking

_FOCAL = 0.80
"""Focal length in image widths: 64 degrees across. A head camera's, and hands that work at the side leave the view."""
_GAZE_M = np.array([0.0, 0.04, 0.06])
_GLANCES = 2
"""Most glances of a clip."""
_GLANCE_M = (0.10, 0.25)
"""How far aside on the table the head looks then: 9 to 21 degrees, so that one hand or both are half out of view."""
_GLANCE_S = (0.12, 0.3)
"""Half the length of a glance, s."""
FRAME_RATE = 15.0
"""Frames per second of every clip."""


def cameras(eye_m: np.ndarray, frames: int, width: int, height: int, rng: np.random.Generator) -> list[Camera]:
    """The camera of each frame.

    Args:
        eye_m: [3] where the person's camera is on average, world.
        frames: Length of the clip.
        width: Of the image, px.
        height: Of the image, px.
        rng: Draws the path.
    """
    matrix = intrinsics(_FOCAL * width, _FOCAL * width, width / 2, height / 2)
    eye = eye_m + rng.uniform(-0.03, 0.03, 3) + wander(frames, 0.018, rng, cycles=2.0)
    target = _GAZE_M + rng.uniform(-0.03, 0.03, 3) + wander(frames, 0.02, rng, cycles=2.0) + _glances(frames, rng)
    roll = rng.uniform(-0.04, 0.04) + wander(frames, 0.03, rng, cycles=2.0)[:, 0]
    rotation = looking(eye, target, roll)
    return [Camera(matrix, width, height, rotation[frame], eye[frame]) for frame in range(frames)]


def _glances(frames: int, rng: np.random.Generator) -> np.ndarray:
    """How far [t 3] (m) the point looked at moves away, for a fraction of a second at a time."""
    away = np.zeros((frames, 3))
    time = np.arange(frames) / FRAME_RATE
    for _ in range(rng.integers(_GLANCES + 1)):
        aside = np.array([rng.choice([-1, 1]) * rng.uniform(*_GLANCE_M), rng.uniform(-0.05, 0.12), 0.0])
        since = (time - rng.uniform(0, time[-1])) / rng.uniform(*_GLANCE_S)
        away += np.exp(-0.5 * since**2)[:, None] * aside
    return away
