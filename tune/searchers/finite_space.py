"""Coverage of a finite space: the configurations that were tried, and those that are left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tune.searchers.distributions import Code

LISTED = 20_000
"""Number of configurations up to which all are listed to find an untried one; a larger space is sampled."""
DRAWS = 200


class Coverage:
    """The configurations of a space, countable if the space is finite."""

    def __init__(self, codes: Mapping[str, Code], interrupted: str) -> None:
        """Count the configurations of a space; trials with the user attribute ``interrupted`` do not count as tried."""
        self.paths, self.interrupted = list(codes), interrupted
        values = [code.values for code in codes.values()]
        self.values = [each for each in values if each is not None] if None not in values else None
        self._keys: dict[int, tuple[Any, ...]] = {}
        self.size = math.prod(map(len, self.values)) if self.values is not None else None

    def tried(self, trials: Iterable[FrozenTrial]) -> set[tuple[Any, ...]]:
        """Return the keys of all trials that must not be asked for again, whatever their result."""
        return {
            self._key_of(trial)
            for trial in trials
            if trial.state != TrialState.WAITING and not trial.user_attrs.get(self.interrupted)
        }

    def _key_of(self, trial: FrozenTrial) -> tuple[Any, ...]:
        """Return ``key`` of a trial; it is cached once the trial has ended."""
        key = self._keys.get(trial.number) or self.key(trial.params)
        if trial.state.is_finished():
            self._keys[trial.number] = key
        return key

    def key(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values of a trial's parameters, in the order of the space."""
        return tuple(params.get(path) for path in self.paths)

    def untried(self, tried: set[tuple[Any, ...]], seed: int) -> dict[str, Any] | None:
        """Return a random untried configuration, or None if none is left or, in a large space, none was found."""
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


@dataclass(frozen=True)
class UntriedSampler(BaseSampler):
    """Wrapper of a sampler that replaces a configuration already tried or running by an untried one.

    Training is deterministic, so a repeated configuration would give no new information.
    """

    inner: BaseSampler
    coverage: Coverage
    distributions: Mapping[str, BaseDistribution]
    tried: set[tuple[Any, ...]]
    """Keys of the configurations that must not be sampled again."""
    seed: int
    """Seed of the replacement."""

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """Return all distributions, so that Optuna samples all parameters together."""
        return dict(self.distributions)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, _: Any) -> dict[str, Any]:
        """Sample all parameters of a trial, and replace them if they were tried before."""
        joint = self.inner.infer_relative_search_space(study, trial)
        drawn = self.inner.sample_relative(study, trial, joint)
        for name, distribution in self.distributions.items():
            if name not in drawn:
                drawn[name] = self.inner.sample_independent(study, trial, name, distribution)
        if self.coverage.key(drawn) in self.tried:
            return self.coverage.untried(self.tried, self.seed) or drawn
        return drawn

    def sample_independent(self, *arguments: Any, **named: Any) -> Any:
        """Sample one parameter with the inner sampler."""
        return self.inner.sample_independent(*arguments, **named)
