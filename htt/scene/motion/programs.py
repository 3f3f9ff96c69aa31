"""Programs of the verbs as data: key frames over the phase of a motion, which runs from 0 to 1.

All programs are written for a leading right hand. ``htt.scene.motion.play`` plays them, mirrors them for left-handed
people, and plays them backwards for verbs that undo another verb. A track is a sequence of (phase, value) keys with
minimum-jerk movement between them.
"""

from __future__ import annotations

from dataclasses import dataclass

from htt.vocabulary import VERB_AND_NOUN

Track = tuple[tuple[float, float], ...]
VectorTrack = tuple[tuple[float, tuple[float, float, float]], ...]
NameTrack = tuple[tuple[float, str], ...]

ALWAYS: Track = ((0.0, 1.0), (1.0, 1.0))
NEVER: Track = ((0.0, 0.0), (1.0, 0.0))
_STAY = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Oscillation:
    """Repeated movement of the leading hand at its grip: cycles per clip (range), shift (m) and finger closure."""

    cycles: tuple[float, float]
    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    closure: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Role:
    """Task of one hand.

    Attributes:
        grip: Name of a style of ``htt.scene.motion.grasp``.
        on: Target: "thing", "part" (lid or item), "front" (in front of the body), "below" (under the thing's mouth) or
            "cup".
        reach: Track from 0 (at rest) to 1 (at the grip).
        close: Track from 0 (open) to 1 (closed on the target).
        twist: Largest angle (rad) to which the hand follows a turning part.
        elbow_m: Position of the elbow, or None for that of the grip's style.
    """

    grip: str = "rest"
    on: str = "thing"
    reach: Track = NEVER
    close: Track = ALWAYS
    twist: float = 1.1
    elbow_m: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Program:
    """Key frames of one verb.

    Attributes:
        lead: Role of the leading hand.
        support: Role of the other hand.
        position: Positions of the thing by name; ``htt.scene.motion.play.layout`` gives the coordinates.
        tilt: Rotation of the thing about x, y and z (rad, world axes, applied in that order).
        slide: Distance (m) of the part above its seat.
        turn: Angle (rad) of the part on its seat.
        carry: Displacement (m, world) of the part, added to its position above the seat.
        part: "lid", "item", or "" for no part.
        opened: Whether the thing is shown open.
        cup: Whether there is a cup to pour into.
        oscillation: Repeated movement of the leading hand, or None.
    """

    lead: Role
    support: Role = Role()
    position: NameTrack = ((0.0, "table"), (1.0, "table"))
    tilt: VectorTrack = ((0.0, _STAY), (1.0, _STAY))
    slide: Track = NEVER
    turn: Track = NEVER
    carry: VectorTrack = ((0.0, _STAY), (1.0, _STAY))
    part: str = ""
    opened: bool = False
    cup: bool = False
    oscillation: Oscillation | None = None


_REACH: Track = ((0.0, 0.0), (0.38, 1.0), (1.0, 1.0))
_GRASP: Track = ((0.0, 0.15), (0.30, 0.10), (0.52, 1.0), (1.0, 1.0))
_STEADY: Track = ((0.0, 0.0), (0.18, 1.0), (1.0, 1.0))
_STEADY_GRASP: Track = ((0.0, 0.2), (0.12, 0.1), (0.25, 1.0), (1.0, 1.0))
_RAISED_ELBOW_M = (0.42, -0.22, 0.14)
_SIDE_SUPPORT = Role("side", reach=_STEADY, close=_STEADY_GRASP)

GRAB = Program(Role("side", reach=_REACH, close=_GRASP), position=((0, "table"), (0.55, "table"), (1, "hold")))
GRAB_FLAT = Program(Role("edge", reach=_REACH, close=_GRASP), position=GRAB.position)
UNSCREW = Program(
    Role("top", "part", ((0, 0), (0.34, 1), (1, 1)), ((0, 0.1), (0.26, 0.1), (0.42, 1), (1, 1))),
    _SIDE_SUPPORT,
    position=((0, "work"), (1, "work")),
    turn=((0, 0), (0.42, 0), (0.74, 2.2), (1, 2.4)),
    slide=((0, 0), (0.72, 0.004), (0.9, 0.05), (1, 0.05)),
    carry=((0, _STAY), (0.84, _STAY), (1, (0.08, -0.03, -0.02))),
    part="lid",
)
PULL_OPEN = Program(
    UNSCREW.lead,
    _SIDE_SUPPORT,
    position=UNSCREW.position,
    tilt=((0, _STAY), (0.42, _STAY), (0.7, (0.12, 0.1, 0)), (1, _STAY)),
    slide=((0, 0), (0.45, 0), (0.68, 0.012), (0.85, 0.04), (1, 0.04)),
    carry=((0, _STAY), (0.78, _STAY), (1, (0.12, -0.04, -0.06))),
    part="lid",
    opened=True,
)
TAKE_OUT = Program(
    Role("top", "part", ((0, 0), (0.36, 1), (1, 1)), ((0, 0.1), (0.28, 0.1), (0.47, 1), (1, 1)), twist=0.0),
    _SIDE_SUPPORT,
    position=((0, "work"), (1, "work")),
    tilt=((0, (-0.15, 0, 0)), (1, (-0.25, 0, 0))),
    slide=((0, -0.02), (0.48, -0.02), (0.8, 0.06), (1, 0.06)),
    carry=((0, _STAY), (0.7, _STAY), (1, (0.12, -0.05, -0.05))),
    part="item",
    opened=True,
)
POUR = Program(
    Role("side", reach=ALWAYS, elbow_m=_RAISED_ELBOW_M),
    Role("side", "cup", reach=((0, 0), (0.3, 1), (1, 1)), close=_STEADY_GRASP),
    position=((0, "hold"), (0.32, "spout"), (0.72, "spout"), (1, "hold")),
    tilt=((0, _STAY), (0.35, (0, -1.45, 0)), (0.70, (0, -1.6, 0)), (1, _STAY)),
    cup=True,
)
APPLY_LOTION = Program(
    Role("rub over", "front", ((0, 0), (0.2, 1), (1, 1))),
    Role("rub under", "front", ((0, 0), (0.2, 1), (1, 1))),
    position=((0, "aside"), (1, "aside")),
    oscillation=Oscillation((3, 5), shift_m=(0.025, 0.035, 0.0)),
)
APPLY_SPRAY = Program(
    Role("rub over", "front", ((0, 0), (0.25, 1), (0.85, 1), (1, 0.6))),
    Role("receive", "front", ((0, 0), (0.15, 1), (1, 1))),
    position=((0, "aside"), (1, "aside")),
    oscillation=Oscillation((2, 4), shift_m=(0.0, 0.05, 0.0), closure=(0, 0.1, 0.1, 0.1, 0.1)),
)
READ_BOOK = Program(
    Role("under", reach=ALWAYS),
    Role("under", reach=ALWAYS),
    position=((0, "hold"), (0.5, "near"), (1, "hold")),
    tilt=((0, (0.45, 0, 0)), (0.5, (0.62, 0.05, 0)), (1, (0.5, 0, 0))),
    opened=True,
)
READ_BOX = Program(
    Role("side", reach=ALWAYS),
    position=((0, "hold"), (0.4, "near"), (1, "near")),
    tilt=((0, _STAY), (0.35, (-0.5, 0, 0.5)), (0.7, (-0.6, 0.1, -0.3)), (1, (-0.4, 0, 0.2))),
)
SPRAY = Program(
    Role("trigger", reach=ALWAYS),
    position=((0, "hold"), (0.4, "near"), (1, "hold")),
    tilt=((0, (-0.1, 0, 0)), (0.4, (-0.35, 0, 0.3)), (1, (-0.15, 0, 0))),
    oscillation=Oscillation((3, 6), shift_m=(0, 0.004, 0), closure=(0.0, 0.16, 0.0, 0.0, 0.0)),
)
SQUEEZE = Program(
    Role("side", reach=ALWAYS, elbow_m=_RAISED_ELBOW_M),
    Role("receive", "below", reach=((0, 0), (0.25, 1), (1, 1))),
    position=((0, "hold"), (0.3, "spout"), (1, "spout")),
    tilt=((0, _STAY), (0.35, (0, -2.0, 0)), (1, (0, -2.1, 0))),
    oscillation=Oscillation((2, 4), closure=(0.08, 0.08, 0.08, 0.08, 0.08)),
)

BACKWARDS = {"place": "grab", "close": "open", "put in": "take out"}
"""Verbs whose motion is that of another verb, played backwards."""

_BY_VERB = {
    "grab": GRAB,
    "open": UNSCREW,
    "take out": TAKE_OUT,
    "pour": POUR,
    "spray": SPRAY,
    "squeeze": SQUEEZE,
    "read": READ_BOX,
}
_BY_VERB_AND_NOUN = {
    ("grab", "book"): GRAB_FLAT,
    ("open", "chips"): PULL_OPEN,
    ("read", "book"): READ_BOOK,
    ("apply", "lotion"): APPLY_LOTION,
    ("apply", "spray"): APPLY_SPRAY,
}

MOTIONS = tuple(VERB_AND_NOUN.index((BACKWARDS.get(verb, verb), noun)) for verb, noun in VERB_AND_NOUN)
"""Index of the action whose motion each action uses: its own, or that of the action it undoes, played backwards."""


def program(verb: str, noun: str) -> tuple[Program, bool]:
    """Return the program of an action, and whether it is played backwards."""
    forward = BACKWARDS.get(verb, verb)
    chosen = _BY_VERB_AND_NOUN.get((forward, noun)) or _BY_VERB[forward]
    return chosen, forward != verb
