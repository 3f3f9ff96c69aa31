"""Rows are on disk the moment a trial ends, at a cost that does not grow, and are read as they were written."""

import math
from dataclasses import asdict, replace

import polars as pl
import pytest

from htt import json_lines
from htt.errors import RunError, StorageError
from tune.results.run_folder import SHARE, RunFolder, TrialWriter
from tune.results.trials import Trial


def trial(number, **changes):
    plain = {
        "id": f"t{number}", "number": number, "fingerprint": "f", "state": "complete", "epochs": 2,
        "seconds": 0.1 + 0.2, "finished_s": 1e-9 * number,
        "values": {"optim.lr": 0.1 + 0.2, "model.action.cues": ["hands"]},
        "metrics": {"hand_error_mm": 1 / 3}, "best": {"hand_error_mm": 1 / 3}, "curve": (1.0, 1 / 3),
        "curves": {"loss": (2.0, math.inf)},
    }  # fmt: skip
    return Trial(**{**plain, **changes})


def written(folder, trials):
    writer, done = TrialWriter(folder), {}
    for each in trials:
        done[each.id] = each
        writer.add(each, done.values())
    return writer


def test_writer_rows_are_complete_after_each_trial(tmp_path):
    folder, done = RunFolder(tmp_path), {}
    writer = TrialWriter(folder)
    for number in range(1, 60):
        done[number] = trial(number)
        writer.add(done[number], done.values())
        assert folder.trials() == list(done.values())
        table = pl.read_parquet(tmp_path / "trials.parquet")
        assert number - len(table) <= number / SHARE


def test_writer_writes_the_table_increasingly_rarely(tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(RunFolder, "write_trials", lambda _, trials: rows.append(len(trials)))
    written(RunFolder(tmp_path), [trial(number) for number in range(1, 2001)])
    assert sum(rows) < 2 * SHARE * 2000, "as many rows a trial, however many there are"


def test_writer_rows_keep_what_the_table_keeps(tmp_path):
    trials = [
        trial(1, state="failed", error="a\nb \u2028 c", metrics={"loss": math.nan}, best={}, curve=(math.nan,)),
        trial(2, variant="v", seed=3, data="d", taken_from="r/t", violation="x", instead_of=("t0",)),
    ]
    written(RunFolder(tmp_path / "table"), trials)
    folder = RunFolder(tmp_path / "lines")
    (tmp_path / "lines").mkdir()
    written(folder, [trial(number) for number in range(10, 100)])
    written(folder, trials)
    by_id = {each.id: each for each in folder.trials()}
    for one in RunFolder(tmp_path / "table").trials():
        assert repr(by_id[one.id]) == repr(one)


def test_writer_replaces_a_row(tmp_path):
    folder = RunFolder(tmp_path)
    many = [trial(number) for number in range(1, 41)]
    writer = written(folder, many)
    again = trial(7, id="t7-2", instead_of=("t7",))
    writer.add(again, [*many[:6], *many[7:], again])
    assert [each.id for each in folder.trials()] == [
        *(f"t{n}" for n in range(1, 7)),
        "t7-2",
        *(f"t{n}" for n in range(8, 41)),
    ]
    resumed = trial(3, state="pruned")
    writer.add(resumed, many)
    assert folder.trials()[2] == resumed


def test_writer_drops_a_truncated_line(tmp_path):
    folder = RunFolder(tmp_path)
    many = [trial(number) for number in range(1, 38)]
    written(folder, many)
    assert len(folder.appended.read_text().splitlines()) >= 2
    folder.appended.write_text(folder.appended.read_text()[:-20])
    assert folder.trials() == many[:-1]
    TrialWriter(folder).add(many[-1], many)
    assert folder.trials() == many


def test_writer_keeps_whole_lines_on_a_full_disk(tmp_path):
    folder = RunFolder(tmp_path)
    many = [trial(number) for number in range(1, 41)]
    writer = written(folder, many[:-1])
    folder.appended.unlink(missing_ok=True)
    folder.appended.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full"):
        writer.add(many[-1], many)


def test_run_folder_names_lines_that_are_no_trials(tmp_path):
    folder = RunFolder(tmp_path)
    folder.appended.write_text('{"id": 1}\n')
    with pytest.raises(RunError, match=r"Cannot read .*trials\.jsonl, the newest trials"):
        folder.trials()


def test_constraint_violation_of_an_old_run_is_read(tmp_path):
    folder, one = RunFolder(tmp_path), trial(1, violation="parameters 3.0 M > 2.0 M")
    folder.write_trials([one])
    table = tmp_path / "trials.parquet"
    pl.read_parquet(table).rename({"violation": "breaks"}).write_parquet(table)
    assert folder.trials() == [one]
    json_lines.append(folder.appended, asdict(trial(2, violation="x")))
    folder.appended.write_text(folder.appended.read_text().replace('"violation"', '"breaks"'))
    assert folder.trials() == [one, trial(2, violation="x")]


@pytest.mark.parametrize(("before", "state"), [("reused", "cached"), ("refused", "infeasible")])
def test_state_of_an_old_run_is_read(tmp_path, before, state):
    folder = RunFolder(tmp_path)
    folder.write_trials([replace(trial(1), state=before)])
    json_lines.append(folder.appended, asdict(replace(trial(2), state=before)))
    assert [each.state for each in folder.trials()] == [state, state]
