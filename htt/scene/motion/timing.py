"""Timing of a motion: its phase in each frame, with aborted attempts, pauses and cropped starts and ends.

The phase of a motion runs from 0 to 1 and goes back during an aborted attempt. In a part of such a clip, an aborted
"grab" cannot be distinguished from "place"; only the whole clip shows the result, which is what its label describes.
Real recordings have the same properties: H2O's clips start and end within a movement, and hands pause and correct
themselves.
"""

from __future__ import annotations

import numpy as np

from htt.scene.rotations import smooth_step

ABORTED = 0.3
"""Share of the clips with an aborted first attempt."""
PAUSED = 0.4
"""Share of the clips with a pause."""
_GIVEN_UP, _LEAST_RETREAT = (0.4, 0.95), 0.3
"""Range of phases at which an attempt may be aborted, and the smallest phase by which the motion goes back."""
_SLOWNESS = (0.7, 1.6)
"""Range of the time per length of a movement, relative to the other movements of the clip."""
_PAUSE = (0.15, 0.4)
"""Range of a pause's duration, relative to the summed lengths of the movements."""
_CROPPED = 0.25
"""Largest share of the first and of the last movement that lies outside the clip."""

Turns = list[float]


def timing(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return the phase [t] of each frame, 0..1; the last phase is at least half a motion after the first."""
    turns = _pause(_attempts(rng), rng)
    steps = np.abs(np.diff(turns))
    duration = np.where(steps > 0, steps * rng.uniform(*_SLOWNESS, len(steps)), rng.uniform(*_PAUSE) * steps.sum())
    knots = np.concatenate([[0.0], np.cumsum(duration)]) / duration.sum()
    start, end = knots[1] * rng.uniform(0.0, _CROPPED), 1.0 - (1.0 - knots[-2]) * rng.uniform(0.0, _CROPPED)
    moments = start + (end - start) * (np.arange(frames) + 0.5) / frames
    return _between(knots, np.array(turns), moments)


def _attempts(rng: np.random.Generator) -> Turns:
    """Return the phases at which the motion starts, reverses and ends."""
    if rng.random() >= ABORTED:
        return [0.0, 1.0]
    given_up = rng.uniform(*_GIVEN_UP)
    return [0.0, given_up, rng.uniform(0.0, given_up - _LEAST_RETREAT), 1.0]


def _pause(turns: Turns, rng: np.random.Generator) -> Turns:
    """Insert a pause within one of the movements in some clips: the same phase twice."""
    if rng.random() >= PAUSED:
        return turns
    before = int(rng.integers(len(turns) - 1))
    stop = turns[before] + rng.uniform(0.25, 0.75) * (turns[before + 1] - turns[before])
    return [*turns[: before + 1], stop, stop, *turns[before + 1 :]]


def _between(knots: np.ndarray, turns: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the phases at the given times: the mean of constant speed and of an ease that stops at each turn."""
    before = np.clip(np.searchsorted(knots, time, side="right") - 1, 0, len(knots) - 2)
    share = (time - knots[before]) / np.maximum(knots[before + 1] - knots[before], 1e-9)
    phases: np.ndarray = turns[before] + (turns[before + 1] - turns[before]) * 0.5 * (share + smooth_step(share))
    return phases
