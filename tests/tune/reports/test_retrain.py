"""The numbers of a retraining against hand-computed ones, and what is said of them."""

import csv
import dataclasses
import io
import json
import math

import pytest

from readable import assert_readable
from retrained_folders import FINALS, asked, end, ended
from tune.execution import retrain_progress
from tune.reports import retrain as retrain_report
from tune.reports.figures import retrain

T2 = 4.302652729911275
"""Student's t of two degrees of freedom at 97.5 %."""


@pytest.fixture
def found(tmp_path):
    return ended(tmp_path / "run")


def test_summary_by_hand(found):
    mean = retrain_report.summary(found, "validation", "hand_error_mm")
    assert (mean.mean, mean.deviation, mean.n) == (82.0, 2.0, 3)
    assert (mean.low, mean.high) == pytest.approx((82 - T2 * 2 / math.sqrt(3), 82 + T2 * 2 / math.sqrt(3)))
    test = retrain_report.summary(found, "test", "hand_error_mm")
    assert (test.mean, test.deviation) == (94.0, 4.0)
    assert retrain_report.summary(found, "validation", "action_accuracy").deviation == 0.25


@pytest.mark.usefixtures("undrawn")
def test_incomplete_data_are_in_report_and_on_screen(found, capsys):
    """What a seed's final training noted of its data."""
    said = "Incomplete data: split 'test' has 1 of 575 clips and 85 of 50,000 frames"
    for seed in found.seeds[:2]:
        file = found.folder(seed) / "metrics.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "incomplete": [said]}))
    retrain_report.write(found)
    assert (found.path / "report.md").read_text().count(f"**{said}**") == 1
    retrain_progress.show(found)
    shown = capsys.readouterr()
    assert said in shown.err
    checkpoint = found.folder(1) / "checkpoint"
    assert f"Next:\n  python -m htt.evaluate --checkpoint {checkpoint} --split test\n" in shown.out


def test_picked_trial_is_not_called_the_best(found):
    picked = dataclasses.replace(found, found_by={**found.found_by, "objectives": {"hand_error_mm": 20.0}})
    assert "in the search, picked from the front of 12 trials, with one seed." in retrain_report.in_short(picked)[0]
    assert "in the search, the best of 12 trials, with one seed." in retrain_report.in_short(found)[0]


@pytest.mark.usefixtures("undrawn")
def test_csv_has_unrounded_numbers(found):
    retrain_report.write(found)
    lines = list(csv.DictReader(io.StringIO((found.path / "retrain.csv").read_text())))
    assert tuple(lines[0]) == retrain_report.COLUMNS
    first = next(one for one in lines if (one["split"], one["metric"]) == ("validation", "hand_error_mm"))
    assert (float(first["mean"]), float(first["deviation"]), first["seeds"]) == (82.0, 2.0, "3")
    assert float(first["searched"]) == found.searched["hand_error_mm"]
    test = next(one for one in lines if one["split"] == "test")
    assert (float(test["mean"]), test["searched"]) == (94.0, ""), "the search never looked at the test split"
    seeds = list(csv.DictReader(io.StringIO((found.path / "seeds.csv").read_text())))
    assert [(one["seed"], float(one["value"])) for one in seeds if one["split"] == "test"] == [
        (str(seed), values[2]) for seed, values in FINALS.items()
    ]
    assert len(seeds) == 3 * 3


def test_search_value_is_shown_and_called_optimistic(found):
    retrain_report.write(found)
    said = (found.path / "report.md").read_text()
    searched = found.found_by["value"]
    assert f"Hand error: {searched:.1f} mm in the search, the best of 12 trials, with one seed." in said
    gap = f"+{82 - searched:.1f} mm to the search's number"
    assert f"82.0 mm on the same validation clips over 3 fresh seeds (95 % interval 77.0 to 87.0 mm; {gap})" in said
    assert "Hand error: 94.0 mm on the test split (95 % interval 84.1 to 103.9 mm)." in said
    assert "is optimistic: it was selected from many" in said
    assert (
        f"| Hand error | {searched:.1f} mm | 82.0 mm | 77.0 to 87.0 mm | 2.00 mm | 94.0 mm | 84.1 to 103.9 mm" in said
    )
    assert "| 2 | 82.0 mm | 94.0 mm | 25.0 % |" in said
    assert "Incomplete" not in said
    page = (found.path / "report.html").read_text()
    assert '<figure id="seeds">' in page
    assert (found.path / "seeds.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("undrawn")
def test_pruned_trial_is_named_as_such(tmp_path):
    found = ended(tmp_path / "run")
    assert found.config.train.epochs > found.found_by["epoch"]
    retrain_report.write(found)
    assert (
        f"stopped this trial after {found.found_by['epoch']} epochs; the fresh trainings took all 45"
        in (found.path / "report.md").read_text()
    )


@pytest.mark.usefixtures("undrawn")
def test_failed_seeds_are_stated(tmp_path):
    found = asked(tmp_path / "run")
    end(found, 1)
    end(found, 3)
    found = dataclasses.replace(found, failed={2: "NonFiniteLossError: loss_action became NaN"})
    retrain_report.write(found)
    said = (found.path / "report.md").read_text()
    assert "> **Incomplete:** 2 of 3 trainings are complete. Failed seeds are a property of" in said
    assert "- seed 2: NonFiniteLossError: loss_action became NaN" in said
    assert "82.0 mm on the same validation clips over 2 fresh seeds" in said


def test_report_without_finished_seeds_lists_the_missing(tmp_path):
    found = asked(tmp_path / "run")
    retrain_report.write(found)
    said = (found.path / "report.md").read_text()
    assert "0 of 3 trainings" in said
    assert "In short" not in said


@pytest.mark.usefixtures("undrawn")
def test_missing_test_split_is_stated(tmp_path):
    found = ended(tmp_path / "run", test=False)
    retrain_report.write(found)
    said = (found.path / "report.md").read_text()
    assert "The data have no test split" in said
    assert "Test mean" not in said


def test_one_seed_has_a_mean_and_no_interval(tmp_path):
    found = asked(tmp_path / "run")
    end(found, 2)
    retrain_report.write(found)
    assert "| 82.0 mm | – | – | 94.0 mm | – | – |" in (found.path / "report.md").read_text()


def test_figure_has_dots_for_seeds_and_a_star_for_the_search(found):
    figure = retrain.seeds(found, ["hand_error_mm", "action_accuracy"])
    assert_readable(figure)
    error, accuracy = figure.axes
    dots = [list(line.get_xdata()) for line in error.lines if line.get_marker() == "o"]
    assert dots == [[80.0, 82.0, 84.0], [90.0, 94.0, 98.0]]
    assert [list(line.get_xdata()) for line in accuracy.lines if line.get_marker() == "o"] == [[50.0, 25.0, 75.0]]
    (star,) = [line for line in error.lines if line.get_marker() == "*"]
    assert star.get_xdata()[0] == found.searched["hand_error_mm"]


def test_screen_shows_both_splits_and_model_folders(found, capsys, monkeypatch):
    monkeypatch.chdir(found.path.parent.parent)
    retrain_progress.show(dataclasses.replace(found, failed={9: "TrainingError: lost"}))
    said = capsys.readouterr().out
    assert "82.0 mm" in said
    assert "94.0 mm" in said
    assert "the best of many and so optimistic" in said
    assert "Failed: seed 9: TrainingError: lost" in said
    assert "run/retrain/seed-1/checkpoint" in said
