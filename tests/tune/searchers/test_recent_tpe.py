"""What TPE sees of a large study: the best of all, and the newest."""

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from tune.searchers.optuna_study import CANDIDATES, STARTUP_TRIALS, sampler
from tune.searchers.recent_tpe import BEST, BLOCK, Recent

X = {"x": FloatDistribution(0.0, 1.0)}


def study(values, direction="minimize"):
    made = optuna.create_study(direction=direction)
    for place, value in enumerate(values):
        made.add_trial(create_trial(params={"x": place / len(values)}, distributions=X, value=float(value)))
    return made


def seen(recent, of):
    return recent.of(of)._get_trials(deepcopy=False, states=(TrialState.COMPLETE,), use_cache=True)


def test_recent_shows_a_small_study_whole():
    of = study(range(2 * BLOCK - 1))
    assert Recent().of(of) is of


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_recent_keeps_the_best_and_the_newest(direction):
    values = np.random.default_rng(0).permutation(4 * BLOCK + 7)
    of = study(values, direction)
    found = [trial.number for trial in seen(Recent(), of)]
    old = range(3 * BLOCK)
    sign = 1 if direction == "minimize" else -1
    best = sorted(sorted(old, key=lambda number: sign * values[number])[:BEST])
    assert found == [*best, *range(3 * BLOCK, len(values))]


def test_recent_is_equal_for_grown_and_restored_studies():
    values = np.random.default_rng(1).permutation(3 * BLOCK)
    grown, of = Recent(), study(values[: 2 * BLOCK])
    seen(grown, of)
    for value in values[2 * BLOCK :]:
        of.add_trial(create_trial(params={"x": 0.5}, distributions=X, value=float(value)))
    assert seen(grown, of) == seen(Recent(), of)


def test_sampler_equals_optunas_tpe_on_a_whole_study():
    values = np.random.default_rng(2).normal(size=60)
    drawn = []
    settings = {"n_startup_trials": STARTUP_TRIALS, "n_ei_candidates": CANDIDATES}
    usual = optuna.samplers.TPESampler(seed=3, multivariate=True, constant_liar=True, **settings)
    for one in (sampler("tpe", 3), usual):
        of = study(values)
        of.sampler = one
        drawn.append(of.ask(X).params)
    assert drawn[0] == drawn[1]


def test_sampler_reads_a_bounded_number_of_trials(monkeypatch):
    asked, recent = [], Recent()
    original = optuna.samplers.TPESampler._get_internal_repr
    monkeypatch.setattr(
        optuna.samplers.TPESampler, "_get_internal_repr",
        lambda self, trials, *rest: asked.append(len(trials)) or original(self, trials, *rest),
    )  # fmt: skip
    of = study(np.random.default_rng(3).normal(size=6 * BLOCK))
    of.sampler = sampler("tpe", 0, recent)
    of.ask(X)
    assert BLOCK < sum(asked) < 2 * BLOCK + BEST
