"""When a motion is where: people hesitate, stop, give up half way and begin again, and a clip rarely shows all of it.

A motion's phase runs from 0 to 1. An aborted attempt takes it back on its way: who only sees a part of such a clip
cannot tell a hand that gives up from one that undoes, "grab" from "place". What happened in the end is what the whole
clip tells, and what its label says. Real recordings have all of this: H2O's clips begin and end within a movement, and
hands pause and correct themselves.
"""

from __future__ import annotations

import numpy as np

from htt.scene.rotations import smooth_step

ABORTED = 0.3
"""Share of the clips in which a first attempt is given up."""
PAUSED = 0.4
"""Share of the clips in which everything stops for a while."""
_GIVEN_UP, _LEAST_RETREAT = (0.4, 0.95), 0.3
"""The phase at which an attempt may be given up, and how far back the hand goes at least."""
_SLOWNESS = (0.7, 1.6)
"""Time a movement takes for its length, against the others of the clip."""
_PAUSE = (0.15, 0.4)
"""Length of a pause, as a share of the movements together."""
_CROPPED = 0.25
"""The largest share of the first and of the last movement that lies outside the clip."""

Turns = list[float]


def timing(frames: int, rng: np.random.Generator) -> np.ndarray:
    """The phase [t] of each frame, 0..1; it ends later than it began, by half a motion at least."""
    turns = _pause(_attempts(rng), rng)
    steps = np.abs(np.diff(turns))
    duration = np.where(steps > 0, steps * rng.uniform(*_SLOWNESS, len(steps)), rng.uniform(*_PAUSE) * steps.sum())
    knots = np.concatenate([[0.0], np.cumsum(duration)]) / duration.sum()
    start, end = knots[1] * rng.uniform(0.0, _CROPPED), 1.0 - (1.0 - knots[-2]) * rng.uniform(0.0, _CROPPED)
    moments = start + (end - start) * (np.arange(frames) + 0.5) / frames
    return _between(knots, np.array(turns), moments)


def _attempts(rng: np.random.Generator) -> Turns:
    """The phases at which the motion begins, turns and ends."""
    if rng.random() >= ABORTED:
        return [0.0, 1.0]
    given_up = rng.uniform(*_GIVEN_UP)
    return [0.0, given_up, rng.uniform(0.0, given_up - _LEAST_RETREAT), 1.0]


def _pause(turns: Turns, rng: np.random.Generator) -> Turns:
    """Sometimes stop within one of the movements: the same phase twice."""
    if rng.random() >= PAUSED:
        return turns
    before = int(rng.integers(len(turns) - 1))
    stop = turns[before] + rng.uniform(0.25, 0.75) * (turns[before + 1] - turns[before])
    return [*turns[: before + 1], stop, stop, *turns[before + 1 :]]


def _between(knots: np.ndarray, turns: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The phases at some times: half way between even speed and coming to rest at each turn."""
    before = np.clip(np.searchsorted(knots, time, side="right") - 1, 0, len(knots) - 2)
    share = (time - knots[before]) / np.maximum(knots[before + 1] - knots[before], 1e-9)
    phases: np.ndarray = turns[before] + (turns[before + 1] - turns[before]) * 0.5 * (share + smooth_step(share))
    return phases
