"""How much of a finite space a study has tried, and what is left of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from tune.codes import Code

LISTED = 20_000
"""Configurations of a space that are listed to find one that is left; in a larger one it is drawn."""
DRAWS = 200


class Coverage:
    """The configurations of a space, where they are finite."""

    def __init__(self, codes: Mapping[str, Code], interrupted: str) -> None:
        """Count them.

        Args:
            codes: of the space.
            interrupted: the note of a trial that was cut short from outside; it does not count as tried.
        """
        self.paths, self.interrupted = list(codes), interrupted
        values = [code.values for code in codes.values()]
        self.values = [each for each in values if each is not None] if None not in values else None
        self._keys: dict[int, tuple[Any, ...]] = {}
        self.size = math.prod(map(len, self.values)) if self.values is not None else None

    def tried(self, trials: Iterable[FrozenTrial]) -> set[tuple[Any, ...]]:
        """What was asked for and is not to be asked for again, whatever came of it."""
        return {
            self._key_of(trial)
            for trial in trials
            if trial.state != TrialState.WAITING and not trial.user_attrs.get(self.interrupted)
        }

    def _key_of(self, trial: FrozenTrial) -> tuple[Any, ...]:
        """``key`` of a trial, kept once the trial ended."""
        found = self._keys.get(trial.number) or self.key(trial.params)
        if trial.state.is_finished():
            self._keys[trial.number] = found
        return found

    def key(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Of a trial's parameters."""
        return tuple(params.get(path) for path in self.paths)

    def untried(self, tried: set[tuple[Any, ...]], seed: int) -> dict[str, Any] | None:
        """One of those left, at random; none where none is left, or none is found in a large space."""
        if self.values is None or self.size is None:
            return None
        random = np.random.default_rng(seed)
        if self.size <= LISTED:
            left = [each for each in itertools.product(*self.values) if each not in tried]
            return dict(zip(self.paths, left[int(random.integers(len(left)))], strict=True)) if left else None
        for _ in range(DRAWS):
            drawn = tuple(values[int(random.integers(len(values)))] for values in self.values)
            if drawn not in tried:
                return dict(zip(self.paths, drawn, strict=True))
        return None
