"""Path of the head camera: it drifts with the body, looks at the work, and sometimes glances aside."""

from __future__ import annotations

import numpy as np

from htt.camera import intrinsics
from htt.scene.motion.play import wander
from htt.scene.render.shading import Camera
from htt.scene.rotations import looking

FOCAL = 0.80
"""Usual focal length in image widths: 64 degrees horizontally, as of head cameras; hands at the side leave the view."""
_GAZE_M = np.array([0.0, 0.04, 0.06])
_GLANCES = 2
"""Largest number of glances in a clip."""
_GLANCE_M = (0.10, 0.25)
"""Range of the gaze shift on the table in a glance: 9 to 21 degrees, so that one or both hands are half out of view."""
_GLANCE_S = (0.12, 0.3)
"""Range of half the duration of a glance, s."""
FRAME_RATE = 15.0
"""Frames per second of every clip."""


def cameras(
    eye_m: np.ndarray,
    frames: int,
    width: int,
    height: int,
    rng: np.random.Generator,
    focal: float = FOCAL,
    distance: float = 1.0,
) -> list[Camera]:
    """Return the camera of each frame.

    Args:
        eye_m: [3] mean position of the person's camera (world).
        frames: Number of frames of the clip.
        width: Width of the image, px.
        height: Height of the image, px.
        rng: Generator for the path.
        focal: Focal length in image widths.
        distance: Distance of the camera from the point of gaze, as a multiple of the usual distance.
    """
    matrix = intrinsics(focal * width, focal * width, width / 2, height / 2)
    eye = eye_m + rng.uniform(-0.03, 0.03, 3) + wander(frames, 0.018, rng, cycles=2.0)
    target = _GAZE_M + rng.uniform(-0.03, 0.03, 3) + wander(frames, 0.02, rng, cycles=2.0) + _glances(frames, rng)
    roll = rng.uniform(-0.04, 0.04) + wander(frames, 0.03, rng, cycles=2.0)[:, 0]
    eye = eye + (distance - 1.0) * (eye - _GAZE_M)
    rotation = looking(eye, target, roll)
    return [Camera(matrix, width, height, rotation[frame], eye[frame]) for frame in range(frames)]


def _glances(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return the shifts [t 3] (m) of the point of gaze; each glance lasts a fraction of a second."""
    away = np.zeros((frames, 3))
    time = np.arange(frames) / FRAME_RATE
    for _ in range(rng.integers(_GLANCES + 1)):
        aside = np.array([rng.choice([-1, 1]) * rng.uniform(*_GLANCE_M), rng.uniform(-0.05, 0.12), 0.0])
        since = (time - rng.uniform(0, time[-1])) / rng.uniform(*_GLANCE_S)
        away += np.exp(-0.5 * since**2)[:, None] * aside
    return away
