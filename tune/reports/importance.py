"""Importance of the searched paths, by Optuna's PED-ANOVA, from the trials of a run alone."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from htt.evaluation.metric_table import METRICS
from tune.experiments.power import LEVEL
from tune.reports.figures.axes import Axis
from tune.results.run_folder import Trial
from tune.results.selection import value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 10
"""Fewest trials that importance is computed for; with fewer the shares are mostly chance."""
RESAMPLES = 100
"""Number of resamples of the trials for the intervals."""
TOP_TRIALS = 5
"""Smallest number of trials that count as the best (advice of Optuna's documentation)."""
TOP_SHARE = 0.1


def importance(trials: Sequence[Trial], axes: Sequence[Axis], metric: str) -> dict[str, float] | None:
    """Return {path: share of 1}, most important first, or None for too few trials or if no path was varied.

    A path is important if its values in the best trials differ from those in the rest. Trials that were stopped early
    count with the value they reached, as in the ranking of trials.

    Source: Watanabe, Bansal and Hutter 2023, "PED-ANOVA".

    Args:
        trials: trials that have a value of the metric.
        axes: axes of the searched paths.
        metric: metric that tells which trials are best.
    """
    varied = [axis for axis in axes if _varies(axis.path, trials)]
    if len(trials) < FEWEST or not varied:
        return None
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    kinds = {axis.path: _distribution(axis) for axis in varied}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize" if METRICS[metric].higher_is_better else "minimize")
        frozen = [
            optuna.trial.FrozenTrial(
                number=number, trial_id=number, state=optuna.trial.TrialState.COMPLETE, value=value(trial, metric),
                params={path: _plain(trial.values[path]) for path in kinds}, distributions=kinds,
                datetime_start=None, datetime_complete=None, user_attrs={}, system_attrs={}, intermediate_values={},
            )
            for number, trial in enumerate(trials)
        ]  # fmt: skip
        # Adding the trials to the study would copy each of them: half of the time of ``intervals``.
        study.get_trials = lambda *_, **__: frozen  # type: ignore[method-assign]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the experimental class, and of resamples with too few distinct values
            best = PedAnovaImportanceEvaluator(target_quantile=max(TOP_SHARE, TOP_TRIALS / len(trials)))
            return dict(get_param_importances(study, evaluator=best))
    finally:
        optuna.logging.set_verbosity(level)


def intervals(
    trials: Sequence[Trial], axes: Sequence[Axis], metric: str, paths: Iterable[str]
) -> dict[str, tuple[float, float]]:
    """Return {path: ends of the 95 % interval of its share}, by resampling the trials.

    A path that a resample never varies has no share in it. Arguments as of ``importance``.
    """
    random = np.random.default_rng(0)
    drawn = [random.integers(0, len(trials), len(trials)) for _ in range(RESAMPLES)]
    found = [importance([trials[each] for each in some], axes, metric) or {} for some in drawn]
    edges = (LEVEL / 2, 1 - LEVEL / 2)
    shares = {path: np.quantile([each.get(path, 0.0) for each in found], edges) for path in paths}
    return {path: (float(low), float(high)) for path, (low, high) in shares.items()}


def _varies(path: str, trials: Sequence[Trial]) -> bool:
    known = all(path in trial.values for trial in trials)
    return known and len({json.dumps(trial.values[path]) for trial in trials}) > 1


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.choices is not None:
        return CategoricalDistribution([_plain(choice) for choice in axis.choices])
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.logarithmic)
    return FloatDistribution(axis.low, axis.high, log=axis.logarithmic)


def _plain(value: object) -> str | int | float | bool | None:
    """Return a list as JSON text and any other value unchanged: Optuna's choices are scalars."""
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)
