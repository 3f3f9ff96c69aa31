"""What a trial passes on to Tune."""

import math
from types import SimpleNamespace

import pytest
from ray.tune.integration import ray_train

from tune.trial import ERROR, Job, complete_reports, lacks


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


def test_epoch_that_has_all_metrics_is_passed_on_as_it_is(passed):
    complete_reports(job("hand_error_mm")).after_report(None, [{"epoch": 1, "hand_error_mm": 20.0}], None)
    assert passed == [{"epoch": 1, "hand_error_mm": 20.0}]


def test_epoch_without_a_metric_and_all_after_it_are_passed_on_as_failed(passed):
    """Tune ends the whole search for a result without the metric it selects by."""
    report = complete_reports(job("hand_error_mm", "action_accuracy"))
    for metrics in ({"epoch": 1, "hand_error_mm": 20.0, "loss": 1.0}, {"epoch": 2, "hand_error_mm": 19.0}):
        report.after_report(None, [metrics], None)
    said = "TrainingError: an epoch must give action_accuracy, which the run selects by; it gave loss, hand_error_mm"
    assert [one[ERROR] for one in passed] == [said] * 2
    assert all(math.isnan(one["hand_error_mm"]) for one in passed)


def test_costs_are_not_asked_of_every_epoch():
    assert lacks(job("hand_error_mm", "latency_ms"), {"hand_error_mm": 20.0}) is None
    assert lacks(job("hand_error_mm"), {"latency_ms": 1.0}).endswith("it gave none")
