import pytest

from cluster import progress
from htt import console
from htt.training.messages import Step

METRICS = {"epoch": 3.0, "hand_error_mm": 52.04, "action_accuracy": 0.5, "seconds": 90.0}


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def show(clock, display, *steps, every_s=20.0):
    for step in steps:
        clock[0] += every_s
        display.step(step)


def test_epoch_display_shows_progress_then_metrics_of_long_epoch(capsys, clock):
    with progress.EpochDisplay(45) as display:
        show(clock, display, Step(3, 100, 1000), Step(3, 300, 1000), Step(3, 500, 1000))
        display.epoch(METRICS)
        show(clock, display, Step(4, 100, 1000), Step(4, 200, 1000))
    assert capsys.readouterr().out.splitlines() == [
        "epoch 3/45: 300/1,000 windows, 10 windows/s, 1:10 left",
        "epoch 3/45: 500/1,000 windows, 10 windows/s, 0:50 left",
        "epoch 3/45  1:03:00 left  hand error 52.0 mm  action accuracy 50.0 %  90.0 s an epoch",
        "epoch 4/45: 200/1,000 windows, 5 windows/s, 2:40 left",
    ]


def test_epoch_display_restarts_progress_of_repeated_epoch(capsys, clock):
    with progress.EpochDisplay(45) as display:
        show(clock, display, Step(3, 100, 1000), Step(3, 500, 1000), Step(3, 300, 1000), Step(3, 400, 1000))
    assert capsys.readouterr().out.splitlines() == [
        "epoch 3/45: 500/1,000 windows, 20 windows/s, 0:25 left",
        "epoch 3/45: 400/1,000 windows, 5 windows/s, 2:00 left",
    ]


def test_epoch_display_shows_only_metrics_of_short_epoch(capsys):
    with progress.EpochDisplay(45) as display:
        display.epoch(METRICS)
    assert capsys.readouterr().out.splitlines() == [progress.epoch_line(METRICS, 45)]


def test_final_table_reports_missing_labels():
    assert progress.final_table({"epoch": 2.0}) == (
        "Final evaluation: the data have no validation or test clips with labels."
    )
