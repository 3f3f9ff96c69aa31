import random

import optuna
import pytest

from report_folders import DOMAINS, search_folder, trial
from tune.reports.figures.axes import axes
from tune.reports.importance import FEWEST, importance, intervals
from tune.results.selection import ranked


def shares(folder, metric="hand_error_mm"):
    order = ranked(folder.trials(), metric)
    return importance(order, axes(folder.record, order), metric)


@pytest.mark.parametrize("metric", ["hand_error_mm", "action_accuracy"])
def test_the_path_that_decides_is_found_whichever_way_is_better(tmp_path, metric):
    found = shares(search_folder(tmp_path / "run", 60), metric)
    assert next(iter(found)) == "optim.lr"
    assert found["optim.lr"] > 0.6
    assert sum(found.values()) == pytest.approx(1.0)
    assert set(found) == set(DOMAINS)


def test_too_few_trials_say_nothing(tmp_path):
    assert shares(search_folder(tmp_path / "few", 11)) is None  # every fifth fails: 9 are left
    assert shares(search_folder(tmp_path / "enough", 12)) is not None
    assert FEWEST == 10


def spans(folder, found):
    order = ranked(folder.trials(), "hand_error_mm")
    return intervals(order, axes(folder.record, order), "hand_error_mm", found)


def test_intervals_show_that_few_trials_tell_little(tmp_path):
    few, many = search_folder(tmp_path / "few", 12), search_folder(tmp_path / "many", 100)
    found = shares(many)
    of_few, of_many = spans(few, shares(few)), spans(many, found)
    low, high = of_many["optim.lr"]
    assert low > max(high for path, (_, high) in of_many.items() if path != "optim.lr")
    assert 0 <= low <= high <= 1
    assert of_few["optim.lr"][1] - of_few["optim.lr"][0] > high - low


def test_lists_and_none_are_values_and_a_path_that_never_varied_is_left_out(tmp_path):
    source = random.Random(0)
    folder = search_folder(tmp_path / "run", 1, domains={"a": "one of ['x'], None", "b": "one of 1, 2"})
    trials = []
    for number in range(40):
        chosen = source.choice([["x"], None])
        trials.append(trial(number, 10.0 + (chosen is None) + source.random() / 10, values={"a": chosen, "b": 1}))
    assert list(importance(trials, axes(folder.record, trials), "hand_error_mm")) == ["a"]


def test_optunas_own_logging_is_as_it_was(tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    shares(search_folder(tmp_path / "run", 30))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""
