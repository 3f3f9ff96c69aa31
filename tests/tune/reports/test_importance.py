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
def test_importance_finds_the_deciding_path_in_either_direction(tmp_path, metric):
    found = shares(search_folder(tmp_path / "run", 60), metric)
    assert next(iter(found)) == "optim.lr"
    assert found["optim.lr"] > 0.6
    assert sum(found.values()) == pytest.approx(1.0)
    assert set(found) == set(DOMAINS)


def test_importance_needs_enough_trials(tmp_path):
    assert shares(search_folder(tmp_path / "few", 11)) is None  # every fifth fails: 9 are left
    assert shares(search_folder(tmp_path / "enough", 12)) is not None
    assert FEWEST == 10


def spans(folder, found):
    order = ranked(folder.trials(), "hand_error_mm")
    return intervals(order, axes(folder.record, order), "hand_error_mm", found)


def test_importance_intervals_are_wide_for_few_trials(tmp_path):
    few, many = search_folder(tmp_path / "few", 12), search_folder(tmp_path / "many", 100)
    found = shares(many)
    of_few, of_many = spans(few, shares(few)), spans(many, found)
    low, high = of_many["optim.lr"]
    assert low > max(high for path, (_, high) in of_many.items() if path != "optim.lr")
    assert 0 <= low <= high <= 1
    assert of_few["optim.lr"][1] - of_few["optim.lr"][0] > high - low


def test_importance_accepts_lists_and_none_and_omits_constants(tmp_path):
    source = random.Random(0)
    folder = search_folder(tmp_path / "run", 1, domains={"a": "one of ['x'], None", "b": "one of 1, 2"})
    trials = []
    for number in range(40):
        chosen = source.choice([["x"], None])
        trials.append(trial(number, 10.0 + (chosen is None) + source.random() / 10, values={"a": chosen, "b": 1}))
    assert list(importance(trials, axes(folder.record, trials), "hand_error_mm")) == ["a"]


def test_importance_restores_optunas_logging(tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    shares(search_folder(tmp_path / "run", 30))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""
