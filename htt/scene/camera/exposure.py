"""Conversion of light to bytes as in a small head camera: motion blur, varying exposure, and noise.

The three effects occur in every clip and differ in strength, as in recordings of bright and dim rooms. Sometimes the
exposure fails, as when a lamp or a window enters or leaves the view: for one to three frames the image is almost black
or white, and only the neighbouring frames show where the hands are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from htt.scene.render.shading import Camera

_NOISE = (0.008, 0.03)
"""Standard deviation of the pixel noise in the brightest and in the dimmest room."""
_NOISE_FIELDS = 8
_HUNTING = 0.15
"""Standard deviation of the logarithm of a frame's exposure, relative to the clip's, in the dimmest room."""
_BLIND_EVERY = 9.0
"""Mean number of frames between two exposure failures."""
_BLIND_FRAMES = (1, 3)
"""Smallest and largest number of frames of a failure."""
_DARK, _BRIGHT = (0.02, 0.06), (15.0, 40.0)
"""Ranges of the exposure factor during a failure."""
_SHUTTER = (0.2, 0.7)
"""Share of the time between two frames for which the shutter is open, in the brightest and in the dimmest room."""
_BLUR_STEPS = 3


@dataclass(frozen=True)
class Film:
    """Camera effects applied to the images of one clip.

    Attributes:
        gain: [t] exposure factor of each frame.
        noise: [fields h*w 3] float32 noise fields.
        field: [t] index of each frame's noise field.
        smear_px: [t 2] movement of the image, right and down, while the shutter is open.
        size: Width and height of the image, px.
    """

    gain: np.ndarray
    noise: np.ndarray
    field: np.ndarray
    smear_px: np.ndarray
    size: tuple[int, int]

    def develop(self, image: np.ndarray, frame: int) -> np.ndarray:
        """Convert an image [h*w 3] of light in 0..1 to bytes, uint8 [h w 3]."""
        width, height = self.size
        seen = smeared(image.reshape(height, width, 3), self.smear_px[frame]).reshape(-1, 3)
        exposed = seen * self.gain[frame] + self.noise[self.field[frame]]
        developed: np.ndarray = (np.clip(exposed, 0, 1) * 255 + 0.5).astype(np.uint8)
        return developed.reshape(height, width, 3)


def load(cameras: list[Camera], rng: np.random.Generator) -> Film:
    """Return the film for a clip with the given cameras, one per frame."""
    frames, width, height = len(cameras), cameras[0].width, cameras[0].height
    dimness = rng.random() ** 1.5
    noise = (_NOISE[0] * (_NOISE[1] / _NOISE[0]) ** dimness) * rng.standard_normal((_NOISE_FIELDS, height * width, 3))
    gain = np.exp(_HUNTING * dimness * rng.standard_normal(frames)) * blindness(frames, rng)
    shutter = _SHUTTER[0] + (_SHUTTER[1] - _SHUTTER[0]) * dimness
    return Film(
        gain.astype(np.float32),
        noise.astype(np.float32),
        rng.integers(_NOISE_FIELDS, size=frames),
        shutter * drift_px(cameras),
        (width, height),
    )


def blindness(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return the exposure factor [t]: 1, and far below or above 1 during failures of one to three frames."""
    factor = np.ones(frames)
    for _ in range(rng.poisson(frames / _BLIND_EVERY)):
        first, length = rng.integers(frames), rng.integers(_BLIND_FRAMES[0], _BLIND_FRAMES[1] + 1)
        factor[first : first + length] = rng.uniform(*(_DARK if rng.random() < 0.5 else _BRIGHT))
    return factor


def drift_px(cameras: list[Camera]) -> np.ndarray:
    """Return the movement [t 2] (px) of the image centre from each frame to the next, due to the head's rotation."""
    forward = np.stack([camera.camera_from_world[2] for camera in cameras])
    following = np.concatenate([forward[1:], forward[-1:]])
    turned = np.stack([camera.camera_from_world @ ahead for camera, ahead in zip(cameras, following, strict=True)])
    focal = np.array([camera.matrix[[0, 1], [0, 1]] for camera in cameras])
    drift: np.ndarray = -focal * turned[:, :2] / turned[:, 2:]
    return drift


def smeared(image: np.ndarray, smear_px: np.ndarray) -> np.ndarray:
    """Return the mean of the image [h w 3] over shifts along a movement [2] (px, right and down), centred on zero."""
    offsets = np.round(np.outer(np.linspace(-0.5, 0.5, _BLUR_STEPS), smear_px)).astype(int)
    if not offsets.any():
        return image
    reach = np.abs(offsets).max(axis=0)
    height, width = image.shape[:2]
    wide = np.pad(image, ((reach[1], reach[1]), (reach[0], reach[0]), (0, 0)), mode="edge")
    total = np.zeros_like(image)
    for right, down in offsets:
        total += wide[reach[1] - down : reach[1] - down + height, reach[0] - right : reach[0] - right + width]
    return total / np.float32(_BLUR_STEPS)
