"""What the best trial of a search is worth, and which trials cannot be told apart from it."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from report_folders import CLIPS, search_folder, write_clips
from tune.results import search_results
from tune.results.run_folder import RunFolder
from tune.results.selection import ranked


def results(folder):
    return search_results.read(folder, folder.record, folder.trials())


def test_best_has_an_interval_and_ties(tmp_path):
    folder = search_folder(tmp_path / "run", 30, clips=True, base_trial=12)
    found, order = results(folder), ranked(folder.trials(), "hand_error_mm")
    best = order[0].metrics["hand_error_mm"]
    assert found.best == order[0]
    assert found.low < best < found.high
    assert (found.clips, found.groups) == (CLIPS, CLIPS // 2)
    complete = [trial for trial in order[1:] if trial.state == "complete"]
    assert [each.trial for each in found.others] == complete, "those stopped early are compared with none"
    for each in found.others:
        assert each.difference == pytest.approx(each.trial.metrics["hand_error_mm"] - best)
        assert (each.low + each.high) / 2 == pytest.approx(each.difference)
    assert found.tied
    assert found.tied == complete[: len(found.tied)]
    assert len(found.tied) < len(complete)
    assert found.base.number == 12
    assert found.of_base.trial == found.base


def test_search_without_clips_has_a_best_without_interval(tmp_path):
    found = results(search_folder(tmp_path / "run", 10))
    assert np.isnan(found.low)
    assert found.others == ()
    assert found.base is None


def test_trial_of_other_clips_is_not_compared(tmp_path):
    folder = search_folder(tmp_path / "run", 10, clips=True)
    first = results(folder).others[0].trial
    file = folder.clips / f"{first.id}.parquet"
    pl.read_parquet(file).head(5).write_parquet(file)
    assert first not in [each.trial for each in results(folder).others]


def test_clips_of_a_cached_trial_are_those_of_its_origin(tmp_path):
    folder = search_folder(tmp_path / "run", 10, clips=True)
    best, *others = ranked(folder.trials(), "hand_error_mm")
    reused = dataclasses.replace(best, state="cached", taken_from="earlier/t77 (abc)")
    folder.write_trials([reused, *others])
    (folder.clips / f"{best.id}.parquet").unlink()
    assert np.isnan(results(folder).low)
    write_clips(tmp_path / "earlier", "t77", best.metrics["hand_error_mm"], 1)
    assert RunFolder(tmp_path / "earlier").clips.is_dir()
    assert results(folder).low < best.metrics["hand_error_mm"]


def test_several_objectives_have_no_single_best(tmp_path):
    assert results(search_folder(tmp_path / "run", 10, objectives=["hand_error_mm", "action_accuracy"])) is None
