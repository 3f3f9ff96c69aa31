"""How much of a finite space a study has tried, and what is left of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tune.searchers.distributions import Code

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


class Fresh(BaseSampler):
    """Another sampler, with a configuration that is left in place of one that was tried or is under way.

    A training is deterministic: a second one of the same configuration would tell nothing.
    """

    def __init__(
        self,
        inner: BaseSampler,
        coverage: Coverage,
        distributions: Mapping[str, BaseDistribution],
        tried: set[tuple[Any, ...]],
        seed: int,
    ) -> None:
        """Draw one trial.

        Args:
            inner: the sampler.
            coverage: of a finite space.
            distributions: of the space.
            tried: what is not to be drawn again.
            seed: determines what is drawn instead.
        """
        self.inner, self.coverage, self.distributions = inner, coverage, dict(distributions)
        self.tried, self.seed = tried, seed

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """Called by Optuna: all parameters are drawn together."""
        return self.distributions

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, _: Any) -> dict[str, Any]:
        """Called by Optuna."""
        joint = self.inner.infer_relative_search_space(study, trial)
        drawn = self.inner.sample_relative(study, trial, joint)
        for name, distribution in self.distributions.items():
            if name not in drawn:
                drawn[name] = self.inner.sample_independent(study, trial, name, distribution)
        if self.coverage.key(drawn) in self.tried:
            return self.coverage.untried(self.tried, self.seed) or drawn
        return drawn

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Called by Optuna."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Called by Optuna."""
        self.inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Called by Optuna."""
        self.inner.after_trial(study, trial, state, values)
