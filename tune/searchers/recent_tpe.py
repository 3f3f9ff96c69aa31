"""TPE at a cost that does not grow with the study: it looks at the newest trials, and at the best of the older ones.

Optuna's TPE looks at every trial whenever it draws one. It tells good trials, 25 at the most, from all others, among
which the newest 25 weigh most and the oldest next to nothing. Here a study of up to ``2 * BLOCK`` trials is seen whole.
Of a larger one, whole blocks are replaced by the best ``BEST`` of all they hold, until fewer than ``2 * BLOCK`` trials
are left beside them: the good ones stay the same, and among the others are only newer ones.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

BLOCK = 500
"""Trials that are replaced by their best ones at a time."""
BEST = 25
"""Trials that TPE calls good, at the most."""


class Recent:
    """What TPE has seen of a study; samplers of one study share it."""

    def __init__(self) -> None:
        self.space = IntersectionSearchSpace(include_pruned=True)
        self._blocks = 0
        self._best: list[FrozenTrial] = []

    def of(self, study: optuna.Study) -> optuna.Study:
        """Return the study as TPE is to see it."""
        known = study._get_trials(deepcopy=False, use_cache=True)
        while self._blocks < len(known) // BLOCK - 1:
            block = known[self._blocks * BLOCK : (self._blocks + 1) * BLOCK]
            ended = [trial for trial in block if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            self._best, _ = _split_trials(study, [*self._best, *ended], BEST)
            self._blocks += 1
        if not self._blocks:
            return study
        kept = [*self._best, *known[self._blocks * BLOCK :]]

        def trials(
            deepcopy: bool = False,  # noqa: ARG001 - as Optuna calls it
            states: Container[TrialState] | None = None,
            use_cache: bool = False,  # noqa: ARG001
        ) -> list[FrozenTrial]:
            return [trial for trial in kept if states is None or trial.state in states]

        seen = copy.copy(study)
        seen._get_trials = trials  # type: ignore[method-assign]
        return seen


class RecentTPE(TPESampler):
    """TPE over what ``Recent`` shows of a study."""

    def __init__(self, recent: Recent, **settings: Any) -> None:
        super().__init__(**settings)
        self._recent = recent
        self._search_space = recent.space  # or each sampler would look through all trials for it

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw all values together."""
        return super().sample_relative(self._recent.of(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value by itself."""
        return super().sample_independent(self._recent.of(study), trial, param_name, param_distribution)
