"""A trial's errors as its results, without Ray: what Tune does with them is tested in ``test_runner.py``."""

import math
import threading

import pytest

from htt.errors import DataError, StorageError
from tune import trial
from tune.trial import Job

JOB = Job(base={}, metric="loss", folder=None, storage="")


@pytest.fixture
def reported(monkeypatch):
    """What a trial reports; time passes at once."""
    found = []
    monkeypatch.setattr(trial.ray.tune, "report", found.append)
    monkeypatch.setattr("time.sleep", lambda pause_s: None)
    return found


def fail(error):
    with trial._errors_as_results(JOB) as seen:
        seen["epoch"] = 2
        raise error


def test_error_of_ours_is_the_last_result(reported):
    fail(DataError("no such clip"))
    assert [(each["epoch"], each["error"]) for each in reported] == [(2, "DataError: no such clip")]
    assert math.isnan(reported[0]["loss"])


def test_storage_error_that_no_driver_heeds_ends_the_trial_with_its_reason(reported):
    ended = []

    def run():
        with pytest.raises(StorageError, match="the disk is full"):
            fail(StorageError("the disk is full"))
        ended.append(True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, "the trial waits for ever"
    assert {each["error"] for each in reported} == {"StorageError: the disk is full"}
    assert len(reported) == 1 + trial.REPORTS


def test_storage_error_ends_within_a_report_when_the_run_is_ended_by_it(reported, monkeypatch):
    def report(result):
        reported.append(result)
        if len(reported) == 3:
            raise SystemExit  # as Ray ends a trial's thread

    monkeypatch.setattr(trial.ray.tune, "report", report)
    with pytest.raises(SystemExit):
        fail(StorageError("the disk is full"))
    assert len(reported) == 3
