"""Playback of programs: paths of the thing, its part and both hands from key frames.

World frame: metres, x to the right, y away from the body, z up, the table at z = 0, the body at negative y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from htt.hand import FINGERS
from htt.scene.hand.posed import Hand
from htt.scene.motion.grasp import HAND_TYPES, STYLES, Grip, take
from htt.scene.motion.programs import Program, Role
from htt.scene.motion.timing import timing
from htt.scene.rotations import about, blend, minimum_jerk
from htt.scene.things.objects import Thing, knob

_MIRROR = np.diag([-1.0, 1.0, 1.0])
_OPEN_CLOSURE = 0.12
_APPROACH_M = 0.085
"""Distance between the grip and the point a hand aims at when it starts to approach; it falls to zero at the grip."""
_AT_REST, _AT_GRIP, _CLOSED = 0.1, 0.9, 0.5
"""Largest reach of a hand at rest, and smallest reach and closing of one that holds."""


@dataclass(frozen=True)
class Path:
    """A rigid movement: rotations [t 3 3] and positions [t 3] (m) in the world frame."""

    rotation: np.ndarray
    position_m: np.ndarray

    def of(self, points_m: np.ndarray) -> np.ndarray:
        """Return the world positions [t 3] of a point [3] of the moving frame."""
        positions: np.ndarray = self.position_m + self.rotation @ points_m
        return positions

    def mirrored(self) -> Path:
        """Return the movement mirrored in x."""
        return Path(_MIRROR @ self.rotation @ _MIRROR, self.position_m @ _MIRROR)

    def reversed(self) -> Path:
        """Return the movement with its frames in reverse order."""
        return Path(self.rotation[::-1], self.position_m[::-1])


@dataclass(frozen=True)
class HandPath:
    """Movement of one hand.

    Attributes:
        palm: Path of the palm point.
        angles: [t 5 4] finger angles, rad.
        elbow_m: [3] elbow position, m.
        type: [t] index into HAND_TYPES.
    """

    palm: Path
    angles: np.ndarray
    elbow_m: np.ndarray
    type: np.ndarray

    def mirrored(self) -> HandPath:
        """Return the movement mirrored in x, for the other hand."""
        return HandPath(self.palm.mirrored(), self.angles, self.elbow_m @ _MIRROR, self.type)

    def reversed(self) -> HandPath:
        """Return the movement with its frames in reverse order."""
        return HandPath(self.palm.reversed(), self.angles[::-1], self.elbow_m, self.type[::-1])


@dataclass(frozen=True)
class Performance:
    """One playback of a program: paths of the thing, its part and both hands, and the position of the cup [3] (m)."""

    thing: Path
    part: Path
    left: HandPath
    right: HandPath
    cup_m: np.ndarray

    def mirrored(self) -> Performance:
        """Return the performance mirrored in x, as by a left-handed person."""
        return Performance(
            self.thing.mirrored(),
            self.part.mirrored(),
            self.right.mirrored(),
            self.left.mirrored(),
            self.cup_m @ _MIRROR,
        )

    def reversed(self) -> Performance:
        """Return the performance with exactly the same frames in reverse order."""
        return Performance(
            self.thing.reversed(), self.part.reversed(), self.left.reversed(), self.right.reversed(), self.cup_m
        )


def play(
    program: Program, backwards: bool, thing: Thing, hands: Sequence[Hand], frames: int, rng: np.random.Generator
) -> Performance:
    """Play a program for a right-handed person.

    Args:
        program: Program to play.
        backwards: Whether time runs from the program's end to its start.
        thing: Thing that is handled.
        hands: Left and right hand.
        frames: Number of frames of the clip.
        rng: Generator for positions, timing and small variations.
    """
    moment = timing(frames, rng)
    positions = layout(rng)
    object_path, part_path = _thing_paths(program, thing, moment, positions, rng)
    targets = {
        "thing": (object_path, thing),
        "part": (_held_part(program, object_path, part_path, moment), _feel_of_part(program, thing)),
        "front": (_still(positions["front"], frames), thing),
        "below": (_still(_below_mouth(thing, positions), frames), thing),
        "cup": (_still(positions["cup"], frames), knob(0.04, 0.085)),
    }
    paths = []
    for role, hand in ((program.support, hands[0]), (program.lead, hands[1])):
        path, felt = targets[role.on]
        paths.append(_hand_path(role, hand, path, felt, moment, rng))
    support, lead = paths
    if program.oscillation is not None:
        lead = _oscillating(lead, program, moment, frames, rng)
    performance = Performance(object_path, part_path, support, lead, positions["cup"])
    return performance.reversed() if backwards else performance


def layout(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return coordinates [3] (m) of the positions to which programs refer by name."""
    hold = np.array([rng.uniform(-0.06, 0.05), rng.uniform(-0.04, 0.07), rng.uniform(0.05, 0.11)])
    spout = hold + np.array([0.04, 0.02, 0.09])
    raised = rng.choice([0.0, rng.uniform(0.02, 0.06)])
    return {
        "table": np.array([rng.uniform(-0.08, 0.10), rng.uniform(-0.02, 0.14), 0.0]),
        "hold": hold,
        "work": np.array([hold[0], hold[1] + 0.02, raised]),
        "spout": spout,
        "near": hold + np.array([rng.uniform(-0.03, 0.03), -0.03, 0.03]),
        "aside": np.array([rng.choice([-1, 1]) * rng.uniform(0.13, 0.19), rng.uniform(0.10, 0.20), 0.0]),
        "front": np.array([rng.uniform(-0.04, 0.04), rng.uniform(-0.03, 0.05), rng.uniform(0.09, 0.13)]),
        "cup": np.array([spout[0] - 0.17, spout[1], 0.0]),
    }


def track(keys: Sequence[tuple[float, object]], moment: np.ndarray) -> np.ndarray:
    """Return the values [t ...] of a track at phases [t], with minimum-jerk movement between its keys."""
    times = np.array([key[0] for key in keys], float)
    values = np.array([key[1] for key in keys], float)
    before = np.clip(np.searchsorted(times, moment, side="right") - 1, 0, len(times) - 2)
    share = minimum_jerk((moment - times[before]) / np.maximum(times[before + 1] - times[before], 1e-9))
    share = share.reshape(-1, *(1,) * (values.ndim - 1))
    movement: np.ndarray = values[before] + (values[before + 1] - values[before]) * share
    return movement


def wander(frames: int, scale: float, rng: np.random.Generator, cycles: float = 3.0) -> np.ndarray:
    """Return a smooth drift [t 3] around zero, of about the given scale."""
    time = (np.arange(frames) + 0.5) / frames
    frequency = rng.uniform(0.3, cycles, (4, 3))
    offset = rng.uniform(0, 2 * np.pi, (4, 3))
    drift: np.ndarray = scale * np.sin(2 * np.pi * time[:, None, None] * frequency + offset).mean(axis=1)
    return drift


def _still(position_m: np.ndarray, frames: int) -> Path:
    return Path(np.tile(np.eye(3), (frames, 1, 1)), np.tile(position_m, (frames, 1)))


def _below_mouth(thing: Thing, positions: dict[str, np.ndarray]) -> np.ndarray:
    """Return the position [3] (m) of a palm that receives the contents of a thing tilted at the spout."""
    return positions["spout"] + [-0.9 * thing.height_m, 0.0, -0.11]


def _feel_of_part(program: Program, thing: Thing) -> Thing:
    """Return the cylinder on which the fingers close at the top of the thing."""
    wide = program.part == "lid" and thing.noun == "chips"
    return knob(0.036, 0.02) if wide else knob(0.018, 0.03)


def _thing_paths(
    program: Program, thing: Thing, moment: np.ndarray, positions: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[Path, Path]:
    """Return the paths of the thing and of its part."""
    frames = len(moment)
    tilt = track(program.tilt, moment)
    strength = rng.uniform(0.9, 1.1)
    lean = about("z", strength * tilt[:, 2]) @ about("y", strength * tilt[:, 1]) @ about("x", strength * tilt[:, 0])
    symmetric = any(role.grip in ("under", "receive") for role in (program.lead, program.support))
    rotation = lean @ about("z", rng.uniform(-0.12, 0.12) if symmetric else rng.uniform(-0.5, 0.5))
    position = track([(time, positions[name]) for time, name in program.position], moment)
    lifted = np.clip(position[:, 2:] / 0.03, 0.0, 1.0)
    path = Path(rotation, position + lifted * wander(frames, 0.008, rng))
    turn, slide = track(program.turn, moment), track(program.slide, moment)
    top = np.zeros((frames, 3))
    top[:, 2] = thing.height_m + slide
    seat = path.position_m + (rotation @ top[..., None])[..., 0]
    part = Path(rotation @ about("z", turn), seat + track(program.carry, moment))
    return path, part


def _held_part(program: Program, thing: Path, part: Path, moment: np.ndarray) -> Path:
    """Return the part's path as the hand follows it: the wrist starts from an opposite turn and has a limited range."""
    reach = program.lead.twist
    turned = np.minimum(track(program.turn, moment), reach) - 0.6 * reach
    return replace(part, rotation=thing.rotation @ about("z", turned))


def _hand_path(
    role: Role, hand: Hand, target: Path, felt: Thing, moment: np.ndarray, rng: np.random.Generator
) -> HandPath:
    """Return the path of one hand between its rest and its grip on the target."""
    frames = len(moment)
    mirror = np.array([-1.0 if hand.side == "left" else 1.0, 1.0, 1.0])
    grip = take(hand, felt, role.grip, rng.uniform(-0.3, 0.3) if felt.round else rng.uniform(-0.12, 0.12))
    rest, rest_m = _rest(hand, role, rng, mirror)
    reach = track(role.reach, moment)
    rotation = target.rotation @ grip.rotation
    normal = rotation @ np.array([0.0, 0.0, -1.0])
    away = (1.0 - reach)[:, None] * (reach[:, None] > 0)
    aim = target.of(grip.palm_m) + away * (-_APPROACH_M * normal + [0.0, -0.03, 0.012])
    position = rest_m + (aim - rest_m) * reach[:, None] + wander(frames, 0.003, rng)
    turned = blend(np.broadcast_to(rest.rotation, rotation.shape), rotation, reach)
    close = track(role.close, moment)[:, None] * (reach[:, None] > 0)
    relaxed = _OPEN_CLOSURE * reach[:, None] + rest.closure * (1.0 - reach[:, None])
    closure = np.clip(grip.closure * close + relaxed * (1.0 - close), 0.0, 1.0)
    angles = grip.angles(closure) + 0.02 * rng.standard_normal((1, len(FINGERS), 4))
    elbow = (np.array(role.elbow_m or STYLES[role.grip].elbow_m) + rng.uniform(-0.03, 0.03, 3)) * mirror
    return HandPath(Path(turned, position), angles, elbow, _type(role, reach, close[:, 0]))


def _type(role: Role, reach: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Return the type [t] of a hand from its tracks [t], as an index into HAND_TYPES."""
    holds, rest, reaching = (HAND_TYPES.index(name) for name in (role.grip, "rest", "reach"))
    held = (reach >= _AT_GRIP) & (close >= _CLOSED)
    return np.where(reach <= _AT_REST, rest, np.where(held, holds, reaching))


def _rest(hand: Hand, role: Role, rng: np.random.Generator, mirror: np.ndarray) -> tuple[Grip, np.ndarray]:
    """Return pose and position [3] (m) of a hand at rest; an idle hand is sometimes out of view."""
    style = STYLES["rest"]
    rotation = hand.orientation(np.array(style.palm) * mirror, np.array(style.fingers) * mirror)
    rest = Grip(rotation, np.zeros(3), rng.uniform(0.1, 0.35, len(FINGERS)), style.opposition)
    position = np.array([0.20 + rng.uniform(-0.05, 0.05), -0.16 + rng.uniform(-0.04, 0.06), 0.05])
    hidden = rng.random() < 0.3
    if hidden and max(value for _, value in role.reach) == 0.0:
        position[:2] += [0.12, -0.32]
    return rest, position * mirror


def _oscillating(
    lead: HandPath, program: Program, moment: np.ndarray, frames: int, rng: np.random.Generator
) -> HandPath:
    """Return the leading hand's path with the program's oscillation added while the hand is at its grip."""
    repeat = program.oscillation
    assert repeat is not None
    cycle = 2 * np.pi * (rng.uniform(*repeat.cycles) * (np.arange(frames) + 0.5) / frames + rng.random())
    at_work = track(program.lead.reach, moment)[:, None]
    # A quarter of a cycle between x and y turns a rub along both axes into a circle.
    wave = np.stack([np.cos(cycle), np.sin(cycle), np.sin(cycle)], axis=1)
    position = lead.palm.position_m + at_work * wave * repeat.shift_m
    angles = lead.angles.copy()
    angles[..., 1:] += (at_work * np.sin(cycle)[:, None] * repeat.closure)[..., None] * [1.35, 1.60, 0.95]
    return replace(lead, palm=replace(lead.palm, position_m=position), angles=angles)
