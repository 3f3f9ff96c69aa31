"""A final training with ``--workers 1:3``: a host goes, without a word or with a notice, and comes back."""

import json
import re

import pytest

from hosts import ROOT
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
LONG_EPOCHS = {
    "train.windows_per_epoch": "null",
    "data.synthetic.train_clips": 80,
    "data.shifted_starts": True,
    "model.backbone.name": "resnet18",
    "runtime.save_minutes": "null",
}
"""A hundred steps of a large encoder, a minute and more; nothing but a notice saves within it."""
NOTICE = ". ~/.htt/environment && python -c 'from cluster.preemption import drain; drain(60)'"
"""What ``python -m cluster.preemption`` does once the cloud has said so."""


def test_training_survives_a_lost_host_and_readmits_it(cluster, tmp_path):
    job, file = start(cluster, "elastic", tmp_path / "job")
    job.wait_for(lambda: epochs(file) >= 3)
    cluster.hosts.kill("node1")
    job.wait_for(lambda: len(starts(job)) == 2)
    cluster.hosts.start("node1")
    job.wait_for(lambda: len(starts(job)) == 3)
    reached = starts(job)[-1][0]
    job.wait_for(lambda: epochs(file) > reached)
    stop(cluster, job)
    assert [workers for *_, workers in starts(job)] == [3, 2, 3]
    assert starts(job)[0][:2] == (1, "at")
    kept = [epoch["epoch"] for epoch in json.loads(file.read_text())["epochs"]]
    assert kept == list(range(1, len(kept) + 1))
    shown = [int(epoch) for epoch in re.findall(r"^epoch (\d+)/", job.said(), re.MULTILINE)]
    assert sorted(set(shown)) == list(range(1, max(shown) + 1))
    assert len(shown) - len(set(shown)) <= 2, "an epoch at most is repeated for each change"


def test_preemption_notice_saves_and_resumes_training(cluster, tmp_path):
    job, file = start(cluster, "noticed", tmp_path / "job", LONG_EPOCHS)
    job.wait_for(lambda: len(starts(job)) == 1)
    cluster.hosts.run("node2", NOTICE, cwd=ROOT)
    job.wait_for(lambda: list(file.parent.glob("*-train/checkpoint_manager_snapshot.json")), seconds=60)  # Ray's note
    cluster.hosts.kill("node2")
    job.wait_for(lambda: len(starts(job)) == 2)
    stop(cluster, job)
    assert starts(job) == [(1, "at", 3), (1, "within", 2)]
    assert not file.exists(), "no epoch was over"


def start(cluster, name, output, changed=None):
    """A job with a final training, and where its epochs are noted."""
    values = {**TINY, **CHANGED, **RUNTIME, **(changed or {})}
    sets = " ".join(f"--set {path}={str(value).lower()}" for path, value in values.items())
    words = f"cluster/launch.py --preset quick --workers 1:3 --runs /mnt/shared/runs --name {name} {sets}"
    return cluster.start(words, output), cluster.shared / "runs" / name / "metrics.json"


def stop(cluster, job):
    """End a job that was started."""
    cluster.type(f"ray job stop {re.search('raysubmit_[^ ]+', job.said())[0].strip(chr(39))}")


def epochs(file):
    """How many are done."""
    return len(json.loads(file.read_text())["epochs"]) if file.exists() else 0


def starts(job):
    """(epoch, "at" its beginning or "within" it, workers) of each time that workers began or went on."""
    found = re.findall(r"^(?:Starting|Resuming) (at|within) epoch (\d+) on (\d) workers", job.said(), re.MULTILINE)
    return [(int(epoch), place, int(workers)) for place, epoch, workers in found]
