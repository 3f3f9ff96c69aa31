"""Hand targets of the frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from htt import camera
from htt.hand import JOINTS_PER_HAND


@dataclass(frozen=True)
class Targets:
    """Joints of some frames; zero where not valid, so that no sum contains a NaN."""

    joints_m: np.ndarray
    """[t j 3] float32, camera space, metres."""
    joints_px: np.ndarray
    """[t j 2] float32, projection of the joints, px."""
    joint_valid: np.ndarray
    """[t j] bool: the hand is in the frame, and the joint is in front of the camera, inside the image or outside."""

    def of(self, frames: np.ndarray | slice) -> Targets:
        """Return the targets of some frames; those of a slice share its memory."""
        return Targets(self.joints_m[frames], self.joints_px[frames], self.joint_valid[frames])


def make(joints_m: np.ndarray, hand_valid: np.ndarray, intrinsics: np.ndarray) -> Targets:
    """Return the targets of a clip from its joints [t j 3], hand validity [t hands] and camera intrinsics [3 3]."""
    valid = np.repeat(hand_valid, JOINTS_PER_HAND, axis=1) & (joints_m[..., 2] > 0) & np.isfinite(joints_m).all(axis=-1)
    before_camera = np.where(valid[..., None], joints_m, np.float32(1))
    with np.errstate(over="ignore"):  # a joint in the plane of the lens has no projection
        pixels = camera.project(before_camera.astype(np.float64), intrinsics).astype(np.float32)
    valid &= np.isfinite(pixels).all(axis=-1)
    zero = np.float32(0)
    return Targets(np.where(valid[..., None], joints_m, zero), np.where(valid[..., None], pixels, zero), valid)
