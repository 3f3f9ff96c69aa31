"""A final training with ``--workers 1:3``: a host goes without a word, and comes back."""

import json
import re

import pytest

from htt.testing import TINY

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.slow]

CHANGED = {
    "train.batch_size": 3,
    "train.epochs": 1000,
    "train.windows_per_epoch": 300,
    "data.synthetic.train_clips": 40,
}
"""More epochs than it takes to lose a host and to have it back."""
RUNTIME = {"runtime.resize_minutes": 0.1}
SET = " ".join(f"--set {path}={str(value).lower()}" for path, value in {**TINY, **CHANGED, **RUNTIME}.items())


def test_a_training_goes_on_without_a_host_and_takes_it_in_again(cluster, tmp_path):
    name = "elastic"
    words = f"cluster/launch.py --preset quick --workers 1:3 --runs /mnt/shared/runs --name {name} {SET}"
    file = cluster.shared / "runs" / name / "metrics.json"
    job = cluster.start(words, tmp_path / "job")
    job.wait_for(lambda: epochs(file) >= 3)
    cluster.hosts.kill("node1")
    job.wait_for(lambda: len(starts(job)) == 2)
    cluster.hosts.start("node1")
    job.wait_for(lambda: len(starts(job)) == 3)
    reached = starts(job)[-1][0]
    job.wait_for(lambda: epochs(file) > reached)
    cluster.type(f"ray job stop {re.search('raysubmit_[^ ]+', job.said())[0].strip(chr(39))}")
    assert [workers for *_, workers in starts(job)] == [3, 2, 3]
    assert starts(job)[0][:2] == (1, "with")
    kept = [epoch["epoch"] for epoch in json.loads(file.read_text())["epochs"]]
    assert kept == list(range(1, len(kept) + 1))
    shown = [int(epoch) for epoch in re.findall(r"^epoch (\d+)/", job.said(), re.MULTILINE)]
    assert sorted(set(shown)) == list(range(1, max(shown) + 1))
    assert len(shown) - len(set(shown)) <= 2, "an epoch at most is repeated for each change"


def epochs(file):
    """How many are done."""
    return len(json.loads(file.read_text())["epochs"]) if file.exists() else 0


def starts(job):
    """(epoch, "with" its beginning or "within" it, workers) of each time that workers began or went on."""
    found = re.findall(r"^(?:Beginning|Going on) (with|within) epoch (\d+), on (\d) workers", job.said(), re.MULTILINE)
    return [(int(epoch), place, int(workers)) for place, epoch, workers in found]
