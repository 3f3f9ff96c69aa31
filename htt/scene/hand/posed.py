"""Poses of a hand: joints by forward kinematics, skin by linear blending of the segments.

A pose consists of the position of the palm point, the rotation of the hand and the angles of the fingers. Angles have
the same sign for both hands; the left hand is the right hand mirrored in x of its own frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from htt.hand import FINGERS, JOINTS_PER_HAND, WRIST
from htt.scene.hand.mesh import hand_mesh
from htt.scene.hand.skeleton import HandShape, bend
from htt.scene.hand.skin import FOREARM, PALM, SEGMENTS
from htt.scene.rotations import about_axis, unit

PALM_NORMAL, FINGER_DIRECTION = np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])
_SPREAD = np.array([0.0, -0.12, -0.01, 0.08, 0.17])
_WRIST_RANGE = 1.35
"""Largest angle (rad) between forearm and hand."""
_SEGMENT_ORIGINS = [WRIST, *(1 + 4 * finger + bone for finger in range(len(FINGERS)) for bone in range(3)), WRIST]


@dataclass(frozen=True)
class HandPose:
    """Rotations of the segments to the world [t 17 3 3], their origins [t 17 3] and the joints [t 21 3] (world, m)."""

    rotations: np.ndarray
    origins_m: np.ndarray
    joints_m: np.ndarray

    def reversed(self) -> HandPose:
        """Return the pose with its frames in reverse order."""
        return HandPose(self.rotations[::-1], self.origins_m[::-1], self.joints_m[::-1])


class Hand:
    """One hand of one subject.

    Attributes:
        side: "left" or "right".
        size: Scale of the whole hand, 1 for the adult mean.
        faces: [f 3] counter-clockwise seen from outside.
        tints: Masks for ``htt.scene.hand.skin.colours``.
        palm_m: [3] palm point in the hand's frame: between the wrist and the knuckles, on the skin of the palm.
    """

    def __init__(self, side: str, shape: HandShape, size: float, coarseness: float = 1.0) -> None:
        """Scale and mirror the mesh of the shape (built on first use)."""
        mesh = hand_mesh(shape, coarseness)
        self.side, self.shape, self.size = side, shape, size
        self._metres = size / 1000.0
        self._mirror = np.array([-1.0 if side == "left" else 1.0, 1.0, 1.0])
        self.faces = mesh.faces[:, ::-1] if side == "left" else mesh.faces
        self.tints = mesh.tints
        self._rest_frames = mesh.frames
        self._rest_m = mesh.joints * self._metres * self._mirror
        knuckles = self._rest_m[[5, 9, 13, 17]].mean(axis=0)
        self.palm_m = 0.35 * self._rest_m[WRIST] + 0.65 * knuckles + 0.014 * size * PALM_NORMAL
        vertices = mesh.vertices * self._metres * self._mirror
        self._vertices = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1).astype(np.float32)
        self._normals = (mesh.normals * self._mirror).astype(np.float32)
        self._weights = mesh.weights.astype(np.float32)

    def pose(
        self, rotation: np.ndarray, palm_m: np.ndarray, angles: np.ndarray, elbow_m: np.ndarray | None = None
    ) -> HandPose:
        """Pose the hand for ``t`` frames.

        Args:
            rotation: [t 3 3] from the hand's frame to the world frame.
            palm_m: [t 3] position of the palm point (world, m).
            angles: [t 5 4] finger angles, see ``htt.scene.hand.skeleton.bend``.
            elbow_m: [3] point towards which the forearm points, or None to keep the forearm in line with the hand.
        """
        frames, joints_mm = bend(self.shape, angles)
        wrist = palm_m - rotation @ self.palm_m
        joints = wrist[:, None] + (joints_mm * self._metres * self._mirror) @ np.swapaxes(rotation, -1, -2)
        mirror = np.diag(self._mirror)
        turned = mirror @ (frames @ np.swapaxes(self._rest_frames, -1, -2)) @ mirror
        rotations = np.zeros((len(joints), SEGMENTS, 3, 3))
        rotations[:, PALM] = rotations[:, FOREARM] = rotation
        rotations[:, 1:FOREARM] = rotation[:, None] @ turned.reshape(len(joints), FOREARM - 1, 3, 3)
        if elbow_m is not None:
            rotations[:, FOREARM] = _towards(elbow_m - wrist, rotation)
        return HandPose(rotations, joints[:, _SEGMENT_ORIGINS], joints)

    def skin(self, pose: HandPose) -> tuple[np.ndarray, np.ndarray]:
        """Return vertices (world, m) and normals (not of unit length) of the posed skin, both float32 [t v 3]."""
        rest = self._rest_m[_SEGMENT_ORIGINS]
        shift = pose.origins_m - (pose.rotations @ rest[:, :, None])[..., 0]
        segments = np.concatenate([pose.rotations, shift[..., None]], axis=-1).astype(np.float32)
        blended = np.matmul(self._weights, segments.reshape(len(segments), SEGMENTS, 12))
        blended = blended.reshape(len(segments), -1, 3, 4)
        vertices = np.matmul(blended, self._vertices[..., None])[..., 0]
        normals = np.matmul(blended[..., :3], self._normals[..., None])[..., 0]
        return vertices, normals

    def orientation(self, palm_normal: ArrayLike, finger_direction: ArrayLike) -> np.ndarray:
        """Return the rotation [3 3] for a palm that faces ``palm_normal`` and fingers near ``finger_direction``."""
        normal, fingers = unit(palm_normal), np.asarray(finger_direction, float)
        fingers = unit(fingers - (fingers @ normal) * normal)
        across, own_across = np.cross(fingers, normal), np.cross(FINGER_DIRECTION, PALM_NORMAL)
        world = np.stack([normal, fingers, across], axis=1)
        rotation: np.ndarray = world @ np.stack([PALM_NORMAL, FINGER_DIRECTION, own_across], axis=0)
        return rotation

    def on_skin(self, finger: int, bone: int, share: float) -> tuple[int, float]:
        """Return the index of a bone's first joint, and its flesh radius (m) at a ``share`` of the bone's length."""
        near, far = self.shape.radii_mm[finger, bone : bone + 2]
        return 1 + JOINTS_PER_HAND // 5 * finger + bone, float(near + share * (far - near)) * self._metres


def finger_angles(closure: np.ndarray, spread: float, opposition: float) -> np.ndarray:
    """Return the angles [... 5 4] of fingers closed by ``closure`` [... 5], where 0 is straight and 1 is a fist.

    ``spread`` fans the fingers (less as they close); ``opposition`` turns the thumb in front of the palm.
    """
    closure = np.asarray(closure, float)
    angles = np.zeros((*closure.shape, 4))
    angles[..., 0] = _SPREAD * spread * (1.0 - 0.9 * np.clip(closure, 0, 1))
    angles[..., 1:] = closure[..., None] * [1.35, 1.60, 0.95] + [0.0, 0.06, 0.05]
    angles[..., 0, 0] = opposition
    angles[..., 0, 1:] = closure[..., 0, None] * [0.55, 0.70, 0.90] + [0.0, 0.05, 0.03]
    return angles


def _towards(elbow: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return forearm rotations [t 3 3]: the hand's, turned towards ``elbow`` [t 3] within the range of the wrist."""
    back, wanted = -rotation[:, :, 1], unit(elbow)
    axis = np.cross(back, wanted)
    angle = np.arctan2(np.linalg.norm(axis, axis=1), np.sum(back * wanted, axis=1))
    forearm: np.ndarray = about_axis(axis, np.minimum(angle, _WRIST_RANGE)) @ rotation
    return forearm
