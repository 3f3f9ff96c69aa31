"""Trials that the scheduler stops leave nothing: no placement group, no actor, no file handle, no memory."""

import json
from collections import Counter

import pytest

from driven import ended

pytestmark = pytest.mark.ray

MEMORY_MB = 200.0


def stopped_trials(driver, folder, trials, concurrent, seconds):
    """What a search of Ray Train trials leaves, of which all but the first few are stopped after an epoch."""
    process = driver(trials, concurrent, folder / "found", script="leak_driver.py")
    ended(process, folder, 0, seconds)
    found = json.loads((folder / "found").read_text())
    assert len(found["ended"]) == trials
    stopped = [trial for trial in found["ended"] if trial["trial"] > concurrent]
    assert {(trial["state"], trial["epochs"]) for trial in stopped} == {("pruned", 1)}
    return found


def check_nothing_left(found):
    assert found["left"] == {"actors": [], "groups": []}
    first, second, last = *found["ended"][:2], found["ended"][-1]
    more = Counter(last["handles"]) - (Counter(first["handles"]) | Counter(second["handles"]))
    assert not more, "beyond what the first two trials held"
    assert last["memory_mb"] - second["memory_mb"] < MEMORY_MB


@pytest.mark.slow
def test_few_stopped_trials_of_several_workers_leak_nothing(driver, tmp_path):
    check_nothing_left(stopped_trials(driver, tmp_path, trials=4, concurrent=2, seconds=300))


@pytest.mark.slow
def test_fifty_stopped_trials_of_several_workers_leak_nothing(driver, tmp_path):
    check_nothing_left(stopped_trials(driver, tmp_path, trials=50, concurrent=2, seconds=3000))
