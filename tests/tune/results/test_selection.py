import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htt.errors import ConfigError
from report_folders import record, trial
from tune.experiments import constraints
from tune.results import selection


def numbers(trials):
    return [one.number for one in selection.pareto_front(trials, selection.PAIR)]


def test_front_members_are_not_dominated():
    trials = [trial(1, 20, 0.5), trial(2, 25, 0.9), trial(3, 26, 0.9), trial(4, 22, 0.4), trial(5, 21, 0.6)]
    assert numbers(trials) == [1, 5, 2]


@pytest.mark.parametrize(("metrics", "order"), [(selection.PAIR, [1, 5, 2]), (selection.PAIR[::-1], [2, 5, 1])])
def test_front_starts_with_the_best_in_the_first_metric(metrics, order):
    trials = [trial(1, 20, 0.5), trial(2, 25, 0.9), trial(5, 21, 0.6)]
    assert [one.number for one in selection.pareto_front(trials, metrics)] == order


def test_front_keeps_equals_and_omits_failed_trials():
    trials = [trial(1, 20, 0.5), trial(2, 20, 0.5), trial(3, 1, 1.0, "failed"), trial(4, math.nan, 1.0)]
    assert numbers([*trials, trial(5, metrics={"hand_error_mm": 1.0})]) == [1, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_front_has_the_best_in_each_metric(points):
    trials = [trial(number, float(error), accuracy / 5) for number, (error, accuracy) in enumerate(points)]
    best = selection.pareto_front(trials, selection.PAIR)
    assert min(error for error, _ in points) == best[0].metrics["hand_error_mm"]
    assert max(accuracy for _, accuracy in points) / 5 == best[-1].metrics["action_accuracy"]


def test_objectives_default_to_hand_error_and_accuracy():
    asked = record(name="run")
    assert selection.objectives(asked, [trial(1)]) == ["hand_error_mm", "action_accuracy"]
    assert selection.objectives(asked, [trial(1, metrics={"loss": 1.0})]) == []


def test_infeasible_trials_are_not_on_the_front():
    trials = [trial(1, 20, 0.5), trial(2, 10, 0.9, violation="parameters 3.0 M > 2.0 M"), trial(3, 19, 0.4)]
    assert numbers(trials) == [3, 1]


THREE = [trial(1, 20, 0.5), trial(2, 21, 0.8), trial(3, 30, 0.9)]
"""From the best value, in units of the range: (0, 1), (0.1, 0.25), (1, 0)."""


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        ("knee", 2),
        ("first", 1),
        ("action_accuracy>=0.75", 2),
        ("action_accuracy>=0.85", 3),
        ("hand_error_mm<=19", None),
    ],
)
def test_select_follows_the_rule(rule, number):
    picked = selection.select(THREE, selection.PAIR, rule)
    assert (picked.number if picked else None) == number


def test_front_of_one_or_no_trial():
    assert selection.select(THREE[:1], selection.PAIR, "knee") == THREE[0]
    assert selection.select([], selection.PAIR, "knee") is None
    assert selection.select([], selection.PAIR, "first") is None


def test_knee_breaks_ties_by_trial_number():
    assert selection.select([trial(5, 20, 0.9), trial(4, 20, 0.9)], selection.PAIR, "knee").number == 4


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12), st.floats(0.1, 50))
def test_knee_ignores_units(points, unit):
    def picked(factor):
        trials = [trial(n, float(error * factor), accuracy / 50) for n, (error, accuracy) in enumerate(points)]
        return selection.select(selection.pareto_front(trials, selection.PAIR), selection.PAIR, "knee").number

    assert picked(1) == picked(2 ** round(math.log2(unit)))


def test_best_is_picked_by_objectives_or_metric():
    one = record(name="run")
    several = record(name="run", objectives=list(selection.PAIR))
    assert selection.best_trial(one, THREE).number == 1
    assert selection.best_trial(several, THREE).number == 2
    assert selection.best_trial(one, [trial(1, violation="parameters 3.0 M > 2.0 M")]) is None


@pytest.mark.parametrize("rule", ["knee", "first", "latency_ms<=30"])
def test_valid_rule_has_a_text(rule):
    constraints.check_rule(rule)
    assert rule.partition("<")[0] in selection.rule_text(rule, selection.PAIR)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("kneee", "--pick must be knee, first or a bound such as 'latency_ms<=30'; got 'kneee'. Did you mean 'knee'?"),
        ("latency<=3", "--pick must bound a metric; got 'latency'"),
    ],
)
def test_invalid_rule_is_refused(rule, message):
    with pytest.raises(ConfigError) as caught:
        constraints.check_rule(rule)
    assert message in str(caught.value)
