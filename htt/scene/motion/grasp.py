"""Grips of hands on things; the fingers close automatically until they touch the surface.

A style gives, for a right hand and in the thing's frame, the directions of the palm and the fingers; a left hand uses
the mirror image. The palm then moves back until it is free, and each finger bends until its flesh touches the surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from htt.hand import FINGERS
from htt.scene.hand.posed import Hand, finger_angles
from htt.scene.rotations import about, unit
from htt.scene.things.objects import Thing

_CLOSURES = np.linspace(0.0, 1.0, 33)
_LOOSE = 0.62
"""Closure of a finger that touches nothing."""
_ALONG_BONE = (0.3, 0.65, 1.0)
_SPREAD = 0.6


@dataclass(frozen=True)
class Style:
    """A way to hold a thing.

    Attributes:
        palm: Direction that the palm faces.
        fingers: Direction of the fingers.
        position: Palm point, as shares of half the thing's width, half its depth and its full height.
        offset_m: Offset added to that point.
        opposition: Rotation of the thumb in front of the palm, as a share of its range.
        closure: Fixed closures of the five fingers, or None to close them on the thing.
        elbow_m: Position of the right elbow (world), for a thing directly in front of the body.
    """

    palm: tuple[float, float, float]
    fingers: tuple[float, float, float]
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    opposition: float = 0.5
    closure: tuple[float, float, float, float, float] | None = None
    elbow_m: tuple[float, float, float] = (0.29, -0.40, 0.0)


STYLES = {
    # Grip around a bottle or box from its right side.
    "side": Style((-1, 0.25, -0.05), (-0.25, 1, 0.12), (1, -0.25, 0.55), (0.012, 0, 0), 0.55),
    # As "side", but high enough for the index finger to reach a trigger.
    "trigger": Style((-1, 0.25, -0.05), (-0.25, 1, 0.2), (1, -0.25, 0.80), (0.012, 0, 0), 0.55),
    # Grip from above with the finger tips; the arm is to the right so that it does not hide the work.
    "top": Style(
        (-0.30, 0.25, -0.85), (-0.80, 0.55, -0.45), (0, 0, 1), (0.030, -0.030, 0.045), 0.8, elbow_m=(0.45, -0.22, 0.03)
    ),
    # Grip over the edge of a flat thing: finger tips on top, thumb at the near side.
    "edge": Style((-0.55, 0.20, -0.80), (-0.80, 0.60, -0.35), (1, -0.15, 1), (0.022, 0, 0.022), 0.45),
    # Grip under the edge of an open book, with the thumb on the page.
    "under": Style((-0.45, 0.25, 0.85), (-0.85, 0.60, 0.0), (1, -0.25, 0), (0.030, 0, -0.008), 0.25),
    "receive": Style((-0.35, 0.1, 1), (-0.5, 1, 0.1), opposition=0.3, closure=(0.2, 0.22, 0.25, 0.28, 0.3)),
    "rub over": Style(
        (-0.1, 0.15, -1), (-0.85, 0.7, 0.05), (0, 0, 0), (0.0, 0, 0.030), 0.2, (0.1, 0.15, 0.15, 0.17, 0.2)
    ),
    "rub under": Style((-0.1, 0.15, -1), (-0.6, 1, 0.05), (0, 0, 0), (0.0, 0, -0.012), 0.2, (0.1, 0.1, 0.1, 0.1, 0.1)),
    "rest": Style((-0.3, 0.2, -1), (-0.3, 1, 0.1), opposition=0.4, closure=(0.2, 0.22, 0.25, 0.28, 0.3)),
}

HAND_TYPES = ("rest", "reach", *(name for name in STYLES if name != "rest"))
"""Types of a hand in a frame: at rest, moving from or to a grip, or holding in a style."""


@dataclass(frozen=True)
class Grip:
    """Grip of a hand, in the thing's frame: rotation [3 3], palm point [3] (m), closures [5], thumb opposition."""

    rotation: np.ndarray
    palm_m: np.ndarray
    closure: np.ndarray
    opposition: float

    def angles(self, closure: np.ndarray) -> np.ndarray:
        """Return finger angles [t 5 4] for closures [t 5]."""
        return finger_angles(closure, _SPREAD, self.opposition)


def take(hand: Hand, thing: Thing, style_name: str, turn: float = 0.0) -> Grip:
    """Return the grip of ``hand`` on ``thing`` in a style, rotated by ``turn`` (rad) about the thing's axis."""
    style, mirror = STYLES[style_name], np.array([-1.0 if hand.side == "left" else 1.0, 1.0, 1.0])
    around = about("z", turn)
    normal = around @ (unit(style.palm) * mirror)
    rotation = hand.orientation(normal, around @ (np.array(style.fingers) * mirror))
    scale = np.array([thing.half_m[0], thing.half_m[1], thing.height_m])
    palm = around @ ((np.array(style.position) * scale + style.offset_m) * mirror)
    if style.closure is not None:
        return Grip(rotation, palm, np.array(style.closure), style.opposition)
    if thing.half_m[2] > 0.02 and style_name == "side":
        palm[2] = max(palm[2], 0.045)
    for _ in range(12):
        if thing.distance(palm) > 0.006:
            break
        palm = palm - 0.004 * normal
    return Grip(rotation, palm, _close_on(hand, thing, rotation, palm, style.opposition), style.opposition)


def _close_on(hand: Hand, thing: Thing, rotation: np.ndarray, palm_m: np.ndarray, opposition: float) -> np.ndarray:
    """Return the closures [5] just before the flesh of each finger enters the thing."""
    tried = len(_CLOSURES)
    angles = finger_angles(np.tile(_CLOSURES[:, None], (1, len(FINGERS))), _SPREAD, opposition)
    pose = hand.pose(np.tile(rotation, (tried, 1, 1)), np.tile(palm_m, (tried, 1)), angles)
    closure = np.full(len(FINGERS), _LOOSE)
    for finger in range(len(FINGERS)):
        gaps = []
        for bone in range(3):
            for share in _ALONG_BONE:
                joint, radius = hand.on_skin(finger, bone, share)
                start, end = pose.joints_m[:, joint], pose.joints_m[:, joint + 1]
                # The last joint lies on the skin, so the probe point stays inside the tip.
                point = start + (0.75 if bone == 2 and share == 1.0 else share) * (end - start)
                gaps.append(thing.distance(point) - 0.95 * radius)
        touching = np.flatnonzero(np.min(gaps, axis=0) < -0.0005)
        if len(touching):
            closure[finger] = _CLOSURES[max(touching[0] - 1, 0)]
    return closure
