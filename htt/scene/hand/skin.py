"""Skinning weights and colours of the hand's vertices.

Segments: 0 the palm, 1 + 3 f + k bone k of finger f, 16 the forearm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from htt.hand import FINGERS
from htt.scene.hand.surface import Capsule, HandSurface
from htt.scene.rotations import smooth_step, unit

PALM, FOREARM, SEGMENTS = 0, 16, 17
_BONES_PER_VERTEX = 4
_CARPUS_MM = np.array([0.0, 25.0, 0.0])


@dataclass(frozen=True)
class MeshEdges:
    """Edges of a mesh, in both directions: vertex ``source[e]`` has the neighbour ``target[e]``."""

    source: np.ndarray
    target: np.ndarray
    degree: np.ndarray

    @classmethod
    def of(cls, faces: np.ndarray, vertices: int) -> MeshEdges:
        """Collect the edges of ``faces`` [f 3]."""
        edges = np.concatenate([faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0], [1, 0], [2, 1], [0, 2])])
        keys = np.unique(edges[:, 0] * vertices + edges[:, 1])
        source, target = keys // vertices, keys % vertices
        return cls(source, target, np.bincount(source, minlength=vertices))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the mean [v c] of ``values`` [v c] over the neighbours of each vertex."""
        count = len(self.degree)
        sums = [np.bincount(self.source, column[self.target], count) for column in values.T]
        means: np.ndarray = np.stack(sums, axis=1) / self.degree[:, None]
        return means


def weights(surface: HandSurface, vertices: np.ndarray, neighbours: MeshEdges) -> np.ndarray:
    """Return skinning weights [v 17]: at most four segments per vertex, rows sum to one."""
    groups = surface.group_distances(vertices)
    membership = np.exp(-(groups[:, 1:] - groups[:, 1:].min(axis=1, keepdims=True)) / 2.5)
    membership /= membership.sum(axis=1, keepdims=True)
    result = np.zeros((len(vertices), SEGMENTS))
    for finger in range(len(FINGERS)):
        passed = np.cumprod(_past_joints(surface, vertices, finger), axis=1)
        passed[:, :2] -= passed[:, 1:].copy()
        result[:, 1 + 3 * finger : 4 + 3 * finger] = membership[:, finger : finger + 1] * passed
    result[:, PALM] = 1.0 - result.sum(axis=1)
    forearm = smooth_step((-vertices[:, 1] - 4) / 40 + 0.5)
    result[:, FOREARM] = forearm * result[:, PALM]
    result[:, PALM] *= 1.0 - forearm
    for _ in range(2):
        result = 0.5 * result + 0.5 * neighbours.mean(result)
    fourth_largest = np.sort(result, axis=1)[:, -_BONES_PER_VERTEX, None]
    result[result < fourth_largest] = 0.0
    normalised: np.ndarray = result / result.sum(axis=1, keepdims=True)
    return normalised


def _past_joints(surface: HandSurface, vertices: np.ndarray, finger: int) -> np.ndarray:
    """Return how far [v 3] each vertex lies past the finger's three flexion joints, 0..1 in a soft step."""
    past = np.zeros((len(vertices), 3))
    frames, joints = surface.frames[finger], surface.joints[1 + 4 * finger :]
    radii = surface.shape.radii_mm[finger]
    for bone in range(3):
        along = -frames[bone, :, 2]
        before = -frames[bone - 1, :, 2] if bone else (unit(joints[0] - _CARPUS_MM) if finger else along)
        offset = vertices - joints[bone]
        dorsal = np.clip(offset @ frames[bone, :, 1] / radii[bone], -1.0, 1.0)
        # The dorsal side of a joint follows the outer bone later than the palm side, which folds.
        shift: ArrayLike
        if bone:
            shift, width = np.where(dorsal > 0, 2.0 * dorsal, 0.0), 0.62 * radii[bone]
        elif finger:
            shift, width = np.where(dorsal > 0, 3.5 * dorsal, -5.0 * dorsal), 9.0
        else:
            shift, width = 3.0, 13.0
        past[:, bone] = smooth_step((offset @ unit(before + along) - shift) / (2 * width) + 0.5)
    if finger == 0:
        past[:, 0] *= _nearer_thumb(surface, vertices)
    return past


def _nearer_thumb(surface: HandSurface, vertices: np.ndarray) -> np.ndarray:
    """Return 1 at the thumb's metacarpal, 0 at the index and middle metacarpals, and a soft step between them."""
    joints = surface.joints

    def bone(start: ArrayLike, end: ArrayLike) -> np.ndarray:
        return Capsule(np.asarray(start, float), np.asarray(end, float), 0.0, 0.0).distance(vertices)

    palm = np.minimum(bone([-11.0 * surface.shape.palm, 20, 0], joints[5]), bone([0, 20, 0], joints[9]))
    return smooth_step((palm - bone(joints[1], joints[2])) / 26 + 0.5)


def tints(surface: HandSurface, vertices: np.ndarray, normals: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks [v] in 0..1: fingertip, knuckle, nail, crease, palmar side, and openness to ambient light."""
    fingertip, knuckle, nail, crease = np.zeros((4, len(vertices)))

    def ball(centre: np.ndarray, radius: float) -> np.ndarray:
        closeness: np.ndarray = np.exp(-np.sum((vertices - centre) ** 2, axis=1) / radius**2)
        return closeness

    for finger in range(len(FINGERS)):
        frames, radii = surface.frames[finger], surface.shape.radii_mm[finger]
        joints = surface.joints[1 + 4 * finger : 5 + 4 * finger]
        fingertip += ball(joints[3], 1.5 * radii[3])
        position = joints[3] + frames[2, :, 2] * 0.30 * surface.shape.lengths_mm[finger, 2]
        offset = (vertices - position) @ frames[2]
        oval = np.hypot(offset[:, 0] / radii[3] / 0.85, offset[:, 2] / radii[3] / 0.95)
        upward = smooth_step((normals @ frames[2, :, 1] - 0.35) / 0.3)
        nail = np.maximum(nail, smooth_step(1.9 - 1.5 * oval) * upward)
        for bone in range(0 if finger else 1, 3):
            dorsal = frames[bone, :, 1]
            spread, strength = ((0.8, 0.7), (0.75, 1.0), (0.6, 1.0))[bone]
            knuckle += strength * ball(joints[bone] + dorsal * radii[bone], spread * radii[bone])
            if bone:
                crease += ball(joints[bone] - 1.05 * dorsal * radii[bone], 0.55 * radii[bone])
    probe = [surface.distance(vertices + reach * normals) / reach for reach in (5.0, 11.0)]
    forearm = smooth_step((-vertices[:, 1] - 4) / 40 + 0.5)
    return {
        "fingertip": np.clip(fingertip, 0, 1),
        "knuckle": np.clip(knuckle, 0, 1),
        "nail": nail,
        "crease": np.clip(crease, 0, 1),
        "palmar": smooth_step(0.5 - 0.9 * normals[:, 2]) * (1.0 - forearm),
        "openness": np.clip(0.5 + 0.5 * np.minimum(*probe), 0, 1),
    }


def colours(tints: dict[str, np.ndarray], tone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return skin colours [v 3] in 0..1 for a ``tone`` [3]: pale palms, reddish knuckles, light nails, dark creases."""
    count, darkness = len(tints["nail"]), 1.0 - float(np.mean(tone))
    result = np.tile(np.asarray(tone, float), (count, 1))

    def towards(colour: np.ndarray, mask: np.ndarray) -> None:
        result[:] = result * (1.0 - mask[:, None]) + mask[:, None] * np.clip(colour, 0, 1)

    towards(tone * 0.55 + [0.44, 0.32, 0.26], tints["palmar"] * (0.25 + 0.55 * darkness))
    result *= 1.0 + 0.02 * rng.standard_normal((count, 1)) + 0.008 * rng.standard_normal((count, 3))
    result *= 1.0 - tints["knuckle"][:, None] * [0.04, 0.10, 0.11]
    result *= 1.0 - tints["crease"][:, None] * [0.10, 0.18, 0.18]
    result *= 1.0 - tints["fingertip"][:, None] * [-0.02, 0.10, 0.09]
    towards(tone * 0.45 + [0.56, 0.46, 0.44], 0.85 * tints["nail"])
    return np.clip(result * (0.55 + 0.45 * tints["openness"][:, None]), 0, 1)
