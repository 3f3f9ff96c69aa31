"""Skin of the hand as an implicit surface: tapered capsules along the skeleton, blended into each other.

``HandSurface.distance`` is negative inside the flesh and approximately a distance in millimetres near the skin. There
are six groups of capsules (palm with forearm, then five fingers). Capsules blend within their group; fingers blend with
the palm but hardly with each other, so that neighbouring fingers stay separate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from htt.hand import FINGERS
from htt.scene.hand.skeleton import REST_ANGLES, HandShape, bend

FOREARM_MM = 95.0
_PALM_MELT, _FINGER_MELT, _ROOT_MELT, _GAP_MELT = 11.0, 3.5, 5.5, 2.0
_KNUCKLES = (5, 9, 13, 17)
_DORSAL = np.array([0.0, 0.0, 1.0])


def smooth_minimum(first: np.ndarray, second: np.ndarray, radius: float) -> np.ndarray:
    """Return the smaller of two distances, rounded where they differ by less than ``radius``."""
    overlap = np.maximum(radius - np.abs(first - second), 0.0) / radius
    rounded: np.ndarray = np.minimum(first, second) - 0.25 * radius * overlap * overlap
    return rounded


@dataclass(frozen=True)
class Capsule:
    """A cone with round ends; ``flatness`` < 1 flattens it along the unit direction ``flat``."""

    start: np.ndarray
    end: np.ndarray
    start_radius: float
    end_radius: float
    flat: np.ndarray | None = None
    flatness: float = 1.0

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the signed distance [p] of points [p 3]."""
        axis = self.end - self.start
        share = np.clip((points - self.start) @ axis / max(float(axis @ axis), 1e-9), 0.0, 1.0)
        offset = points - self.start - share[:, None] * axis
        if self.flat is not None:
            offset += np.outer((offset @ self.flat) * (1.0 / self.flatness - 1.0), self.flat)
        length = np.sqrt(np.einsum("pc,pc->p", offset, offset))
        outside: np.ndarray = length - (self.start_radius + (self.end_radius - self.start_radius) * share)
        return outside


class HandSurface:
    """Skin of a relaxed right hand of the given shape, in the hand's frame (mm)."""

    def __init__(self, shape: HandShape) -> None:
        """Build the capsules along the skeleton at rest."""
        frames, joints = bend(shape, REST_ANGLES[None])
        self.shape, self.frames, self.joints = shape, frames[0], joints[0]
        self.capsules: list[list[Capsule]] = [self._palm()]
        self.capsules += [self._finger(finger) for finger in range(len(FINGERS))]

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the signed distance [p] (mm) of points [p 3]."""
        groups = self.group_distances(points)
        rooted = [smooth_minimum(groups[:, 0], groups[:, finger], _ROOT_MELT) for finger in range(1, groups.shape[1])]
        nearest: np.ndarray = np.minimum(rooted[0], rooted[1])
        for finger in rooted[1:]:
            nearest = smooth_minimum(nearest, finger, _GAP_MELT)
        return nearest

    def group_distances(self, points: np.ndarray) -> np.ndarray:
        """Return the signed distances [p 6] (mm) to the palm with forearm and to each finger."""
        columns = []
        for group, capsules in enumerate(self.capsules):
            nearest = capsules[0].distance(points)
            for capsule in capsules[1:]:
                nearest = smooth_minimum(nearest, capsule.distance(points), _FINGER_MELT if group else _PALM_MELT)
            columns.append(nearest)
        return np.stack(columns, axis=1)

    def gradient(self, points: np.ndarray, step: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
        """Return the distance [p] and its gradient [p 3], from the four corners of a small tetrahedron."""
        corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)], float)
        values = self.distance((points[:, None] + step * corners).reshape(-1, 3)).reshape(-1, 4)
        return values.mean(axis=1), (values @ corners) / (4 * step)

    def _palm(self) -> list[Capsule]:
        return [*self._metacarpals(), *self._pads(), *self._arm(), *self._webs(), *self._knuckle_caps()]

    def _across(self, x: float, y: float, z: float) -> np.ndarray:
        return np.array([x * self.shape.palm, y, z])

    def _capsule(self, start: ArrayLike, end: ArrayLike, start_radius: float, end_radius: float) -> Capsule:
        girth = self.shape.girth
        return Capsule(np.asarray(start, float), np.asarray(end, float), start_radius * girth, end_radius * girth)

    def _carpals(self) -> list[np.ndarray]:
        """Return the points at which the four metacarpal bones leave the carpus."""
        return [self._across(*position) for position in ((-13, 26, 0), (-3, 27, 2), (7, 26, 1), (16, 24, -2))]

    def _metacarpals(self) -> list[Capsule]:
        ends = [self.joints[knuckle] + [0, -3, -2] for knuckle in _KNUCKLES]
        radii = (9.8, 9.8, 9.4, 8.7)
        return [self._capsule(*each[:2], 12.5, each[2]) for each in zip(self._carpals(), ends, radii, strict=True)]

    def _pads(self) -> list[Capsule]:
        """Return the flesh of the palm: below the knuckles, the ball of the thumb, the ulnar edge, the thumb's web."""
        across, joints = self._across, self.joints
        pads = [
            self._capsule(across(-21, 84, -7), across(10, 84, -6), 8, 8),
            self._capsule(across(10, 84, -6), across(32, 72, -8), 8, 7.5),
            self._capsule(across(-19, 16, -12), 0.35 * joints[1] + 0.65 * joints[2] + [3, 0, -3], 13, 12.5),
            self._capsule(across(-12, 30, -9), 0.45 * joints[1] + 0.55 * joints[2] + [7, 3, 0], 12, 10),
            self._capsule(across(19, 16, -8), across(35, 62, -9), 13, 10.5),
        ]
        carpal, knuckle = self._carpals()[0], joints[_KNUCKLES[0]]
        web = ((0.45, 0.35, 10, 10), (0.75, 0.62, 7.5, 9), (1.0, 0.86, 5.5, 7))
        for along_thumb, along_index, start_radius, end_radius in web:
            start = joints[1] + along_thumb * (joints[2] - joints[1])
            end = carpal + along_index * (knuckle - carpal) + [0, 0, -4]
            pads.append(self._capsule(start, end, start_radius, end_radius))
        return pads

    def _arm(self) -> list[Capsule]:
        girth, width = self.shape.girth, self.shape.girth * (0.5 + 0.5 * self.shape.palm)
        wrist, elbow = np.array([0.0, -10.0, 0.0]), np.array([0.0, -FOREARM_MM, 0.0])
        return [
            Capsule(wrist, np.array([0.0, 16.0, -2.0]), 25.5 * width, 27.5 * width, _DORSAL, 0.74),
            Capsule(elbow, wrist, 33.0 * girth, 25.5 * width, _DORSAL, 0.78),
        ]

    def _webs(self) -> list[Capsule]:
        def point(finger: int, share: float) -> np.ndarray:
            knuckle = self.joints[_KNUCKLES[finger]]
            bone = self.joints[_KNUCKLES[finger] + 1] - knuckle
            position: np.ndarray = knuckle + share * bone - 2.5 * self.frames[finger + 1, 0, :, 1]
            return position

        shares = (0.30, 0.30, 0.37)
        return [self._capsule(point(i, 0.30), point(i + 1, share), 4.8, 4.8) for i, share in enumerate(shares)]

    def _knuckle_caps(self) -> list[Capsule]:
        caps = []
        for finger, knuckle in enumerate(_KNUCKLES, start=1):
            top = self.joints[knuckle] + 2.1 * self.frames[finger, 0, :, 1]
            caps.append(self._capsule(top, top + np.array([0, 1, 0]), 8.6, 8.2))
        return caps

    def _finger(self, finger: int) -> list[Capsule]:
        """Return the capsules of a finger: shafts, flesh pads on the palm side and thickened knuckles."""
        joints, radii = self.joints[1 + 4 * finger : 5 + 4 * finger], self.shape.radii_mm[finger]
        capsules = []
        for bone in range(3):
            along, dorsal = -self.frames[finger, bone, :, 2], self.frames[finger, bone, :, 1]
            start, last = joints[bone], bone == 2
            # The round end of the last capsule should end at the tip joint.
            end = joints[3] - along * (radii[3] - 0.8) if last else joints[bone + 1]
            narrow = radii[bone + 1] * (1.0 if last else 0.95)
            capsules.append(Capsule(start, end, radii[bone] * 0.97, narrow, dorsal, 0.94))
            near, far = (0.35, 0.70) if last else (0.25, 0.78)
            middle = 0.5 * (near + far)
            radius = radii[bone] * (1 - middle) + radii[bone + 1] * middle
            sink = -0.24 * radius * dorsal
            pad = (start + near * (end - start) + sink, start + far * (end - start) + sink)
            capsules.append(Capsule(*pad, 0.84 * radius, 0.84 * radius))
            if bone:
                bump = start + 0.13 * radii[bone] * dorsal
                capsules.append(Capsule(bump - 1.2 * along, bump + 1.2 * along, 0.86 * radii[bone], 0.85 * radii[bone]))
        return capsules
