import math

from hypothesis import given
from hypothesis import strategies as st
from report_folders import PLAIN, trial

from tune import front
from tune.results import Asked


def numbers(trials):
    return [one.number for one in front.front(trials, front.PAIR)]


def test_nobody_on_the_front_is_beaten_in_both():
    trials = [trial(1, 20, 0.5), trial(2, 25, 0.9), trial(3, 26, 0.9), trial(4, 22, 0.4), trial(5, 21, 0.6)]
    assert numbers(trials) == [1, 5, 2]


def test_equals_are_both_on_the_front_and_what_failed_is_not():
    trials = [trial(1, 20, 0.5), trial(2, 20, 0.5), trial(3, 1, 1.0, "failed"), trial(4, math.nan, 1.0)]
    assert numbers([*trials, trial(5, metrics={"hand_error_mm": 1.0})]) == [1, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_best_in_each_is_on_the_front(points):
    trials = [trial(number, float(error), accuracy / 5) for number, (error, accuracy) in enumerate(points)]
    best = front.front(trials, front.PAIR)
    assert min(error for error, _ in points) == best[0].metrics["hand_error_mm"]
    assert max(accuracy for _, accuracy in points) / 5 == best[-1].metrics["action_accuracy"]


def test_a_search_with_one_objective_shows_both_ends_of_the_model():
    asked = Asked(**{**PLAIN, "name": "run"})
    assert front.objectives(asked, [trial(1)]) == ["hand_error_mm", "action_accuracy"]
    assert front.objectives(asked, [trial(1, metrics={"loss": 1.0})]) == []
