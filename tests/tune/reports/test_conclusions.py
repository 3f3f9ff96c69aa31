"""What the end of a search says, and what it tells the user to do."""

import dataclasses
import math
import shlex

import pytest

from report_folders import search_folder, trial
from tune.reports import conclusions
from tune.results import search_results
from tune.results.search_results import Compared, SearchResults
from tune.results.selection import ranked

METRIC = "hand_error_mm"


def compared(number, low, high):
    return Compared(trial(number, 20.0 + (low + high) / 2), (low + high) / 2, low, high)


def step(tmp_path, found, count=30, **changes):
    """Return what to do next after a search of ``count`` trials, the first of which is the best."""
    folder = search_folder(tmp_path / "my run", 1, **changes)
    order = [found.best, *(trial(number, 21.0 + number) for number in range(2, count + 1))]
    why, command = conclusions.next_step(folder, folder.record, order, found)
    return why, shlex.split(command)


BEST = trial(1)
CLEAR, TIE = compared(2, 1.0, 3.0), compared(3, -1.0, 2.0)


@pytest.mark.parametrize(
    ("found", "count", "why", "script"),
    [
        (SearchResults(METRIC, BEST, BEST), 30, "More trials, or a wider space: no trial beat", "tune/search.py"),
        (SearchResults(METRIC, BEST, TIE.trial, others=[TIE]), 30, "More trials: the best cannot", "tune/search.py"),
        (SearchResults(METRIC, BEST, None, others=[CLEAR]), 19, "More trials: only 19 trials gave", "tune/search.py"),
        (
            SearchResults(METRIC, trial(40), None, others=[CLEAR]),
            30,
            "More trials: the best is among",
            "tune/search.py",
        ),
        (
            SearchResults(METRIC, BEST, CLEAR.trial, others=[CLEAR, TIE]),
            30,
            "More seeds: 1 other trial",
            "tune/best.py",
        ),
        (SearchResults(METRIC, BEST, None), 30, "More seeds: they show", "tune/best.py"),
        (SearchResults(METRIC, BEST, None, others=[CLEAR]), 30, "The final training", "cluster/launch.py"),
    ],
)
def test_next_step_follows_from_the_results(tmp_path, found, count, why, script):
    said, command = step(tmp_path, found, count)
    assert said.startswith(why)
    assert command[:2] == ["python", script]
    assert str(tmp_path / "my run") in " ".join(command)


def test_next_step_doubles_the_limit_of_the_search(tmp_path):
    found = SearchResults(METRIC, BEST, BEST)
    assert step(tmp_path / "a", found, trials=40)[1][-2:] == ["--trials", "80"]
    assert step(tmp_path / "b", found, trials=None, time_budget_s=420.0)[1][-2:] == ["--time-budget", "7m"]


def test_sentences_name_interval_base_baselines_and_ties(tmp_path):
    folder = search_folder(tmp_path / "run", 30, clips=True, base_trial=12)
    found = search_results.read(folder, folder.record, folder.trials())
    best, base, floor, ties, _ = conclusions.sentences(found, {METRIC: 144.9, "action_accuracy": 1 / 36})
    assert best == (
        "Best: trial 19, hand error 22.4 mm, 95 % interval 21.2 to 23.6 mm over 12 clips in 6 groups of the validation "
        "split."
    )
    assert base.startswith("The base configuration, trial 12, has 27.6 mm, +5.24 mm from the best (95 % interval +")
    assert floor == (
        "Without the images: hand error 144.9 mm (the mean pose of the training clips), action accuracy 2.8 % (chance)."
    )
    assert ties.startswith("2 of 18 other complete trials cannot be told apart from it (trials 1, 2): ")
    guessed = conclusions.sentences(found, {"action_accuracy": 1 / 36})[2]
    assert guessed == "By guessing: action accuracy 2.8 % (chance).", "also right if the trials see no images"


def test_sentences_name_a_tied_trial_that_is_better_in_the_other_metric(tmp_path):
    folder = search_folder(tmp_path / "run", 30, clips=True)
    found = search_results.read(folder, folder.record, folder.trials())
    assert [round(each.metrics["action_accuracy"], 3) for each in (found.best, *found.tied)] == [0.801, 0.718, 0.845]
    assert conclusions.sentences(found, {})[-1] == (
        "Of these, trial 2 has the highest action accuracy, 84.5 %; the best trial has 80.1 %, each with one seed. "
        "tune/best.py --pick knee --retrain-seeds 5 measures a balance of both metrics with new seeds."
    )


@pytest.mark.parametrize(
    ("metric", "best", "tied"),
    [(METRIC, 0.8, 0.8), (METRIC, 0.8, 0.7), (METRIC, math.nan, math.nan), (METRIC, None, 0.7), ("loss", 0.7, 0.8)],
)
def test_sentences_name_no_tied_trial_that_is_not_better(metric, best, tied):
    def with_accuracy(trial, accuracy):
        known = {} if accuracy is None else {"action_accuracy": accuracy}
        return dataclasses.replace(trial, metrics={METRIC: 20.0, "loss": 1.0, **known})

    other = dataclasses.replace(TIE, trial=with_accuracy(trial(1), tied))
    found = SearchResults(metric, with_accuracy(trial(3), best), None, others=[other])
    assert not any(line.startswith("Of these") for line in conclusions.sentences(found, {}))


def test_sentences_without_clips_claim_nothing(tmp_path):
    folder = search_folder(tmp_path / "run", 10)
    found = search_results.read(folder, folder.record, folder.trials())
    assert conclusions.sentences(found, {}) == [
        f"Best: trial {found.best.number}, hand error {found.best.metrics[METRIC]:.1f} mm.",
        "No trial has the base configuration: it is outside the space, or gave no value.",
    ]


def test_sentences_state_a_base_that_is_best_or_tied(tmp_path):
    folder = search_folder(tmp_path / "run", 30, clips=True, base_trial=19)
    found = search_results.read(folder, folder.record, folder.trials())
    assert conclusions.sentences(found, {})[1] == "The best trial is the base configuration itself: no trial beat it."
    tied = dataclasses.replace(found, base=found.tied[0])
    assert conclusions.sentences(tied, {})[1].endswith("it cannot be told apart from the best.")
    assert ranked(folder.trials(), METRIC)[0] == found.base


def test_sentences_state_that_no_other_trial_is_as_good():
    *_, ties = conclusions.sentences(SearchResults(METRIC, BEST, None, others=[CLEAR]), {})
    assert ties.startswith(
        "Of 1 other complete trial, none is as good: the 95 % interval of the difference, clip by clip,"
    )
    assert "excludes zero" in ties
