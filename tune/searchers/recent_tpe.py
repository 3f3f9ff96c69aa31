"""TPE whose cost per trial is bounded: it uses the newest trials and the best of the older ones.

Optuna's TPE reads all trials for every sample. It separates at most 25 good trials from all others; among those, the
newest 25 have the largest weight and the oldest almost none. Here a study of up to ``2 * BLOCK`` trials is used whole.
In a larger study, the oldest blocks are replaced by the ``BEST`` best of all trials in them, until fewer than
``2 * BLOCK`` trials remain beside these. The good trials are unchanged, and the other trials are only newer ones.
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
"""Number of trials that are replaced by their best ones at a time."""
BEST = 25
"""Maximum number of trials that TPE treats as good."""


class Recent:
    """The reduced view of a study for TPE, shared by all samplers of the study."""

    def __init__(self) -> None:
        self.space = IntersectionSearchSpace(include_pruned=True)
        self._blocks = 0
        self._best: list[FrozenTrial] = []

    def of(self, study: optuna.Study) -> optuna.Study:
        """Return the study with the reduced list of trials."""
        known = study.get_trials(deepcopy=False)
        while self._blocks < len(known) // BLOCK - 1:
            block = known[self._blocks * BLOCK : (self._blocks + 1) * BLOCK]
            ended = [trial for trial in block if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            self._best, _ = _split_trials(study, [*self._best, *ended], BEST)
            self._blocks += 1
        if not self._blocks:
            return study
        kept = [*self._best, *known[self._blocks * BLOCK :]]

        def trials(states: Container[TrialState] | None = None, **_: bool) -> list[FrozenTrial]:
            return [trial for trial in kept if states is None or trial.state in states]

        seen = copy.copy(study)
        seen._get_trials = trials  # type: ignore[method-assign,assignment]
        return seen


class RecentTPE(TPESampler):
    """TPE sampler over the trials that ``Recent`` selects."""

    def __init__(self, recent: Recent, **settings: Any) -> None:
        super().__init__(**settings)
        self._recent = recent
        self._search_space = recent.space  # shared: otherwise each sampler would read all trials to find it

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample all parameters together."""
        return super().sample_relative(self._recent.of(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one parameter independently."""
        return super().sample_independent(self._recent.of(study), trial, param_name, param_distribution)
