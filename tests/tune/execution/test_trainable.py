"""What a trial passes on to Tune, without Ray: what Tune does with it is tested in ``test_runner.py``."""

import dataclasses
import math
import threading
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Experiment
from ray.tune.integration import ray_train

from htt.errors import DataError, StorageError
from tune.execution import trainable
from tune.execution.trainable import ERROR, Job, complete_reports, lacks

JOB = Job(base={}, metric="loss", folder=None, storage="")


@pytest.fixture
def reported(monkeypatch):
    """What a trial reports; time passes at once."""
    found = []
    monkeypatch.setattr(trainable.ray.tune, "report", found.append)
    monkeypatch.setattr("time.sleep", lambda pause_s: None)
    return found


def fail(error):
    with trainable._errors_as_results(JOB) as seen:
        seen["epoch"] = 2
        raise error


def test_project_error_is_the_last_result(reported):
    fail(DataError("no such clip"))
    assert [(each["epoch"], each["error"]) for each in reported] == [(2, "DataError: no such clip")]
    assert math.isnan(reported[0]["loss"])


def test_unhandled_storage_error_ends_the_trial(reported):
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
    assert len(reported) == 1 + trainable.REPORTS


def test_storage_error_ends_with_the_run_within_a_report(reported, monkeypatch):
    def report(result):
        reported.append(result)
        if len(reported) == 3:
            raise SystemExit  # as Ray ends a trial's thread

    monkeypatch.setattr(trainable.ray.tune, "report", report)
    with pytest.raises(SystemExit):
        fail(StorageError("the disk is full"))
    assert len(reported) == 3


def test_function_name_is_that_of_old_saved_states():
    training = trainable.TrialFunctions(*[lambda *_: None] * 3)
    for workers, name in ((1, "alone"), (2, "group")):
        function = trainable.trainable(dataclasses.replace(JOB, workers=workers), training)
        assert Experiment.get_trainable_name(function) == name


def job(*needed):
    return Job(base={}, metric="hand_error_mm", folder=None, storage="runs", needed=needed)


@pytest.fixture
def passed(monkeypatch):
    """What a callback of a trial's Ray Train run gives to Tune."""
    told = []
    queue = SimpleNamespace(put=told.append)
    monkeypatch.setattr(ray_train, "_in_tune_session", lambda: True)
    monkeypatch.setattr(
        ray_train, "get_session", lambda: SimpleNamespace(_get_or_create_inter_actor_queue=lambda: queue)
    )
    return told


def test_epoch_with_all_metrics_is_passed_on_unchanged(passed):
    complete_reports(job("hand_error_mm")).after_report(None, [{"epoch": 1, "hand_error_mm": 20.0}], None)
    assert passed == [{"epoch": 1, "hand_error_mm": 20.0}]


def test_epoch_without_a_metric_and_later_ones_are_failed(passed):
    """Tune ends the whole search for a result without the metric it selects by."""
    report = complete_reports(job("hand_error_mm", "action_accuracy"))
    for metrics in ({"epoch": 1, "hand_error_mm": 20.0, "loss": 1.0}, {"epoch": 2, "hand_error_mm": 19.0}):
        report.after_report(None, [metrics], None)
    said = (
        "TrainingError: Expected action_accuracy in each epoch, because the run selects by it; got loss, hand_error_mm."
    )
    assert [one[ERROR] for one in passed] == [said] * 2
    assert all(math.isnan(one["hand_error_mm"]) for one in passed)


def test_costs_are_not_required_of_every_epoch():
    assert lacks(job("hand_error_mm", "latency_ms"), {"hand_error_mm": 20.0}) is None
    assert lacks(job("hand_error_mm"), {"latency_ms": 1.0}).endswith("got none.")
